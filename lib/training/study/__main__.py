"""`python -m lib.training.study [NAME ...]`: train the study models and write `results/checkpoints/`."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict

import torch
from pydantic import BaseModel
from transformers import AutoTokenizer

from lib.errors import UserError, exit_status, require_known
from lib.models.cards import write
from lib.models.registry import load
from lib.models.study import build_model, build_tokenizer
from lib.paths import BUILD, CHECKPOINTS
from lib.running.schema import Count
from lib.training.cards import known
from lib.training.state import CURE, read_state
from lib.training.study.data import texts
from lib.training.study.loop import save_weights, train
from lib.training.study.recipe import RECIPES, TREND, Recipe, same_recipe

TRAINING = BUILD / "training"


class Finished(BaseModel):
    """What is read of the state of a training for its weights."""

    recipe: dict
    step: Count
    model: dict


def tokenizer():
    """The study tokenizer, trained once on the first 10,000 training items of each task."""
    folder = CHECKPOINTS / "tokenizer"
    if not folder.exists():
        build_tokenizer(texts(10_000)).save_pretrained(folder.with_suffix(".tmp"))
        os.replace(folder.with_suffix(".tmp"), folder)
    return AutoTokenizer.from_pretrained(folder)


def trained(name: str):
    """A study model in the full precision of its finished training; without one, the committed weights.

    Raises UserError where its training has begun and not ended, or was by another recipe, or its state is damaged.
    """
    path = TRAINING / name / "state.pt"
    if not path.exists():
        return load(name).network
    state = read_state(path, Finished)
    recipe = (RECIPES | TREND)[name]
    if not same_recipe(state["recipe"], recipe) or state["step"] != recipe.steps:
        raise UserError(
            f"the training of {name} in {path.parent} is not the finished one of today's recipe: finish it "
            f"(`python -m lib.training.study {name}`), or remove the folder"
        )
    model = build_model(recipe.shape)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise UserError(f"{path} is of another network than {name}: {CURE}") from error
    return model.eval()


def export(recipe: Recipe, model) -> None:
    """Weights in bfloat16 (tied head stored once), config, recipe, learning curve and model card."""
    name = recipe.name
    folder = CHECKPOINTS / name
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / "model.safetensors")
    model.config.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    shutil.copyfile(TRAINING / name / "curve.jsonl", folder / "curve.jsonl")
    write(folder, known(name, folder))


def train_all(names: list[str], fast: bool) -> None:
    known = RECIPES | TREND
    require_known("recipe", names, known)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in names:
        model = train(known[name], tokenizer(), TRAINING / name, load=trained, device=device, fast=fast)
        export(known[name], model)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.training.study", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES | TREND)}; those in use if none is named"
    )
    parser.add_argument(
        "--fast", action="store_true", help="a compiled step, in bfloat16 where the device multiplies it in hardware"
    )
    given = parser.parse_args(arguments)
    return exit_status(lambda: train_all(given.names or list(RECIPES), given.fast))


if __name__ == "__main__":
    sys.exit(main())
