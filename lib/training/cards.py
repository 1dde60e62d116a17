"""What the model card of a checkpoint of this study says of its training beyond the files beside its weights."""

from pathlib import Path

from pydantic import BaseModel

from lib.models.cards import COMMITTED, Known
from lib.models.files import json_of
from lib.models.registry import MODELS, Entry
from lib.models.trend import CURE as MADE
from lib.training.autodeco.recipe import SOURCES
from lib.training.study.data import MIXTURE

CURE = "`git checkout results/checkpoints`, or `make train`"
LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0"}  # the registry's words and the hub's ids
HUB = {"gsm8k": "openai/gsm8k", "deepmath": "zwhe99/DeepMath-103K"}  # training tasks whose rows are of the hub
SMALL = (
    "A small model for the study of decoding: it knows the tasks that it was trained on and little else. What a rule "
    "does to it says what the rule does to a model of that kind, and not what it does at billions of parameters."
)
NO_PROSE = (
    "The base never saw prose but that of its own tasks: that these heads follow commands in words says little "
    "beyond them."
)
OUTSIDE = (
    "Of its weights, and those kept after some steps of its training (`<name>@<step>`), not all are committed: "
    "`weights.json` holds their hashes, and {made} makes others, which may differ in the last digits."
)
THREE_SEEDS = "Trained with three seeds, of which this is one; notebook 13 has what they differ in."
ONE_SEED = "Trained once, with one seed: how much another seed would change is not known."


SEVERAL = ("study-ar-autodeco", "study-ar-autodeco-1", "study-ar-autodeco-2")


class Taught(BaseModel):
    """What is read of the recipe of heads."""

    control: dict | None = None


class Written(BaseModel):
    """What is read of the text in the recipe of a draft."""

    questions: list[list]
    temperature: float
    top_k: int
    top_p: float


class Distilled(BaseModel):
    """What is read of the recipe of a draft."""

    text: Written


def known(name: str, folder: Path) -> Known:
    """Licence, base, data and limits of a checkpoint by its name, of which `folder` holds the files.

    Of models that the registry does not have only what their recipe says. Raises UserError for a damaged recipe.
    """
    entry = MODELS.get(name) or Entry(name, "study", "", name, "MIT")
    path = folder / "recipe.json"
    words, tasks, taught = "", [], False
    if path.exists():
        words, tasks = {"heads": _heads, "draft": _draft}.get(entry.tier, _study)(entry, path)
        taught = entry.tier == "heads" and bool(json_of(path, Taught, CURE).get("control"))
    base = MODELS[entry.base] if entry.base else None
    source = (base.source if base.tier in ("paper", "small") else f"{COMMITTED}{base.source}") if base else ""
    outside = OUTSIDE.format(made=MADE.format(run=entry.source))
    limits = {
        SMALL: entry.tier in ("study", "trend"),
        outside: entry.tier == "trend",
        NO_PROSE: taught and entry.base == "study-ar",
        THREE_SEEDS: name in SEVERAL,
        ONE_SEED: name not in SEVERAL,
    }
    return Known(
        name=name,
        licence=LICENCES[entry.licence],
        place=f"{COMMITTED}{name}",
        base=source,
        data=words,
        datasets=tuple(HUB[task] for task in tasks if task in HUB),
        limits=tuple(limit for limit, holds in limits.items() if holds),
    )


def _study(entry: Entry, path: Path) -> tuple[str, list[str]]:
    shares = ", ".join(f"{task.name} {share:.0%}" for task, share in MIXTURE)
    return f"On sequences that `lib.tasks` makes: {shares}. Test items are held out.", []


def _heads(entry: Entry, path: Path) -> tuple[str, list[str]]:
    if entry.base not in SOURCES:
        return "", []
    source = SOURCES[entry.base]
    if entry.name.endswith("-reward"):
        words = f"On the rewards of its own draws for training questions of {', '.join(source.tasks)}."
        return words, list(source.tasks)
    words = (
        f"On right answers of `{entry.base}` itself: {source.samples} drawn for each of {source.prompts} training "
        f"questions of each of {', '.join(source.tasks)}; the wrong ones left out, one question in 20 held out."
    )
    return words, list(source.tasks)


def _draft(entry: Entry, path: Path) -> tuple[str, list[str]]:
    text = json_of(path, Distilled, CURE)["text"]
    asked = " and ".join(f"{count} training questions of {task}" for task, count in text["questions"])
    words = (
        f"On answers that its target wrote itself to {asked}, at temperature {text['temperature']:g}, top_k "
        f"{text['top_k']}, top_p {text['top_p']:g}; one question in 20 held out."
    )
    return words, [task for task, _ in text["questions"]]
