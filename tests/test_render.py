"""Rendering: stable bytes, unknown names refused, a failure that leaves earlier results alone."""

import gzip
import json
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.errors import MachineError, UserError
from lib.paths import result_files
from lib.reporting import publish as publishing
from lib.reporting.ledger import ledger
from lib.reporting.publish import publish
from lib.reporting.render import homes, normalise, parameters, render
from lib.running import committed

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


@pytest.mark.slow
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


def staged(folder, **files):
    """Files of a result just made: `responses`, a `table`, and a page; `claims`, `manifest` change what is usual."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps(row) + "\n" for row in files.get("rows", [{"run": "a", "text": "yes"}]))
    (folder / "items.jsonl.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
    (folder / "summary.csv").write_text(files.get("table", "name,accuracy,seconds\nours,50.0,0.25\n"))
    claim = {"says": "it is fast", "verdict": "holds", "kind": "claim", "value": 1.5, "low": 1.2, "high": 1.8}
    (folder / "claims.json").write_text(json.dumps([claim | files.get("claim", {})]))
    (folder / "page.html").write_text(files.get("page", "<p>ours took 0.25 s</p>"))
    run = {"a": {"code": "one", "replayed": {"seed": 1}}}
    manifest = {"parameters": {"items": 1}, "sources": "s", "device": "cpu", "responses": 1, "runs": run}
    manifest |= files.get("manifest", {})
    hashed = {"files": committed.file_hashes(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest | hashed))
    return sorted(folder.iterdir())


SLOWER = {"table": "name,accuracy,seconds\nours,50.0,9.75\n", "page": "<p>ours took 12.5 s</p>"}


def test_a_result_that_differs_in_its_times_alone_is_left_as_it_is(tmp_path):
    target = tmp_path / "results/smoke/one"
    assert publish(staged(tmp_path / "a"), target) == "new"
    before = files(target)
    assert publish(staged(tmp_path / "b"), target) == "unchanged" and not files(tmp_path / "b")
    said = publish(staged(tmp_path / "c", **SLOWER), target)
    assert said.startswith("unchanged but for times (summary.csv (seconds))") and str(tmp_path / "c") in said
    assert files(target) == before and len(files(tmp_path / "c")) == 5, "who wants the new times finds them"
    replayed = {"manifest": {"runs": {"a": {"code": "one"}}, "versions": {"python": "3.13"}}}
    assert publish(staged(tmp_path / "d", **SLOWER, **replayed), target).startswith("unchanged")
    decoded, rendered = ({"page": f"reuse = {again}; 0.25 s"} for again in (False, True))
    publish(staged(tmp_path / "r", **rendered), other := tmp_path / "results/smoke/two")
    assert publish(staged(tmp_path / "s", **decoded), other).startswith("unchanged but for times")
    assert publish(staged(tmp_path / "e", **SLOWER), target, again=True) == "changed: summary.csv (seconds)"
    assert (target / "page.html").read_text() == SLOWER["page"], (
        "a rendering measures nothing: all that differs counts"
    )


@pytest.mark.parametrize(
    "change, said",
    [
        ({"rows": [{"run": "a", "text": "no"}]}, "1 of 1 responses"),
        ({"table": "name,accuracy,seconds\nours,49.0,9.0\n"}, "summary.csv (accuracy)"),
        ({"table": "name,accuracy\nours,50.0\n"}, "summary.csv (other rows or columns)"),
        ({"claim": {"value": 1.4}}, "claims.json (it is fast)"),
        ({"claim": {"verdict": "does not hold"}}, "claims.json (it is fast)"),
        ({"page": "<p>ours was slow: 0.25 s</p>"}, "page.html (words)"),
        ({"manifest": {"parameters": {"items": 2}}}, "parameters"),
        ({"manifest": {"sources": "t"}}, "sources"),
        ({"manifest": {"versions": {"python": "3.13", "torch": "3"}}}, "versions"),
        ({"manifest": {"runs": {"a": {"code": "two"}}}}, "code of 1 runs"),
        ({"manifest": {"runs": {"b": {"code": "one"}}}}, "2 runs came or went"),
    ],
)
def test_what_changed_is_published_and_named(tmp_path, change, said):
    target = tmp_path / "results/smoke/one"
    publish(staged(tmp_path / "a"), target)
    new = staged(tmp_path / "b", **change)
    contents = files(tmp_path / "b")
    assert publish(new, target) == f"changed: {said}"
    assert files(target) == contents


def test_numbers_of_a_result_that_measures_are_measurements_and_its_words_are_not(tmp_path):
    target, measures = tmp_path / "results/smoke/one", {"manifest": {"measures": "clock"}}
    publish(staged(tmp_path / "a", **measures), target)
    times = {"table": "name,accuracy,seconds\nours,51.0,9.75\n", "claim": {"value": 1.4}}
    said = publish(staged(tmp_path / "b", **measures, **times), target)
    assert said.startswith("unchanged but for times (claims.json (it is fast); summary.csv (accuracy, seconds))")
    assert publish(staged(tmp_path / "c", **measures, claim={"verdict": "not decided"}), target).startswith("changed")
    other = {"table": "name,accuracy,seconds\ntheirs,50.0,0.25\n"}
    assert publish(staged(tmp_path / "d", **measures, **other), target).startswith("changed")


def test_a_damaged_result_is_replaced(tmp_path):
    target = tmp_path / "results/smoke/one"
    publish(staged(tmp_path / "a"), target)
    (target / "summary.csv").write_text("by hand")
    assert "its files were not those that were written" in publish(staged(tmp_path / "b"), target)
    (target / "manifest.json").unlink()
    assert "it had no manifest" in publish(staged(tmp_path / "c"), target)


def test_two_folders_change_places_in_one_step_and_in_two_where_the_system_cannot(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if sys.platform == "linux":
        assert publishing.exchange(tmp_path / "one", tmp_path / "two") and (tmp_path / "one/two").exists()
        with pytest.raises(FileNotFoundError):
            publishing.exchange(tmp_path / "one", tmp_path / "three")
    monkeypatch.setattr(publishing, "exchange", lambda *_: False)
    target = tmp_path / "results/smoke/one"
    for rows in ([{"text": "first"}], [{"text": "second"}]):
        new = staged(tmp_path / "a", rows=rows)
        contents = files(tmp_path / "a")
        publish(new, target)
        assert files(target) == contents and [path.name for path in target.parent.iterdir()] == ["one"]


def test_what_a_killed_publishing_left_is_read_by_nobody(tmp_path):
    staged(tmp_path / "results/night/one")
    for left in (".one.new", ".one.old"):
        staged(tmp_path / "results/night" / left, claim={"says": "a leftover"})
    assert [row["says"] for row in ledger(tmp_path / "results") if row["from"]] == ["it is fast"]
    assert [path.parent.name for path in result_files("manifest.json", tmp_path / "results")] == ["one"]


def test_an_editors_files_beside_a_result_are_no_part_of_it(tmp_path):
    staged(tmp_path)
    before = committed.file_hashes(tmp_path)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "manifest.tmp"):
        (tmp_path / name).touch()
    assert committed.file_hashes(tmp_path) == before


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_not_needed(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    for name in ("JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert set(homes(tmp_path)) >= {"JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "HF_HOME"}
    assert (tmp_path / "ipython").is_dir(), "IPython warns in every page where it would have to make its parent"
    assert (render(tmp_path / "notebooks/good.ipynb", "smoke", **site) / "good.html").exists()


@pytest.mark.parametrize("cell", ["raise MemoryError", "raise OSError(28, 'No space left on device')"])
def test_a_cell_that_lacks_memory_or_room_is_the_machines_error(site, tmp_path, cell):
    notebook = write(tmp_path / "notebooks/bad.ipynb", cell)
    with pytest.raises(MachineError, match="failed in cell"):
        render(notebook, "smoke", **site)


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
