"""What this study is built on: locked by hashes, licensed, without pickles, without network, without secrets."""

import ast
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import pytest_socket
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lib.errors import SECRET_FORM
from lib.models.registry import MODELS
from lib.paths import ROOT
from lib.reporting import licences
from lib.reporting.render import render
from lib.tasks import TASKS

LOCK = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
SOURCES = [path for folder in ("lib", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
PICKLES = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
SENTINEL = "a-secret-that-no-file-holds"


def test_every_package_is_locked_by_hashes():
    for package in LOCK:
        if "editable" in package["source"]:
            continue
        files = package.get("wheels", []) + [package[kind] for kind in ("sdist",) if kind in package]
        assert files, f"{package['name']}: nothing to install"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]) for file in files), package["name"]
        assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]


def listed(heading: str) -> list[list[str]]:
    """The rows of a table of LICENSES.md."""
    part = licences.PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")][2:]


def test_every_installed_package_is_listed_with_its_licence_and_the_licence_is_allowed():
    found, there = dict(listed("Packages")), licences.packages()
    assert len(there) > 100
    for name, licence in there.items():
        assert not licences.refused(licence), f"{name}: {licence}"
        assert found.get(name) == licence, f"{name} is under {licence}: `make licences`"
    locked = {package["name"] for package in LOCK}
    assert set(found) <= locked, "a package that is no longer locked: `make licences`"


def test_every_task_and_model_is_listed_with_its_licence():
    assert listed("Data") == [[task.name, task.licence] for task in TASKS.values()], "`make licences`"
    assert listed("Weights") == [[e.name, e.source, e.licence] for e in MODELS.values()], "`make licences`"
    rows = (ROOT / "lib/tasks/data/SOURCES.md").read_text()
    for file in (ROOT / "lib/tasks/data").glob("*.gz"):
        (line,) = [line for line in rows.splitlines() if f"`{file.name}`" in line]
        assert re.search(r"\| (Apache-2\.0|MIT|CC BY-SA 4\.0|CC BY 4\.0|CC0-1\.0) \|$", line), file.name


@pytest.mark.parametrize(
    "licence, said",
    [
        ("MIT License", []),
        ("Apache Software License; BSD License", []),
        ("GPL-2.0 OR MIT", []),
        ("MIT AND GPL-3.0-only", ["GPL-3.0-only"]),
        ("GNU General Public License v3 (GPLv3)", ["GNU General Public License v3 (GPLv3)"]),
        ("UNKNOWN", ["UNKNOWN"]),
    ],
)
def test_a_licence_that_is_not_allowed_is_refused(licence, said):
    assert licences.refused(licence) == said


def pickles(source: str) -> list[str]:
    """What in a source can unpickle: a function of a module that does, or a call that may. `dumps` harms nobody."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in PICKLES and a.asname]  # not followed here
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            found += [alias.name for alias in node.names if alias.name != "dumps"]
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in PICKLES and node.attr != "dumps":
            found.append(ast.unparse(node))
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
        only = given.get("weights_only")
        if called == "torch.load" and not (isinstance(only, ast.Constant) and only.value is True):
            found.append(called)
        if called.endswith("read_pickle") or called.endswith("to_pickle"):
            found.append(called)
        if "allow_pickle" in given and ast.unparse(given["allow_pickle"]) != "False":
            found.append(f"{called}(allow_pickle)")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle; pickle.loads(text)",
        "import pickle; pickle.Unpickler(file)",
        "import pickle as p",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
    ],
)
def test_what_unpickles_is_found(source):
    assert pickles(source)
    assert not pickles("torch.load(path, weights_only=True); np.load(path, allow_pickle=False); pickle.dumps(3)")


def test_nothing_is_unpickled_but_weights():
    for path in SOURCES:
        if path.name != "livecodebench.py":  # its rows are pickled text, read by a class that makes nothing else
            assert not pickles(path.read_text(encoding="utf-8")), path
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            assert cell.cell_type != "code" or not pickles(cell.source), path.name


def test_no_test_reaches_the_network():
    with pytest.raises(pytest_socket.SocketConnectBlockedError):
        socket.socket().connect(("192.0.2.1", 80))  # an address that is nobody's
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server:  # notebooks talk to their kernels
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_a_secret_reaches_neither_notebook_nor_page_nor_message(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SENTINEL)
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    (tmp_path / "params" / "smoke.yaml").write_text("")
    declared = new_code_cell("profile: str = 'none'  # settings", metadata={"tags": ["parameters"]})
    shown = new_code_cell("import os; print(os.environ['HF_TOKEN']); dict(os.environ)")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    node = new_notebook(cells=[new_markdown_cell("# T"), declared, shown], metadata={"kernelspec": kernel})
    nbformat.write(node, tmp_path / "notebooks" / "leaky.ipynb")
    places = {"results": tmp_path / "results", "params_dir": tmp_path / "params", "build": tmp_path / "build"}
    target = render(tmp_path / "notebooks" / "leaky.ipynb", "smoke", **places)
    for file in target.iterdir():
        text = file.read_text(encoding="utf-8")
        assert SENTINEL not in text and "[HF_TOKEN]" in text, file.name


def test_a_secret_reaches_no_log_of_a_command():
    environment = {**os.environ, "HF_TOKEN": SENTINEL, "WANDB_API_KEY": SENTINEL, "HF_HUB_OFFLINE": "1"}
    load = "from lib.models.registry import load; command = lambda: load('opt-125m')"
    tell = f"from lib.errors import UserError\ndef command(): raise UserError('refused: ' + '{SENTINEL}')"
    for code in (load, tell):
        code = f"from lib.errors import exit_status\n{code}\nexit_status(command)"
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "error: " in found.stderr and SENTINEL not in found.stderr + found.stdout, found.stderr


def committed_texts() -> list[Path]:
    """Every text that is kept in the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    kinds = {".py", ".md", ".json", ".jsonl", ".ipynb", ".html", ".csv", ".yaml", ".yml", ".toml", ".gz", ""}
    return [ROOT / name for name in listed.splitlines() if Path(name).suffix in kinds and (ROOT / name).is_file()]


@pytest.mark.slow
def test_no_committed_file_holds_a_secret():
    for path in committed_texts():
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found = SECRET_FORM.search(raw.decode("utf-8", errors="replace"))
        assert not found, f"{path.relative_to(ROOT)}: {found[0][:8]}..."


def test_a_manifest_holds_nothing_of_the_environment():
    for path in sorted((ROOT / "results").glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        assert set(manifest) <= {
            "parameters", "runs", "measured", "responses", "sources", "measures", "device", "versions", "files",
            "sandbox",
        }, path  # fmt: skip
        assert os.path.expanduser("~") + os.sep not in path.read_text() or os.path.expanduser("~") == "/", path
