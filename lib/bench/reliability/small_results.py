"""A small copy of results that is current by construction, for changes to be made in it."""

import ast
import gzip
import json
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from lib.models import registry
from lib.paths import CHECKPOINTS, NOTEBOOKS, RESULTS, ROOT, write_whole
from lib.reporting import check, collect
from lib.reporting.render import parameters
from lib.running import code, index
from lib.running.committed import file_hashes
from lib.running.identity import identity, run_id
from lib.running.run import Run
from lib.studies import base
from lib.studies import models as studied
from lib.training.study.recipe import RECIPES

PROFILE, NAME = "laptop", "00_study_models"
FEW = {"items": 2}


@dataclass(frozen=True)
class Small(studied.Study):
    """The study of the models with other runs: one of every method and tier of models, two items each."""

    def runs(self) -> dict[tuple, Run]:
        drafts = {"draft": "study-draft", **FEW}
        runs = (
            Run.of("study-ar", "worded_math", "autoregressive", **FEW),
            Run.of("study-ar", "country_sentences", "autoregressive", **FEW),
            Run.of("study-ar", "graded_functions_2", "autoregressive", **FEW),
            Run.of("study-dlm", "sudoku6", "vanilla", steps=8, **FEW),
            Run.of("study-dlm", "sudoku6", "tolerator", forwards=8, **FEW),
            Run.of("study-ar", "country_sentences", "mtad", **drafts),
            Run.of("study-ar-autodeco", "country_sentences", "autodeco", **FEW),
            Run.of("smollm2-135m", "country_sentences", "mtad", draft="smollm2-draft", **FEW),
        )
        return {(run.model, run.task, run.method): run for run in runs}

    @classmethod
    def sources(cls, root: Path = code.ROOT) -> str:
        """Those of the study that is copied, with the code of `root`."""
        return studied.Study.sources(root)


def build(folder: Path) -> Path:
    """results/, README.md, notebooks/ and uv.lock under `folder`; gives the folder of the one result in it."""
    results, place = folder / "results", folder / "results" / PROFILE / NAME
    shutil.copytree(RESULTS / PROFILE / NAME, place)
    shutil.copytree(CHECKPOINTS / "study-draft", results / "checkpoints" / "study-draft")
    shutil.copytree(CHECKPOINTS / "tokenizer", results / "checkpoints" / "tokenizer")
    others = {*RECIPES, "study-ar-autodeco", "smollm2-135m-adapter", "smollm2-draft"} - {"study-draft"}
    for name in others:  # large: links until one is changed
        (results / "checkpoints" / name).mkdir()
        for file in (CHECKPOINTS / name).iterdir():
            (results / "checkpoints" / name / file.name).symlink_to(file)
    if (RESULTS / "bench").exists():
        shutil.copytree(RESULTS / "bench", results / "bench")
    shutil.copytree(NOTEBOOKS / "params", folder / "notebooks" / "params")
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(notebook, folder / "notebooks" / notebook.name)
    shutil.copytree(base.PAPERS, folder / "papers")
    for name in ("README.md", "uv.lock"):
        shutil.copy(ROOT / name, folder / name)
    remake(folder)
    for path, text in collect.collected(results, folder / "README.md").items():
        write_whole(path, text)  # a checkpoint's card is a link to the real one
    index.write(results, folder / "README.md", folder / "uv.lock")
    return place


def remake(folder: Path, **changed) -> None:
    """The result's manifest anew; `changed`: what of it is another, or by `code` and `scores`, of all its runs."""
    place = folder / "results" / PROFILE / NAME
    manifest = json.loads((RESULTS / PROFILE / NAME / "manifest.json").read_text(encoding="utf-8"))
    values = parameters(NOTEBOOKS / f"{NAME}.ipynb", PROFILE)
    own = {key: changed.pop(key) for key in ("code", "scores") if key in changed}
    with here(folder):
        runs = {run_id(run): run for run in Small().runs().values()}
        line = {"item": "-", "sample": 0, "correct": 0, "text": ""}
        rows = "".join(json.dumps({"run": name, **line}) + "\n" for name in runs)
        (place / "items.jsonl.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
        manifest |= {
            "parameters": {"items": values["items"]},
            "runs": {name: identity(run) | _of_run(own, run) for name, run in runs.items()},
            "measured": {name: {"seconds": None, "joules": None} for name in runs},
            "sources": Small.sources(),
            "measures": Small.measures(),
            "files": file_hashes(place),
        }
    (place / "manifest.json").write_text(json.dumps(manifest | changed, indent=1, sort_keys=True) + "\n")


def _of_run(own: dict, run: Run) -> dict:
    return {key: hash_for(run) for key, hash_for in own.items()}


def said(folder: Path) -> list[str]:
    """What `make check` says of it."""
    with here(folder):
        found = check.stale(lambda _: Small, folder / "results", folder / "notebooks")
        return found + check.uncollected(folder / "results", folder / "README.md", folder / "uv.lock")


@contextmanager
def here(folder: Path):
    """Checkpoints, notebooks and printed cells are those under `folder`."""
    with ExitStack() as stack:
        for module in (registry, studied):
            stack.enter_context(patch.object(module, "CHECKPOINTS", folder / "results" / "checkpoints"))
        stack.enter_context(patch.object(base, "NOTEBOOKS", folder / "notebooks"))
        stack.enter_context(patch.object(base, "PAPERS", folder / "papers"))
        yield


def library(folder: Path, file: str, name: str) -> Path:
    """A copy of lib/ with one statement more in the function or method `name` (`Class.method`) of `file`."""
    root = folder / "code"
    for path in (ROOT / "lib").rglob("*.py"):
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    path = root / file
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = ast.parse("".join(lines)).body
    for part in name.split("."):
        (node,) = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
        body = node.body
    first = next(n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)))
    lines.insert(first.lineno - 1, f"{' ' * first.col_offset}changed_here = True\n")
    path.write_text("".join(lines), encoding="utf-8")
    return root
