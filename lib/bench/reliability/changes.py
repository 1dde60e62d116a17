"""Changes of committed results, or of what decides them, in a small copy: `make check` must notice and name each."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lib.bench.reliability.case import Case
from lib.bench.reliability.small_results import NAME, PROFILE, Small, build, library, remake, said
from lib.running import code
from lib.running.identity import response_code, score_code
from lib.running.run import Run

WHERE = f"{PROFILE}/{NAME}"
CHECKPOINT_FILES = (
    "study-draft/model.safetensors",
    "study-draft/config.json",
    "study-draft/curve.jsonl",
    "study-draft/recipe.json",
    "study-ar/model.safetensors",
    "study-ar/config.json",
    "study-ar/curve.jsonl",
    "study-ar/recipe.json",
    "study-dlm/model.safetensors",
    "study-ar-autodeco/autodeco_heads.safetensors",
    "study-ar-autodeco/config.json",
    "study-ar-autodeco/measured.json",
    "smollm2-135m-adapter/adapter_model.safetensors",
    "smollm2-135m-adapter/adapter_config.json",
    "smollm2-draft/model.safetensors",
    "smollm2-draft/config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
)
WEIGHTS = {  # files that decide responses, by what a manifest calls them
    "study-draft/model.safetensors": "draft changed",
    "study-ar/model.safetensors": "weights changed",
    "study-ar/config.json": "weights changed",
    "study-dlm/model.safetensors": "weights changed",
    "study-ar-autodeco/autodeco_heads.safetensors": "weights changed",
    "smollm2-draft/model.safetensors": "draft changed",
    "tokenizer/tokenizer.json": "weights changed",
    "study-ar/curve.jsonl": "to be measured anew",
}
RESPONSES = (  # file, definition: each decides the responses of one of the small study's runs
    ("lib/decoding/autoregressive.py", "decode"),
    ("lib/decoding/session.py", "Session.forward"),
    ("lib/decoding/randomness.py", "RowGenerator.uniform"),
    ("lib/decoding/llama.py", "Llama.states"),
    ("lib/decoding/distributions.py", "warp"),
    ("lib/tolerator/fill.py", "fill_step"),
    ("lib/tolerator/refine.py", "refine_step"),
    ("lib/mtad/mtad.py", "verify_joint"),
    ("lib/mtad/loop.py", "loop"),
    ("lib/autodeco/decode.py", "predicted"),
    ("lib/autodeco/heads.py", "Heads.forward"),
    ("lib/autodeco/model.py", "AutoDecoForCausalLM.from_pretrained"),
    ("lib/running/respond.py", "respond"),
    ("lib/models/registry.py", "Model.encode"),
    ("lib/models/registry.py", "_study"),
    ("lib/models/registry.py", "_heads"),
    ("lib/models/registry.py", "_draft"),
    ("lib/models/registry.py", "_small"),
    ("lib/models/distilled.py", "DistilledDraft.forward"),
    ("lib/models/smollm2.py", "load_smollm2"),
)
SCORES = (
    ("lib/tasks/gsm_symbolic.py", "score"),
    ("lib/tasks/sudoku.py", "score"),
    ("lib/tasks/country_sentences.py", "score"),
    ("lib/tasks/small_functions.py", "score_many"),
    ("lib/tasks/sandbox.py", "run_calls"),
)
TABLES = (
    ("lib/tasks/metrics/__init__.py", "accuracy"),
    ("lib/analysis/stats.py", "score_interval"),
    ("lib/reporting/tables.py", "summary_row"),
    ("lib/reporting/result_folder.py", "headline"),
    ("lib/reporting/html.py", "clean"),
    ("lib/reporting/inert.py", "inert"),
    ("lib/studies/models.py", "Study.reading"),
)


def cases() -> Iterator[Case]:
    """Of files, then of numbers, then of code."""
    yield Case("nothing changed, nothing said", _nothing)
    for name in (f"{NAME}.html", f"{NAME}.ipynb", "manifest.json"):
        yield _case(f"{name} with one bit flipped", partial(_flip, f"{WHERE}/{name}"), name)
        yield _case(f"{name} deleted", partial(_delete, f"{WHERE}/{name}"), name)
    yield _case("manifest.json cut in half", _cut_manifest, f"{WHERE}: manifest.json is not JSON")
    yield _case("manifest.json without its runs", _lesser_manifest, f"{WHERE}: manifest.json: runs is missing")
    for name in ("summary.csv", "curves.png", "curves.svg", "items.jsonl.gz", "headline.json", "claims.json"):
        words = f"{WHERE}: its files are not those that were written: {name}"
        yield _case(f"{name} with one bit flipped", partial(_flip, f"{WHERE}/{name}"), words)
        yield _case(f"{name} deleted", partial(_delete, f"{WHERE}/{name}"), words)
    words = f"{WHERE}: its files are not those that were written: more.csv"
    yield _case("a table more", partial(_add, f"{WHERE}/more.csv"), words)
    yield _case("the whole folder deleted", _delete_folder, f"results/{WHERE}/manifest.json: missing")
    for name in ("headline.json", "claims.json", "claims.md", "index.json"):
        yield _case(f"results/{name} with one bit flipped", partial(_flip, name), name)
        if name != "index.json":  # without an index the check says that it waits for one
            yield _case(f"results/{name} deleted", partial(_delete, name), f"results/{name}: missing")
    for name in CHECKPOINT_FILES:
        words = f"results/checkpoints/{name}: changed"
        yield _case(f"{name} with one bit flipped", partial(_flip, f"checkpoints/{name}"), words)
    for name, words in WEIGHTS.items():
        yield _case(f"{name} noticed by the runs that use it", partial(_flip, f"checkpoints/{name}"), words)
    for what, change, words in NUMBERS:
        yield _case(what, change, words)
    for what, places, change, words in (
        ("responses", RESPONSES, _decoded_by, "for code changed"),
        ("scores", SCORES, _scored_by, "for the scorer changed"),
        ("tables", TABLES, _tabled_by, "waits to be rendered, for the notebook or the code of its tables changed"),
    ):
        for file, name in places:
            yield _case(f"{what}: {file} {name}", partial(change, file, name), words)


def _case(name: str, change: Callable[[Path], None], words: str) -> Case:
    """Passes where the check says nothing before a change, and afterwards a line that holds `words`."""

    def run(folder: Path) -> None:
        _nothing(folder)
        change(folder)
        lines = said(folder)
        assert any(words in line for line in lines), f"no line holds {words!r}: {lines[:3]}"

    return Case(name, run)


def _nothing(folder: Path) -> None:
    build(folder)
    assert not (lines := said(folder)), f"nothing was changed, and yet: {lines[:3]}"


def _flip(name: str, folder: Path) -> None:
    path = folder / "results" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.unlink()  # it may be a link to the real one
    path.write_bytes(raw)


def _delete(name: str, folder: Path) -> None:
    (folder / "results" / name).unlink()


def _add(name: str, folder: Path) -> None:
    (folder / "results" / name).write_text("a,b\n1,2\n")


def _delete_folder(folder: Path) -> None:
    for path in (folder / "results" / WHERE).iterdir():
        path.unlink()
    (folder / "results" / WHERE).rmdir()


def _cut_manifest(folder: Path) -> None:
    path = folder / "results" / WHERE / "manifest.json"
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def _lesser_manifest(folder: Path) -> None:
    path = folder / "results" / WHERE / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != "runs"}))


def _replaced(name: str, before: str, after: str, folder: Path) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert before in text, f"{name} has no {before!r}"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def _verdict(folder: Path) -> None:
    path = folder / "README.md"
    head, mark, rest = path.read_text(encoding="utf-8").partition("<!-- found -->")
    path.write_text(head + mark + rest.replace("---|", "---|---|", 1), encoding="utf-8")


def _digit_behind(mark: str, name: str, folder: Path) -> None:
    """Another digit in the first number behind a mark."""
    path = folder / name
    head, found, rest = path.read_text(encoding="utf-8").partition(mark)
    digit = next(char for char in rest if char.isdigit())
    path.write_text(head + found + rest.replace(digit, str(9 - int(digit)), 1), encoding="utf-8")


def _note_items(folder: Path) -> None:
    remake(folder, parameters={"items": 1})


def _older_torch(folder: Path) -> None:
    path = folder / "results" / WHERE / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"versions": {"torch": "2.0.0"}}))


def _other_run(folder: Path) -> None:
    path = folder / "results" / WHERE / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["runs"].popitem()
    path.write_text(json.dumps(manifest))


def _other_rows(folder: Path) -> None:
    path = folder / "results" / WHERE / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["runs"] = {name: entry | {"rows": "0" * 16} for name, entry in manifest["runs"].items()}
    path.write_text(json.dumps(manifest))


def _notebook(folder: Path) -> None:
    path = folder / "notebooks" / f"{NAME}.ipynb"
    node = json.loads(path.read_text(encoding="utf-8"))
    node["cells"][0]["source"] = ["# Another title"]
    path.write_text(json.dumps(node), encoding="utf-8")


TORCH = 'name = "torch"\nversion = "'
NUMBERS = (
    ("results/README: a number of a headline", partial(_digit_behind, "| `draft_agreement`", "results/README.md"),
     "results/README.md: changed"),
    ("README: a count of claims", _verdict, "README.md: what was found changed"),
    ("README: a number in what was found", partial(_digit_behind, "\n- **", "README.md"),
     "README.md: what was found changed"),
    ("README: a mark is gone", partial(_replaced, "README.md", "<!-- /found -->", ""), "<!-- /found -->"),
    ("a package of the lock", partial(_replaced, "uv.lock", TORCH, f"{TORCH}9"),
     "uv.lock: waits for make report, for torch was"),
    ("a result of another torch", _older_torch, "for torch was 2.0.0"),
    ("a parameter of the profile", _note_items, "items was 1, the profile now says"),
    ("a run that is wanted and not there", _other_run, "runs are missing"),
    ("rows that are others", _other_rows, "rows changed"),
    ("the notebook's words", _notebook, "for the notebook or the code of its tables changed"),
    ("the bench's numbers", partial(_flip, "bench/engine.json"), "results/bench/engine.json: changed"),
    ("the bench's figure", partial(_flip, "bench/engine.png"), "results/bench/engine.png: changed"),
    ("a file that nobody made", partial(_add, "more.csv"), "results/more.csv: new"),
)  # fmt: skip


def _decoded_by(file: str, name: str, folder: Path) -> None:
    """Results of a library with another definition: what it is compared with is that of today."""
    root = library(folder, file, name)
    _with_library(folder, code=lambda run: response_code(run.method, run.model, run.draft, root))


def _scored_by(file: str, name: str, folder: Path) -> None:
    root = library(folder, file, name)
    _with_library(folder, scores=lambda run: score_code(run.task, root))


def _tabled_by(file: str, name: str, folder: Path) -> None:
    _with_library(folder, sources=Small.sources(library(folder, file, name)))


def _with_library(folder: Path, **changed: str | Callable[[Run], str]) -> None:
    try:
        remake(folder, **changed)
    finally:  # parsed files of a folder that will be gone
        code._module.cache_clear()
        code._file.cache_clear()
