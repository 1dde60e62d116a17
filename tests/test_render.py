"""Rendering: stable bytes, unknown names refused, a failure that leaves earlier results alone."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.errors import UserError
from lib.reporting.render import normalise, parameters, render

NOISY = """
import sys, warnings
from tqdm import tqdm
for _ in tqdm(range(3)):
    print("out", flush=True)
    print("err", file=sys.stderr, flush=True)
for _ in tqdm(range(3), disable=False):
    pass
warnings.warn("careful")
"""
OBJECTS = "display(object()); print(object(), lambda: 0); {str(i) for i in range(20)}"
STYLED = "import pandas as pd; pd.DataFrame({'share': [0.5]}).style.set_caption(f'n = {n}')"
PLOT = "import matplotlib.pyplot as plt; plt.plot([1, n]);"


def write(path, *sources, declare="profile: str = 'none'  # settings\nn: int = 1  # items"):
    cells = [new_markdown_cell("# Title"), new_code_cell(declare, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture
def site(tmp_path):
    """Two notebooks and the profile `smoke`; the keyword arguments of `render` that keep it in tmp_path."""
    for folder in ("notebooks", "params", "results"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "notebooks/good.ipynb", NOISY, OBJECTS, STYLED, PLOT, "print('n is', n, profile)")
    write(tmp_path / "notebooks/other.ipynb", declare="profile: str = 'none'\nwide: bool = False")
    (tmp_path / "params/smoke.yaml").write_text("common: {n: 2, wide: true}\ngood: {n: 7}\n")
    (tmp_path / "params/laptop.yaml").write_text("")
    return {"results": tmp_path / "results", "params_dir": tmp_path / "params", "build": tmp_path / "build"}


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_executions_give_the_same_bytes(site, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # a user's setting does not reach the kernel
    notebook = tmp_path / "notebooks/good.ipynb"
    source = notebook.read_bytes()
    target = render(notebook, "smoke", **site)
    assert target == site["results"] / "smoke/good"
    first = files(site["results"])
    assert {str(path) for path in first} == {"smoke/good/good.ipynb", "smoke/good/good.html"}
    assert not files(site["build"])
    render(notebook, "smoke", **site)
    assert files(site["results"]) == first
    assert notebook.read_bytes() == source

    node = nbformat.read(target / "good.ipynb", as_version=4)
    assert normalise(node) == node
    nbformat.validate(node)
    text = (target / "good.ipynb").read_text()
    for gone in ("duration", "start_time", " at 0x", "it/s", "exception", str(tmp_path), "ipykernel_"):
        assert gone not in text, gone
    assert "n is 7 smoke" in text and "n = 7" in text and "image/png" in text and "careful" in text
    noisy = [cell for cell in node.cells if "warnings" in cell.source][0]
    assert [output.name for output in noisy.outputs] == ["stdout", "stderr"]
    page = (target / "good.html").read_text()
    assert "n is 7 smoke" in page and "data:image/png" in page and "import pandas" not in page


def test_a_new_result_takes_the_place_of_the_whole_folder(site, tmp_path):
    """What the notebook wrote comes along, what an earlier one left goes, and a kill between the moves is mended."""
    folder, out = site["results"] / "smoke/other", tmp_path / "out"
    (folder.parent / ".other.old").mkdir(parents=True)
    (folder.parent / ".other.old/summary.csv").write_text("killed between the moves")
    for text in ("one", "two"):
        out.mkdir()
        (out / "summary.csv").write_text(text)
        render(tmp_path / "notebooks/other.ipynb", "smoke", out=out, **site)
        (folder / "left.csv").write_text("of an earlier version") if text == "one" else None
        out.rmdir()
    assert {path.name for path in folder.iterdir()} == {"other.ipynb", "other.html", "summary.csv"}
    assert (folder / "summary.csv").read_text() == "two"
    assert [path.name for path in folder.parent.iterdir()] == ["other"]


def test_failing_cell_leaves_results_alone(site, tmp_path):
    notebook = write(tmp_path / "notebooks/bad.ipynb", "print(n)", "value = n\nvalue / 0", "print('never')")
    folder = site["results"] / "smoke/bad"
    folder.mkdir(parents=True)
    for name in ("bad.ipynb", "bad.html", "summary.csv"):
        (folder / name).write_bytes(b"earlier\r\n")
    before = files(site["results"])
    with pytest.raises(UserError) as error:
        render(notebook, "smoke", **site)
    for part in ("bad.ipynb", "[4]", "value = n", "ZeroDivisionError: division by zero"):
        assert part in str(error.value)
    built = site["build"] / "smoke/bad.ipynb"
    assert str(built) in str(error.value) and built.exists()
    assert files(site["results"]) == before


def test_sources_of_parameters(site, tmp_path):
    folder, params = tmp_path / "notebooks", site["params_dir"]
    assert parameters(folder / "good.ipynb", "smoke", params) == {"n": 7, "profile": "smoke"}
    assert parameters(folder / "good.ipynb", "smoke", params, {"n": 9}) == {"n": 9, "profile": "smoke"}
    assert parameters(folder / "other.ipynb", "smoke", params) == {"wide": True, "profile": "smoke"}
    assert parameters(folder / "good.ipynb", "laptop", params) == {"profile": "laptop"}


@pytest.mark.parametrize(
    "settings, overrides, words",
    [
        ("good: {m: 3}", None, ["'m'", "it has: n"]),
        ("good: {n: 3}", {"nn": 1}, ["'nn'", "it has: n"]),
        ("good: {n: 3}", {"profile": "laptop"}, ["'profile'"]),
        ("common: {wied: 3}", None, ["wied"]),
        ("goood: {n: 3}", None, ["goood", "good, other"]),
        ("- good", None, ["must be a mapping"]),
    ],
)
def test_unknown_names_are_refused(site, tmp_path, settings, overrides, words):
    (tmp_path / "params/smoke.yaml").write_text(settings)
    with pytest.raises(UserError) as error:
        render(tmp_path / "notebooks/good.ipynb", "smoke", overrides=overrides, **site)
    assert all(word in str(error.value) for word in words)
    assert not files(site["results"])


def test_unknown_profile_and_notebook_list_what_there_is(site, tmp_path):
    with pytest.raises(UserError, match="'smok'; there are: laptop, smoke"):
        render(tmp_path / "notebooks/good.ipynb", "smok", **site)
    with pytest.raises(UserError, match="there are: good, other"):
        render(tmp_path / "notebooks/goof.ipynb", "smoke", **site)
    bare = write(tmp_path / "notebooks/bare.ipynb", declare="n: int = 1")
    with pytest.raises(UserError, match="must declare `profile`"):
        render(bare, "smoke", **site)


def test_normalise_cleans_and_keeps():
    bar = "\r 50%|#####     | 1/2 [00:00<00:00, 9.1it/s]\r100%|##########| 2/2 [00:01<00:00, 1.9it/s]\n"
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/plain": "0it [00:00, ?it/s]",
    }
    outputs = [
        new_output("stream", name="stderr", text=bar),
        new_output("stream", name="stdout", text="50% of [1:02, 3] at 0.5\n"),
        new_output("display_data", data=widget),
        new_output("stream", name="stdout", text="<A object at 0x7f1200aa> and 0x7f1200aa\n"),
    ]
    node = new_notebook(cells=[new_code_cell("1", outputs=outputs)])
    node.metadata.widgets = {"state": {}}
    clean = normalise(node)
    assert [output.text for output in clean.cells[0].outputs] == [
        "50% of [1:02, 3] at 0.5\n<A object> and 0x7f1200aa\n"
    ]
    assert "widgets" not in clean.metadata and "widgets" in node.metadata
    assert len(node.cells[0].outputs) == 4
    assert normalise(clean) == clean
