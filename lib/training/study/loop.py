"""The training loop: seeded, resumable after a kill, on whatever device there is."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from lib.errors import UserError
from lib.models.study import build_model
from lib.training.study.data import Batch, by_length, collate, examples, order
from lib.training.study.objectives import OBJECTIVES
from lib.training.study.recipe import Recipe

SAVE_EVERY = 100
PARTS = 4


def train(recipe: Recipe, tokenizer, folder: Path, *, load, device: str = "cpu"):
    """Train one study model and return it.

    `folder` holds `state.pt` (weights, optimiser, step) and `curve.jsonl` (a line every ten steps); a run
    that finds them goes on from there. `load(name)` returns an already trained model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.name).to(device)
    if recipe.start:
        model.load_state_dict(load(recipe.start).state_dict())
    teacher = load(recipe.teacher).to(device).eval() if recipe.teacher else None
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    done = _resume(folder, recipe, model, optimiser)
    curve = _curve(folder, done)

    held_out = examples(tokenizer, 512, split="validation")
    full_canvas = recipe.objective == "masked_diffusion"
    objective = OBJECTIVES[recipe.objective]
    given = {
        "teacher": teacher,
        "mask_id": tokenizer.mask_token_id,
        "eot_id": tokenizer.eos_token_id,
        "suffixes": recipe.suffixes,
        "causal": recipe.causal,
    }
    rows, batches, place = [], [], (None, None)

    def weight(row) -> int:  # response positions, which the mean of a batch runs over
        return row.canvas if full_canvas else len(row.response)

    bar = tqdm(range(done, recipe.steps), initial=done, total=recipe.steps, desc=recipe.name, unit="step")
    running = []
    for step in bar:
        first, mixture = max(stage for stage in recipe.stages if stage[0] <= step)
        if mixture != place[0]:
            rows = examples(tokenizer, recipe.sequences, mixture)
        per_epoch = len(rows) // recipe.batch_size
        epoch, index = divmod(step - first, per_epoch)
        if (mixture, epoch) != place:
            place = (mixture, epoch)
            batches = order(rows, recipe.batch_size, recipe.seed, epoch)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step)
        # The masks of a step depend on the step alone, so that a resumed run draws the same ones.
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        chosen = [rows[i] for i in batches[index]]
        total = sum(weight(row) for row in chosen)
        for part in by_length(chosen, PARTS):
            batch = _to(collate(part, tokenizer.pad_token_id, full_canvas), device)
            loss = objective(model, batch, generator=generator, **given)
            loss = loss * (sum(weight(row) for row in part) / total)
            loss.backward()
            running.append(loss.item() * PARTS)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 10 == 0:
            row = {"step": step + 1, "loss": sum(running) / len(running), "learning_rate": recipe.rate(step)}
            running = []
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
                row["validation_loss"] = _validation(
                    model, held_out, objective, recipe, tokenizer, full_canvas, given, device
                )
            curve.append(row)
            bar.set_postfix(loss=f"{row['loss']:.3f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            _save(folder, recipe, model, optimiser, step + 1, curve)
    return model.eval()


def _to(batch: Batch, device: str) -> Batch:
    return Batch(*(tensor.to(device) for tensor in vars(batch).values()))


@torch.no_grad()
def _validation(model, rows, objective, recipe, tokenizer, full_canvas, given, device) -> float:
    """Mean loss over held-out sequences with fixed masks."""
    generator = torch.Generator().manual_seed(1)
    losses = []
    for indices in order(rows, recipe.batch_size, 0, 0):
        batch = _to(collate([rows[i] for i in indices], tokenizer.pad_token_id, full_canvas), device)
        losses.append(objective(model, batch, generator=generator, **given).item())
    return sum(losses) / len(losses)


def _save(folder: Path, recipe: Recipe, model, optimiser, step: int, curve: list[dict]) -> None:
    state = {
        "recipe": asdict(recipe),
        "step": step,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    torch.save(state, folder / "state.tmp")
    (folder / "curve.tmp").write_text("".join(json.dumps(row) + "\n" for row in curve))
    os.replace(folder / "curve.tmp", folder / "curve.jsonl")
    os.replace(folder / "state.tmp", folder / "state.pt")


def _resume(folder: Path, recipe: Recipe, model, optimiser) -> int:
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["recipe"] != asdict(recipe):
        raise UserError(f"{path} was made by another recipe: remove the folder to train anew")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"]


def _curve(folder: Path, done: int) -> list[dict]:
    path = folder / "curve.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if row["step"] <= done]
