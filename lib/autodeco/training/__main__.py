"""`python -m lib.autodeco.training [NAME ...]`: train heads on a study model, into `results/checkpoints/`."""

import argparse
import json
import sys
import time

import torch

from lib.autodeco.model import AutoDecoForCausalLM, fingerprint
from lib.autodeco.training.control import CONTROLS, commanded_states, train_control
from lib.autodeco.training.loop import train_heads
from lib.autodeco.training.recipe import RECIPES
from lib.autodeco.training.states import states_of, trajectories
from lib.errors import exit_status, require_known
from lib.models.registry import load
from lib.paths import BUILD, CHECKPOINTS
from lib.report import device_name
from lib.tasks import get_task

BASE = "study-ar"
TASKS = ("gsm_symbolic", "country_facts", "small_functions")
PROMPTS, SAMPLES = 1500, 4  # draws a task; the right ones are trained on


def export(name: str, model, curve: list[dict], measured: dict) -> None:
    """Heads, config, recipe, curve and what the training took."""
    folder = CHECKPOINTS / name
    model.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(RECIPES[name].to_dict(), indent=2) + "\n")
    (folder / "measured.json").write_text(json.dumps(measured, indent=2) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))


def train_all(names: list[str]) -> None:
    """Trajectories and their states once, then heads by each recipe on them."""
    require_known("recipe", names, RECIPES)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load(BASE, device, torch.float32)
    work = BUILD / "autodeco" / f"{BASE}-{fingerprint(base.network)}"  # of another base nothing is taken over
    rows = []
    for task in map(get_task, TASKS):
        rows += trajectories(base, task, PROMPTS, SAMPLES, work / f"{task.name}.jsonl")
    states, taught = states_of(base, rows), None
    unembedding = base.network.get_output_embeddings()
    for name in names:
        recipe, control = RECIPES[name], CONTROLS.get(name)
        heads, curve, seconds = train_heads(unembedding, states, recipe, work / name, device)
        if control:
            taught = taught or commanded_states(base, rows, control)
            start = time.perf_counter()
            curve += train_control(heads, unembedding, taught, recipe, control)
            seconds += time.perf_counter() - start
        measured = {"positions": len(states.tokens), "seconds": round(seconds, 1), "device": device_name(device)}
        export(name, AutoDecoForCausalLM.from_base(base.network, heads), curve, measured)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.autodeco.training", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES)}; all if none is named")
    names = parser.parse_args(arguments).names or list(RECIPES)
    return exit_status(lambda: train_all(names))


if __name__ == "__main__":
    sys.exit(main())
