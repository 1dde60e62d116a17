"""`python -m lib.training.study [NAME ...]`: train the study models and write `results/checkpoints/`."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import torch
from pydantic import BaseModel
from transformers import AutoTokenizer

from lib.errors import UserError, exit_status, require_known
from lib.models import trend
from lib.models.cards import write
from lib.models.files import tensors_of
from lib.models.registry import load
from lib.models.study import build_model, build_tokenizer
from lib.paths import BUILD, CHECKPOINTS, write_whole
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
    return _filled(name, state["model"], path)


def finished(name: str):
    """The model of a finished training in `build/training`: of its state, or of the weights alone that lie there."""
    path = TRAINING / name / "model.safetensors"
    if (TRAINING / name / "state.pt").exists() or not path.exists():
        return trained(name)
    return _filled(name, tensors_of(path, CURE), path, strict=False)  # a tied head is stored once


def _filled(name: str, weights: dict, path, strict: bool = True):
    """The network of a recipe with the weights of `path`. Raises UserError where they are another's."""
    model = build_model((RECIPES | TREND)[name].shape)
    try:
        model.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        raise UserError(f"{path} is of another network than {name}: {CURE}") from error
    return model.eval()


def export(recipe: Recipe, model) -> None:
    """Weights in bfloat16 (tied head stored once), config, recipe, learning curve and model card.

    Those of the trend, and what it was after the steps that it kept, lie outside of git: `lib/models/trend.py`.
    """
    name = recipe.name
    folder = CHECKPOINTS / name
    folder.mkdir(parents=True, exist_ok=True)
    if name in TREND:
        _export_outside(recipe, model, folder / trend.NAME)
    else:
        save_weights(model, folder / "model.safetensors")
    model.config.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    shutil.copyfile(TRAINING / name / "curve.jsonl", folder / "curve.jsonl")
    write(folder, known(name, folder))


def _export_outside(recipe: Recipe, model, record: Path) -> None:
    """The weights of a training into build/trend, what they are into `record`. Raises UserError where a kept step's
    are missing."""
    kept = {trend.at_step(recipe.name, n): TRAINING / recipe.name / f"step-{n}.safetensors" for n in recipe.kept}
    for path in kept.values():
        if not path.exists():
            raise UserError(f"{path}, which the recipe of {recipe.name} keeps, is missing: {CURE}")
    found = {}
    for name in (*kept, recipe.name):
        file = trend.WEIGHTS / name / "model.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        if name in kept:
            shutil.copyfile(kept[name], file)
        else:
            save_weights(model, file)
        raw = file.read_bytes()
        parameters = sum(tensor.numel() for tensor in tensors_of(file, CURE).values())
        found[name] = {"sha256": sha256(raw).hexdigest(), "bytes": len(raw), "parameters": parameters}
    write_whole(record, json.dumps(found, indent=1) + "\n")


def export_all(names: list[str]) -> None:
    """Everything that `export` writes, of trainings that are finished."""
    require_known("recipe", names, RECIPES | TREND)
    for name in names:
        export((RECIPES | TREND)[name], finished(name))


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
    parser.add_argument(
        "--export", action="store_true", help="only write what a finished training in build/training left"
    )
    given = parser.parse_args(arguments)
    names = given.names or list(RECIPES)
    return exit_status(lambda: export_all(names) if given.export else train_all(names, given.fast))


if __name__ == "__main__":
    sys.exit(main())
