"""Heads trained together with a low-rank adapter of the base, which the paper leaves to future work.

The heads read the base's last hidden state. A base that was never asked to decode without randomness need not
carry such a command there; an adapter can learn to. Heads that were taught the commands alone (control.py) go on
together with it. The loss is that of the commands with the heads' own on the plain question, both through base and
heads, and the adapted base's cross-entropy of the right answer behind every command, so that it goes on answering.
"""

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy

from lib.autodeco.heads import HEADS, Heads
from lib.decoding.options import Options
from lib.models.registry import Model
from lib.running.respond import commanded
from lib.training.autodeco.control import Control, command_loss, commands_of, question_of, shifts
from lib.training.autodeco.hidden_states import response_states
from lib.training.autodeco.loop import logits_of, loss_of, record
from lib.training.autodeco.recipe import Recipe
from lib.training.optimise import optimise

SAVE_EVERY = 25
WINDOW = 8  # a step's questions are drawn from this many times as many of like length


@dataclass(frozen=True)
class Adapter(Options):
    """rank: of the adapter of every linear layer. questions: a step, each plain and behind every kind of command."""

    rank: int = 8
    steps: int = 200
    questions: int = 24
    learning_rate: float = 1e-3
    seed: int = 0

    def check(self) -> None:
        for name in ("rank", "steps", "questions"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        self.require("learning_rate", self.learning_rate > 0, "above 0")


ADAPTERS = {"study-ar-adapter": Adapter(), "smollm2-135m-adapter": Adapter(steps=60, questions=4, learning_rate=3e-4)}


def train_adapter(
    model: Model,
    heads: Heads,
    rows: list[tuple[str, list[int]]],
    recipe: Recipe,
    control: Control,
    adapter: Adapter,
    folder: Path,
    device: str = "cpu",
):
    """Train `heads` and an adapter of `model`, both in place; returns (the adapted network, curve, seconds).

    `rows`: (prompt, right response ids). `folder` keeps the state, so that a killed run goes on.
    """
    torch.manual_seed(adapter.seed)
    unembedding = model.network.get_output_embeddings()
    low_rank = LoraConfig(r=adapter.rank, lora_alpha=2 * adapter.rank, target_modules="all-linear")
    network = get_peft_model(model.network, low_rank)
    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))  # a step's are of like length: less padding
    before = copy.deepcopy(heads)
    heads.requires_grad_(True)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        chooser = random.Random(f"{adapter.seed}/{step}")
        generator = torch.Generator().manual_seed(adapter.seed * 1_000_003 + step)
        first = chooser.randrange(max(1, len(ordered) - WINDOW * adapter.questions + 1))
        chosen = chooser.sample(ordered[first : first + WINDOW * adapter.questions], adapter.questions)
        places, found, losses = question_of([ids for _, ids in chosen]).to(device), {}, []
        for name, commands in commands_of(control).items():
            asked = [(commanded(prompt, chooser.choice(commands)), ids) for prompt, ids in chosen]
            hidden, tokens = response_states(model, asked)
            logits = logits_of(unembedding, hidden)
            found[name] = heads(hidden.float(), logits)[:2]
            losses.append(cross_entropy(logits, tokens))
            if name == "plain":
                own = loss_of(logits, *found[name], tokens, recipe, generator)
                with torch.no_grad(), network.disable_adapter():
                    hidden = response_states(model, asked)[0]
                    was = before(hidden.float(), logits_of(unembedding, hidden))[:2]
        loss, shown = own + torch.stack(losses).mean(), {}
        for i, setting in enumerate(HEADS):
            values = {name: settings[i] for name, settings in found.items()}
            loss = loss + command_loss(values, was[i], places, len(chosen), control, setting)
            shown |= shifts(values, setting)
        return loss, shown

    key = json.dumps([rows, *(options.to_dict() for options in (recipe, control, adapter))])
    given = {"steps": adapter.steps, "learning_rate": adapter.learning_rate, "path": folder / "adapter.pt"}
    trained = {"adapter": network, "heads": heads}
    curve, seconds = optimise(loss_at, trained, key=key, device=device, every=SAVE_EVERY, **given)
    heads.requires_grad_(False)
    record(heads, "adapter", adapter, curve, seconds)
    return network.eval(), curve, seconds
