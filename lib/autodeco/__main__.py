"""`python -m lib.autodeco [NAME ...]`: train heads on a study model and write them to `results/checkpoints/`."""

import argparse
import json
import sys
from dataclasses import replace

import torch

from lib.autodeco.heads import HeadsConfig
from lib.autodeco.model import AutoDecoForCausalLM
from lib.autodeco.states import states_of, trajectories
from lib.autodeco.training import Recipe, train_heads
from lib.errors import exit_status, require_known
from lib.models.registry import load
from lib.paths import BUILD, CHECKPOINTS
from lib.tasks import get_task

BASE = "study-ar"
TASKS = ("gsm_symbolic", "country_facts", "small_functions")
PROMPTS, SAMPLES = 1500, 4  # draws a task; the right ones are trained on
DEFAULT = Recipe()
# What the ablation tells apart: one change each from the default, which follows the released code.
RECIPES = {
    "study-ar-autodeco": DEFAULT,
    "study-ar-temperature": replace(DEFAULT, train=("temperature",)),
    "study-ar-top-p": replace(DEFAULT, train=("top_p",)),
    "study-ar-paper": replace(DEFAULT, objective="paper"),
    "study-ar-unmasked": replace(DEFAULT, mask_easy=0.0),
    "study-ar-unweighted": replace(DEFAULT, fine_tuning_weights=False),
    "study-ar-soft": replace(DEFAULT, alpha=10.0),
}


def export(name: str, model, curve: list[dict]) -> None:
    """Heads, config, recipe and curve."""
    folder = CHECKPOINTS / name
    model.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(RECIPES[name].to_dict(), indent=2) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))


def train_all(names: list[str]) -> None:
    """Trajectories and their states once, then heads by each recipe on them."""
    require_known("recipe", names, RECIPES)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load(BASE, device, torch.float32)
    rows = []
    for task in map(get_task, TASKS):
        rows += trajectories(base, task, PROMPTS, SAMPLES, BUILD / "autodeco" / BASE / f"{task.name}.jsonl")
    states = states_of(base, rows)
    unembedding = base.network.get_output_embeddings()
    for name in names:
        config = HeadsConfig(unembedding.weight.shape[1])
        heads, curve = train_heads(unembedding, states, config, RECIPES[name], BUILD / "autodeco" / name, device)
        export(name, AutoDecoForCausalLM.from_base(base.network, heads), curve)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.autodeco", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES)}; all if none is named")
    names = parser.parse_args(arguments).names or list(RECIPES)
    return exit_status(lambda: train_all(names))


if __name__ == "__main__":
    sys.exit(main())
