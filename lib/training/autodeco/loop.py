"""Training the heads on cached hidden states: minutes on a CPU, seeded, resumable."""

import json
from pathlib import Path

import torch
from torch import Tensor

from lib.autodeco.heads import Heads, HeadsConfig
from lib.decoding.options import Options
from lib.errors import UserError
from lib.running.cost import device_name
from lib.training.autodeco.hidden_states import States
from lib.training.autodeco.recipe import Recipe
from lib.training.autodeco.soft import objective
from lib.training.optimise import optimise

HELD_OUT_EVERY = 100
HELD_OUT = 4096  # positions


def train_heads(
    unembedding, states: States, recipe: Recipe, folder: Path, device: str = "cpu", held_out: States | None = None
):
    """Train heads and return (heads, curve, seconds): a row every ten steps with loss, mean T-hat and mean P-hat.

    `unembedding` maps hidden [N, H] to logits [N, V]. `folder` keeps the state, so that a killed run goes on. Every
    hundredth step's row has the loss on `held_out` too. `heads.records` has the recipe and what the training took,
    which `save_pretrained` writes beside them.
    """
    if not len(states.tokens):
        raise UserError("no right answers to train heads on: draw more trajectories, or take an easier task")
    torch.manual_seed(recipe.seed)
    size = unembedding.weight.shape[1]
    shape = {"hottest": recipe.hottest, "statistics": recipe.statistics, "detach": recipe.detach}
    heads = Heads(HeadsConfig(size, recipe.width, heads=recipe.train, **shape)).to(device)
    heads.requires_grad_(False)
    for name in recipe.train:
        {"temperature": heads.temp_head, "top_p": heads.top_p_head}[name].requires_grad_(True)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        chosen = torch.randint(len(states.tokens), (recipe.batch,), generator=generator)
        loss, temperature, top_p = _loss(heads, unembedding, states, chosen, recipe, generator, device)
        shown = {"temperature": temperature, "top_p": top_p}
        if held_out is not None and (step + 1) % HELD_OUT_EVERY == 0:
            with torch.no_grad():
                fixed = torch.Generator().manual_seed(recipe.seed)
                some = torch.randperm(len(held_out.tokens), generator=fixed)[:HELD_OUT]
                shown["held_out"] = _loss(heads, unembedding, held_out, some, recipe, fixed, device)[0].item()
        return loss, shown

    key = json.dumps([recipe.to_dict(), states.fingerprint()])
    given = {"steps": recipe.steps, "learning_rate": recipe.learning_rate, "path": folder / "heads.pt", "key": key}
    curve, seconds = optimise(loss_at, {"heads": heads}, device=device, **given)
    measured = {"positions": len(states.tokens), "seconds": round(seconds, 1), "device": device_name(device)}
    heads.records = {"recipe.json": recipe.to_dict(), "measured.json": measured, "curve.jsonl": curve}
    return heads.requires_grad_(False).eval(), curve, seconds


def record(heads: Heads, name: str, options: Options, curve: list[dict], seconds: float) -> None:
    """Add to what heads know of their training that they went on by these options."""
    then = getattr(heads, "records", {})
    measured = then.get("measured.json", {})
    seconds = round(measured.get("seconds", 0.0) + seconds, 1)
    heads.records = {
        "recipe.json": then.get("recipe.json", {}) | {name: options.to_dict()},
        "measured.json": measured | {"seconds": seconds},
        "curve.jsonl": then.get("curve.jsonl", []) + curve,
    }


def _loss(heads, unembedding, states: States, chosen: Tensor, recipe: Recipe, generator, device: str):
    """Loss of the chosen positions, with their mean T-hat and P-hat."""
    hidden, tokens = states.hidden[chosen].float().to(device), states.tokens[chosen].to(device)
    with torch.no_grad():
        logits = logits_of(unembedding, hidden)
    temperature, top_p, _ = heads(hidden, logits)
    loss = loss_of(logits, temperature, top_p, tokens, recipe, generator)
    return loss, temperature.mean().item(), top_p.mean().item()


def logits_of(unembedding, hidden: Tensor) -> Tensor:
    """Logits [N, V] in float32 of hidden [N, H]; the unembedding may be of another dtype or on another device."""
    return unembedding(hidden.to(unembedding.weight)).float().to(hidden.device)


def loss_of(logits: Tensor, temperature: Tensor, top_p: Tensor, tokens: Tensor, recipe: Recipe, generator) -> Tensor:
    """The recipe's loss of N positions with its masking and weights: logits [N, V], the rest [N]."""
    logits = logits.clamp(min=torch.finfo(torch.float32).min)  # -inf / T has no gradient
    weights = torch.softmax(logits.detach(), -1).gather(-1, tokens[:, None]).squeeze(-1)
    drawn = torch.rand(len(tokens), generator=generator).to(tokens.device)
    easy = (logits.argmax(-1) == tokens) & (drawn < recipe.mask_easy)
    if not recipe.fine_tuning_weights:
        weights = torch.ones_like(weights)
    return objective(recipe.objective, logits, temperature, top_p, tokens, ~easy, weights, recipe.alpha, recipe.train)
