"""`python -m lib.training.autodeco [NAME ...]`: train heads, into `results/checkpoints/`."""

import argparse
import json
import random
import sys
from hashlib import sha256

import torch
from safetensors.torch import load_file, save_file

from lib.autodeco.model import AutoDecoForCausalLM, fingerprint
from lib.errors import exit_status, require_known
from lib.models.cards import NAME, write
from lib.models.registry import Model, entry_of, load
from lib.paths import BUILD, CHECKPOINTS
from lib.running.cost import device_name
from lib.running.identity import digest_of
from lib.running.memory import batch_size
from lib.tasks import get_task
from lib.tasks.base import Task
from lib.training.autodeco import deepmath
from lib.training.autodeco.adapter import ADAPTERS, train_adapter
from lib.training.autodeco.canvas_states import canvas_states
from lib.training.autodeco.control import CONTROLS, commanded_states, drawn, train_control
from lib.training.autodeco.hidden_states import States, sampled_states, states_of, trajectories
from lib.training.autodeco.loop import train_heads
from lib.training.autodeco.recipe import RECIPES, SOURCES
from lib.training.autodeco.reward import REWARDS, first_heads, train_by_reward
from lib.training.cards import known

PROMPT = 512  # tokens that room is kept for beside a response
SHAPE = ("method", "train", "statistics", "width", "hottest", "detach")  # what a reward leaves of a recipe
HELD_OUT = 20  # one question in so many is kept for the curve of the loss


def export(name: str, model, curve: list[dict], measured: dict) -> None:
    """Heads, config, recipe, curve and what the training took."""
    folder = CHECKPOINTS / name
    model.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(recipe_of(name), indent=2) + "\n")
    (folder / "measured.json").write_text(json.dumps(measured, indent=2) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))


def recipe_of(name: str) -> dict:
    """Everything that these heads were trained with."""
    if name in REWARDS:
        recipe = RECIPES[name].to_dict()
        return {key: recipe[key] for key in SHAPE} | {"reward": REWARDS[name].to_dict()}
    taught = {"control": CONTROLS.get(name), "adapter": ADAPTERS.get(name)}
    return RECIPES[name].to_dict() | {key: options.to_dict() for key, options in taught.items() if options}


def export_adapter(name: str, adapted) -> None:
    """The adapter beside the heads in float16, in the form of `peft`, without what it writes into the model card."""
    folder = CHECKPOINTS / name
    card = (folder / NAME).read_text(encoding="utf-8")
    adapted.save_pretrained(folder)
    (folder / NAME).write_text(card, encoding="utf-8")
    path = folder / "adapter_model.safetensors"
    save_file({key: value.half() for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()  # peft writes a set, each time in another order
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def train_all(names: list[str]) -> None:
    """Heads by each recipe, base by base."""
    require_known("recipe", names, RECIPES)
    for base in SOURCES:
        here = [name for name in names if entry_of(name).base == base]
        if likely := [name for name in here if name not in REWARDS]:
            train_on(base, likely)
        for name in here:
            if name in REWARDS:
                train_rewarded(base, name)


def train_on(base_name: str, names: list[str]) -> None:
    """Trajectories of one base and their states once, then heads by each recipe on them."""
    device, source = "cuda" if torch.cuda.is_available() else "cpu", SOURCES[base_name]
    base = loaded(base_name, device)
    work = BUILD / "autodeco" / f"{base_name}-{fingerprint(base.network)}"  # of another base nothing is taken over
    rows = []
    for task in map(training_task, source.tasks):
        given = {"batch": batch_size(base, PROMPT, task.max_new_tokens, device)} if source.positions else {}
        rows += trajectories(base, task, source.prompts, source.samples, work / f"{task.name}.jsonl", **given)
    learned, held_out = split(rows)
    states, unseen = (_states(base, part, source.positions) for part in (learned, held_out))
    unembedding = base.network.get_output_embeddings()
    sentences = {}  # states behind them, by what decides them
    for name in names:
        recipe, control, adapter = RECIPES[name], CONTROLS.get(name), ADAPTERS.get(name)
        # By recipe and not by name: what several go on from is trained once.
        folder = work / _folder(recipe)
        watched = unseen if len(unseen.tokens) else None
        heads, curve, seconds = train_heads(unembedding, states, recipe, folder, device, watched)
        if control:
            if control not in sentences:
                watched = commanded_states(base, held_out, control, watched=True)
                sentences[control] = commanded_states(base, learned, control), watched
            data, watched = sentences[control]
            folder = folder / _folder(control)
            more, extra = train_control(heads, unembedding, data, recipe, control, folder, device, watched)
            curve, seconds = curve + more, seconds + extra
        adapted = None
        if adapter:
            fresh = loaded(base_name, device)  # the adapter is put into it
            pool = drawn(learned, control, random.Random(control.seed))
            folder = folder / _folder(adapter)
            adapted, more, extra = train_adapter(fresh, heads, pool, recipe, control, adapter, folder, device)
            curve, seconds = curve + more, seconds + extra
        measured = {"positions": len(states.tokens), "seconds": round(seconds, 1), "device": device_name(device)}
        model = AutoDecoForCausalLM.from_base(base.network, heads)
        model.heads = heads  # in float32 as they were trained, whatever the base is in
        export(name, model, curve, measured)
        if adapted is not None:
            export_adapter(name, adapted)
        write(CHECKPOINTS / name, known(name, CHECKPOINTS / name))


def _states(base: Model, rows: list[tuple[str, list[int]]], positions: int) -> States:
    """What heads of this base learn from: `positions` of a response, all where that is 0; masked ones of a mask
    model."""
    if base.family.mask_id is not None:
        return canvas_states(base, rows)
    return sampled_states(base, rows, positions) if positions else states_of(base, rows)


def train_rewarded(base_name: str, name: str) -> None:
    """Heads by the rewards of their own responses to the training items that others' trajectories are drawn for."""
    device, recipe, reward = "cuda" if torch.cuda.is_available() else "cpu", RECIPES[name], REWARDS[name]
    base = loaded(base_name, device)
    folder = BUILD / "autodeco" / f"{base_name}-{fingerprint(base.network)}" / _folder(reward) / _folder(recipe)
    tasks = [training_task(task) for task in SOURCES[base_name].tasks]
    size = base.network.get_output_embeddings().weight.shape[1]
    heads = first_heads(size, recipe, reward).to(device)
    curve, seconds = train_by_reward(base, heads, tasks, reward, folder, device)
    measured = {"responses": reward.responses, "seconds": round(seconds, 1), "device": device_name(device)}
    model = AutoDecoForCausalLM.from_base(base.network, heads)
    model.heads = heads  # in float32, as in train_on
    export(name, model, curve, measured)
    write(CHECKPOINTS / name, known(name, CHECKPOINTS / name))


def training_task(name: str) -> Task:
    """A task by its name, or the problems that are for training alone."""
    return deepmath.TASK if name == deepmath.TASK.name else get_task(name)


def loaded(base_name: str, device: str):
    """A base to train on: in float32, one of the hub in bfloat16 on a GPU, where four bytes a weight are too many."""
    return load(base_name, device, None if entry_of(base_name).tier == "paper" else torch.float32)


def _folder(options) -> str:
    """A name for what was trained with these options."""
    return f"{type(options).__name__.lower()}-{digest_of(options.to_dict())}"


def split(rows: list[tuple[str, list[int]]]) -> tuple[list, list]:
    """Rows to learn from and rows held out; all responses to a question are on one side."""
    kept: tuple[list, list] = ([], [])
    for row in rows:
        kept[sha256(row[0].encode()).digest()[0] % HELD_OUT == 0].append(row)
    return kept


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.training.autodeco", description=__doc__)
    some = "if none is named, all for small bases but those trained by reward"
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES)}; {some}")
    small = [name for name in RECIPES if entry_of(entry_of(name).base).tier != "paper" and name not in REWARDS]
    names = parser.parse_args(arguments).names or small
    return exit_status(lambda: train_all(names))


if __name__ == "__main__":
    sys.exit(main())
