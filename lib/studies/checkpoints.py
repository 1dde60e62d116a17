"""What a training left beside its weights: how the loss fell, and what it took."""

import json

import pandas as pd

from lib.paths import CHECKPOINTS


def learning_curve(name: str) -> pd.DataFrame:
    """The committed curve of a training, a row a logged step: step, loss, and what else that training wrote down."""
    lines = (CHECKPOINTS / name / "curve.jsonl").read_text().splitlines()
    return pd.DataFrame(map(json.loads, lines))


def training_record(name: str) -> dict:
    """Of heads: positions trained on, and seconds of training on which device, as the training command wrote them."""
    return json.loads((CHECKPOINTS / name / "measured.json").read_text())
