"""What a training left beside its weights: how the loss fell, and what it took."""

from typing import Annotated

import pandas as pd
from pydantic import AllowInfNan, BaseModel, Field

from lib.errors import UserError
from lib.models.files import json_of
from lib.paths import CHECKPOINTS
from lib.running.schema import Number, rows_of

CURE = "`git checkout results/checkpoints`, or `make train`"


class Row(BaseModel):
    """A row of a curve: its step, its loss, and what else the training wrote down."""

    model_config = {"extra": "allow"}
    __pydantic_extra__: dict[str, Number]

    step: Annotated[int, Field(ge=1)]
    loss: Number


class Record(BaseModel):
    """What a training of heads took."""

    positions: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(ge=0), AllowInfNan(False)]
    device: str


def learning_curve(name: str) -> pd.DataFrame:
    """The committed curve of a training, a row a logged step: step, loss, and what else that training wrote down.

    Raises UserError for a file that is missing, empty or damaged.
    """
    path = CHECKPOINTS / name / "curve.jsonl"
    rows = rows_of(path, Row, CURE)
    if not rows:
        raise UserError(f"no learning curve at {path}: {CURE}")
    return pd.DataFrame(rows)


def training_record(name: str) -> dict:
    """Of heads: positions trained on, and seconds of training on which device, as the training command wrote them."""
    return json_of(CHECKPOINTS / name / "measured.json", Record, CURE)
