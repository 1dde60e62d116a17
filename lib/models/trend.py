"""The models of the trend with capability: other sizes and seeds, and what they were after some steps.

`dlm-20m@1000` is `dlm-20m` after step 1,000 of its training. Their weights are too many for all to be committed: a
training leaves them in build/trend/<model>/model.safetensors, and in its folder of results/checkpoints, beside
config, recipe, curve and card, `weights.json` with their hashes. The hash is what a result knows of them, so that
results can be checked, planned and rendered without the weights. Some small ones lie in that folder too.
"""

from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, RootModel

from lib.errors import UserError
from lib.models.entries import Entry
from lib.models.files import json_of
from lib.paths import BUILD

WEIGHTS = BUILD / "trend"
NAME = "weights.json"
CURE = "`python -m lib.training.study --fast {run}`"
STEPS = (300, 1000, 3000)
# Training -> its family, and the steps after which the weights were kept.
TRAININGS = {
    "study-dlm-on": ("study-dlm", ()),
    "dlm-2m": ("study-dlm", STEPS),
    "ar-600k": ("study-ar", ()),
    "dlm-600k": ("study-dlm", ()),
    "ar-6m-1": ("study-ar", ()),
    "dlm-6m-1": ("study-dlm", STEPS),
    "ar-6m-2": ("study-ar", ()),
    "dlm-6m-2": ("study-dlm", ()),
    "ar-20m": ("study-ar", ()),
    "dlm-20m": ("study-dlm", STEPS),
}


def at_step(run: str, step: int) -> str:
    """The name of what a training was after a step."""
    return f"{run}@{step}"


def run_of(name: str) -> str:
    """The training that a model is of, by the model's name."""
    return name.partition("@")[0]


TREND = tuple(
    Entry(name, "trend", family, run, "MIT")
    for run, (family, steps) in TRAININGS.items()
    for name in (*(at_step(run, step) for step in steps), run)
)


def committed_at(name: str, folder: Path) -> Path:
    """Where the weights of a small one lie in its training's folder, if they are committed."""
    step = name.partition("@")[2]
    return folder / "steps" / f"{step}.safetensors" if step else folder / "model.safetensors"


class Weights(BaseModel):
    """What is known of a file of weights."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=1)]
    parameters: Annotated[int, Field(ge=1)]


class Recorded(RootModel):
    """`weights.json`: what the weights of a training are, by model."""

    root: dict[str, Weights]


def recorded(folder: Path) -> dict[str, dict]:
    """What a folder's `weights.json` says of each model. Raises UserError where it is missing or damaged."""
    cure = CURE.format(run=folder.name) + " makes it"
    return json_of(folder / NAME, Recorded, cure)


def hash_of(entry: Entry, checkpoints: Path) -> str:
    """The recorded hash of a model's weights, whether they are at hand or not. Raises UserError where none is."""
    found = recorded(checkpoints / entry.source)
    if entry.name not in found:
        cure = CURE.format(run=entry.source)
        raise UserError(f"{checkpoints / entry.source / NAME} has no {entry.name}: {cure}")
    return found[entry.name]["sha256"]


def weights_of(entry: Entry, checkpoints: Path) -> Path:
    """The file of a model's weights. Raises UserError where it is missing, or is not the recorded one."""
    wanted, cure = hash_of(entry, checkpoints), CURE.format(run=entry.source)
    path = WEIGHTS / entry.name / "model.safetensors"
    places = [place for place in (path, committed_at(entry.name, checkpoints / entry.source)) if place.exists()]
    if not places:
        raise UserError(f"the weights of {entry.name} are not committed and not at {path}: {cure} makes them")
    for place in places:
        if sha256(place.read_bytes()).hexdigest() == wanted:
            return place
    raise UserError(
        f"{places[0]} does not hold the weights that {checkpoints / entry.source / NAME} names: bring those, or "
        f"{cure} for others, which are then named there and change every result that is of them"
    )
