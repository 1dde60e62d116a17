"""The loop that every training here shares: seeded by the step, resumable, with a curve."""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from tqdm import tqdm

from lib.errors import UserError
from lib.running.schema import Count, Number
from lib.training.state import CURE, read_state, save_state


class State(BaseModel):
    """What is kept of a training that goes on."""

    key: str
    parameters: dict
    optimiser: dict
    step: Count
    curve: list[dict[str, Number]]
    seconds: Number


def optimise(
    loss_at: Callable[[int], tuple[Tensor, dict]],
    trained: dict[str, nn.Module | Callable],
    *,
    steps: int,
    learning_rate: float,
    path: Path,
    key: str,
    device: str = "cpu",
    every: int = 100,
) -> tuple[list[dict], float]:
    """Minimise by AdamW, the learning rate falling over the second half; returns (curve, seconds).

    `loss_at(step)` gives the loss and what the curve shows of it, every ten steps a row; all its randomness comes
    from the step. `trained`: modules by name, of which the parameters that require a gradient are trained and
    saved. Every `every` steps the state goes to `path`, and a run that finds one there goes on from it; `key` says
    what it was made of. Raises UserError where that was something else, or where the state is damaged.
    """
    parameters = {
        f"{name}.{part}": p
        for name, module in trained.items()
        for part, p in module.named_parameters()
        if p.requires_grad
    }
    optimiser = torch.optim.AdamW(parameters.values(), lr=learning_rate)
    done, curve, seconds, name = 0, [], 0.0, sha256(key.encode()).hexdigest()
    if path.exists():
        saved = read_state(path, State, device)
        if saved["key"] != name:
            raise UserError(f"{path} was made by another recipe or from other data: remove it to train anew")
        try:
            with torch.no_grad():
                for part, p in parameters.items():
                    p.copy_(saved["parameters"][part])
            optimiser.load_state_dict(saved["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{path} is of other parameters than those trained here: {CURE}") from error
        done, curve, seconds = saved["step"], saved["curve"], saved["seconds"]
    start = time.perf_counter() - seconds
    bar = tqdm(range(done, steps), initial=done, total=steps, desc=path.stem, unit="step")
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, 2 * (1 - step / steps))
        loss, shown = loss_at(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        if (step + 1) % 10 == 0:
            row = {"loss": loss.item(), **shown}
            curve.append({"step": step + 1, **{key: round(value, 5) for key, value in row.items()}})
            bar.set_postfix({key: f"{value:.3f}" for key, value in row.items()})
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - start
            state = {"key": name, "optimiser": optimiser.state_dict(), "step": step + 1, "curve": curve}
            state |= {"parameters": {k: p.detach() for k, p in parameters.items()}, "seconds": seconds}
            save_state(state, path)
    return curve, time.perf_counter() - start
