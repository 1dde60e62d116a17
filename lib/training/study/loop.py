"""The training loop: seeded, resumable after a kill, on whatever device there is."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from lib.errors import UserError
from lib.models.study import build_model
from lib.paths import write_whole
from lib.running.lock import locked
from lib.running.schema import Count, Number, rows_of
from lib.training.state import CURE, read_state, save_state
from lib.training.study.data import Batch, Example, collate, examples, order, packed
from lib.training.study.objectives import OBJECTIVES, token_losses
from lib.training.study.recipe import Recipe, same_recipe

SAVE_SECONDS = 60
VALIDATE_EVERY = 200
CURVE_CURE = "remove the folder to train anew"


class Row(BaseModel):
    """A row of the curve."""

    step: Count
    loss: Number
    learning_rate: Number
    validation_loss: Number | None = None


class State(BaseModel):
    """What `state.pt` holds."""

    recipe: dict
    step: Count
    model: dict
    optimiser: dict
    curve: list[Row] | None = None  # an earlier version left it to curve.jsonl


def train(recipe: Recipe, tokenizer, folder: Path, *, load, device: str = "cpu", fast: bool = False):
    """Train one study model and return it; a second process on one `folder` waits for the first.

    `folder` holds `state.pt` (weights, optimiser, step, curve); a run that finds it goes on from there. The curve, a
    line every ten steps, is written beside it as `curve.jsonl`. `load(name)` returns an already trained model.
    `fast`: the step is compiled, and products are in bfloat16 where the device multiplies it in hardware.
    Raises UserError for a state that is damaged or of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "state", f"the training of {recipe.name}"):
        return _train(recipe, tokenizer, folder, load, device, fast)


def _train(recipe: Recipe, tokenizer, folder: Path, load, device: str, fast: bool):
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.shape).to(device)
    if recipe.start:
        model.load_state_dict(load(recipe.start).state_dict())
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    done, curve = _resume(folder, recipe, model, optimiser)
    full_canvas = recipe.objective == "masked_diffusion"
    given = {
        "teacher": load(recipe.teacher).to(device).eval() if recipe.teacher else None,
        "mask_id": tokenizer.mask_token_id,
        "eot_id": tokenizer.eos_token_id,
        "suffixes": recipe.suffixes,
        "causal": recipe.causal,
        "corrected": recipe.corrected,
        "losses": torch.compile(token_losses, dynamic=False) if fast else token_losses,
    }
    half = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast and _multiplies_bfloat16(device))

    def loss_of(chosen: list[Example], generator: torch.Generator, at_least: int = 0) -> Tensor:
        batch = collate(chosen, tokenizer.pad_token_id, full_canvas, at_least=at_least)
        batch = Batch(*(tensor.to(device, non_blocking=True) for tensor in vars(batch).values()))
        with half:
            return OBJECTIVES[recipe.objective](model, batch, generator=generator, **given)

    held_out = examples(tokenizer, 512, "validation")
    rows = examples(tokenizer, recipe.sequences)
    batches, ordered, shape = [], None, 0
    bar = tqdm(range(done, recipe.steps), initial=done, total=recipe.steps, desc=recipe.name, unit="step")
    running, saved = [], time.monotonic()
    for step in bar:
        epoch, index = divmod(step, len(rows) // recipe.batch_size)
        if epoch != ordered:
            ordered = epoch
            batches = order(rows, recipe.batch_size, recipe.seed, epoch)
            # Draws depend on the shape, so that it is the epoch's own and no matter of where the run began.
            shape = most_rows(rows, batches, full_canvas) if fast else 0
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step)
        # The masks of a step depend on the step alone, so that a resumed run draws the same ones.
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        loss = loss_of([rows[i] for i in batches[index]], generator, shape)
        loss.backward()
        running.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        last = step + 1 == recipe.steps
        if step + 1 in recipe.kept:  # before the state, or a kill between the two would lose it
            save_weights(model, folder / f"step-{step + 1}.safetensors")
        if (step + 1) % 10 and not last:
            continue
        row = {"step": step + 1, "loss": torch.stack(running).mean().item(), "learning_rate": recipe.rate(step)}
        running = []
        if (step + 1) % VALIDATE_EVERY == 0 or last:
            row["validation_loss"] = _validation(held_out, recipe.batch_size, loss_of, shape)
        curve.append(row)
        bar.set_postfix(loss=f"{row['loss']:.3f}")
        if time.monotonic() - saved > SAVE_SECONDS or last:
            _save(folder, recipe, model, optimiser, step + 1, curve)
            saved = time.monotonic()
    return model.eval()


def most_rows(rows: list[Example], batches: list[list[int]], full_canvas: bool) -> int:
    """Rows that the largest batch of an epoch is packed into."""
    return max(len(packed([rows[i].length(full_canvas) for i in batch])) for batch in batches)


def _multiplies_bfloat16(device: str) -> bool:
    return device != "cpu" or torch.cpu._is_amx_tile_supported()


@torch.no_grad()
def _validation(rows: list[Example], batch_size: int, loss_of, shape: int) -> float:
    """Mean loss over held-out sequences with fixed masks."""
    generator = torch.Generator().manual_seed(1)
    losses = [loss_of([rows[i] for i in batch], generator, shape).item() for batch in order(rows, batch_size, 0, 0)]
    return sum(losses) / len(losses)


def _save(folder: Path, recipe: Recipe, model, optimiser, step: int, curve: list[dict]) -> None:
    weights, moments = model.state_dict(), optimiser.state_dict()
    state = {"recipe": asdict(recipe), "step": step, "model": weights, "optimiser": moments, "curve": curve}
    save_state(state, folder / "state.pt")
    _write_curve(folder, curve)


def save_weights(model, path: Path) -> None:
    """Weights as they are committed: bfloat16, the tied head once."""
    weights = {
        key: value.detach().to("cpu", torch.bfloat16).contiguous()
        for key, value in model.state_dict().items()
        if key != "lm_head.weight"
    }
    save_file(weights, path.with_suffix(".tmp"), metadata={"format": "pt"})
    os.replace(path.with_suffix(".tmp"), path)


def _write_curve(folder: Path, curve: list[dict]) -> None:
    write_whole(folder / "curve.jsonl", "".join(json.dumps(row) + "\n" for row in curve))


def _resume(folder: Path, recipe: Recipe, model, optimiser) -> tuple[int, list[dict]]:
    """The step that `folder` holds, 0 without one, and the curve up to it."""
    path = folder / "state.pt"
    if not path.exists():
        return 0, []
    state = read_state(path, State)
    if not same_recipe(state["recipe"], recipe):
        raise UserError(f"{path} was made by another recipe: remove the folder to train anew")
    try:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError, KeyError) as error:  # the shapes of the network are no part of a recipe
        raise UserError(f"{path} is of another network than {recipe.name}: {CURE}") from error
    curve = state["curve"] if "curve" in state else _curve_beside(folder, state["step"])
    _write_curve(folder, curve)
    return state["step"], curve


def _curve_beside(folder: Path, done: int) -> list[dict]:
    """The rows of `curve.jsonl` up to a step, for a state of an earlier version. Raises UserError where some lack."""
    path = folder / "curve.jsonl"
    rows = [row for row in rows_of(path, Row, CURVE_CURE) if row["step"] <= done]
    if [row["step"] for row in rows] != list(range(10, done + 1, 10)):
        raise UserError(f"{path} does not hold a row for every ten of the {done} steps of state.pt: {CURVE_CURE}")
    return rows
