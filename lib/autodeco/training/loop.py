"""Training the heads on cached hidden states: minutes on a CPU, seeded, resumable."""

import json
import os
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from lib.autodeco.heads import Heads, HeadsConfig
from lib.autodeco.training.recipe import Recipe
from lib.autodeco.training.soft import objective
from lib.autodeco.training.states import States
from lib.errors import UserError
from lib.options import Options

SAVE_EVERY = 100


def train_heads(
    unembedding, states: States, recipe: Recipe, folder: Path, device: str = "cpu", held_out: States | None = None
):
    """Train heads and return (heads, curve, seconds): a row every ten steps with loss, mean T-hat and mean P-hat.

    `unembedding` maps hidden [N, H] to logits [N, V]. `folder` holds `state.pt`; a run that finds one of the
    same recipe goes on from there. Every hundredth step's row has the loss on `held_out` too.
    """
    if not len(states.tokens):
        raise UserError("no right answers to train heads on: draw more trajectories, or take an easier task")
    torch.manual_seed(recipe.seed)
    size = unembedding.weight.shape[1]
    heads = Heads(HeadsConfig(size, recipe.width, statistics=recipe.statistics, heads=recipe.train)).to(device)
    trained = {"temperature": heads.temp_head, "top_p": heads.top_p_head}
    heads.requires_grad_(False)
    for name in recipe.train:
        trained[name].requires_grad_(True)
    optimiser = torch.optim.AdamW([p for p in heads.parameters() if p.requires_grad], lr=recipe.learning_rate)
    path = folder / "state.pt"
    done, curve, seconds = 0, [], 0.0
    if saved := resumed(path, recipe, device):
        heads.load_state_dict(saved["heads"])
        optimiser.load_state_dict(saved["optimiser"])
        done, curve, seconds = saved["step"], saved["curve"], saved["seconds"]
    start = time.perf_counter() - seconds
    bar = tqdm(range(done, recipe.steps), initial=done, total=recipe.steps, desc="heads", unit="step")
    for step in bar:
        for group in optimiser.param_groups:  # linear decay over the second half
            group["lr"] = recipe.learning_rate * min(1.0, 2 * (1 - step / recipe.steps))
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        loss, temperature, top_p = _loss(heads, unembedding, states, recipe, generator, device)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 10 == 0:
            row = {"step": step + 1, "loss": loss.item(), "temperature": temperature, "top_p": top_p}
            if held_out is not None and (step + 1) % SAVE_EVERY == 0:
                with torch.no_grad():
                    fixed = torch.Generator().manual_seed(recipe.seed)
                    everything = torch.arange(len(held_out.tokens))
                    row["held_out"] = _loss(heads, unembedding, held_out, recipe, fixed, device, everything)[0].item()
            curve.append({key: round(value, 5) for key, value in row.items()})
            bar.set_postfix(loss=f"{loss.item():.3f}", T=f"{temperature:.2f}", P=f"{top_p:.2f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            state = {"heads": heads.state_dict(), "optimiser": optimiser.state_dict()}
            seconds = time.perf_counter() - start
            keep(path, recipe, {**state, "step": step + 1, "curve": curve, "seconds": seconds})
    return heads.requires_grad_(False).eval(), curve, time.perf_counter() - start


def resumed(path: Path, recipe: Options, device: str) -> dict | None:
    """The state that a killed run left, None where there is none. Raises UserError if another recipe left it."""
    if not path.exists():
        return None
    saved = torch.load(path, weights_only=True, map_location=device)
    if saved["recipe"] != json.dumps(recipe.to_dict()):
        raise UserError(f"{path} was made by another recipe: remove the folder to train anew")
    return saved


def keep(path: Path, recipe: Options, state: dict) -> None:
    """Write a state so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"recipe": json.dumps(recipe.to_dict()), **state}, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _loss(heads, unembedding, states: States, recipe: Recipe, generator, device: str, chosen: Tensor | None = None):
    """Loss of some positions, by default a random batch, with their mean T-hat and P-hat."""
    if chosen is None:
        chosen = torch.randint(len(states.tokens), (recipe.batch,), generator=generator)
    hidden, tokens = states.hidden[chosen].float().to(device), states.tokens[chosen].to(device)
    with torch.no_grad():
        logits = unembedding(hidden).float()
    temperature, top_p, _ = heads(hidden, logits)
    loss = loss_of(logits, temperature, top_p, tokens, recipe, generator)
    return loss, temperature.mean().item(), top_p.mean().item()


def loss_of(logits: Tensor, temperature: Tensor, top_p: Tensor, tokens: Tensor, recipe: Recipe, generator) -> Tensor:
    """The recipe's loss of N positions with its masking and weights: logits [N, V], the rest [N]."""
    weights = torch.softmax(logits.detach(), -1).gather(-1, tokens[:, None]).squeeze(-1)
    drawn = torch.rand(len(tokens), generator=generator).to(tokens.device)
    easy = (logits.argmax(-1) == tokens) & (drawn < recipe.mask_easy)
    if not recipe.fine_tuning_weights:
        weights = torch.ones_like(weights)
    return objective(recipe.objective, logits, temperature, top_p, tokens, ~easy, weights, recipe.alpha, recipe.train)
