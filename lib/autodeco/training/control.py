"""Natural-language control (paper section 3.3): commands for low and high diversity that the heads learn to follow.

The paper names a ranking loss and gives no formula. Ours: for a question x with response y and the mean prediction
m(x) over the tokens of y, for temperature and for top-p,

    relu(margin - (m(x + high) - m(x))) + relu(margin - (m(x) - m(x + low)))

averaged over questions, plus the training loss of the heads on the plain question. All three see the same y.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from lib.autodeco.heads import Heads
from lib.autodeco.training.loop import loss_of
from lib.autodeco.training.recipe import Recipe
from lib.autodeco.training.states import States, states_of
from lib.evaluation import commanded
from lib.models.registry import Model
from lib.options import Options

# Learned from; those below are for the test alone.
LOW = (
    "Please keep the answer as predictable as possible.",
    "Answer with low diversity.",
    "Be conservative and precise.",
    "Do not be creative here.",
    "Give the most likely answer.",
    "Stay deterministic.",
)
HIGH = (
    "Please make the answer as varied as possible.",
    "Answer with high diversity.",
    "Be bold and creative.",
    "Surprise me with the answer.",
    "Give an unusual answer.",
    "Explore freely.",
)
# The first of each is quoted in the paper.
HELD_OUT_LOW = (
    "I hope the answers can be as certain as possible.",
    "Please ensure that the diversity of your output is low.",
)
HELD_OUT_HIGH = (
    "I hope the answers can be more innovative and diverse.",
    "Please ensure that the diversity of your output is high.",
)
NO_RANDOMNESS = "Ensure your generation has no randomness."  # the paper: only a modest drop


@dataclass(frozen=True)
class Control(Options):
    """How heads that already choose well learn to follow commands; the margins are those of the ranking loss.

    pool: how many of the responses are learned from. questions: of these, a step. ranking: its weight beside the
    heads' own loss.
    """

    pool: int = 1500
    steps: int = 300
    questions: int = 64
    learning_rate: float = 3e-4
    temperature_margin: float = 0.1
    top_p_margin: float = 0.05
    ranking: float = 1.0
    seed: int = 0

    def check(self) -> None:
        for name in ("pool", "steps", "questions"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "temperature_margin", "top_p_margin", "ranking"):
            self.require(name, getattr(self, name) > 0, "above 0")


CONTROLS = {"study-ar-control": Control()}


@dataclass(frozen=True)
class Commanded:
    """States of the same responses behind the plain questions and behind a low and a high command.

    `question` [N] numbers the question of each token, from 0 to `count` - 1.
    """

    plain: States
    low: States
    high: States
    question: Tensor
    count: int


def commanded_states(model: Model, rows: list[tuple[str, list[int]]], control: Control) -> Commanded:
    """States of some (prompt, response ids) without and with commands, each question with a random pair of them."""
    chooser = random.Random(control.seed)
    chosen = chooser.sample(rows, min(control.pool, len(rows)))
    found = {
        name: states_of(model, [(commanded(prompt, chooser.choice(commands)), ids) for prompt, ids in chosen])
        for name, commands in (("plain", ("",)), ("low", LOW), ("high", HIGH))
    }
    question = question_of([ids for _, ids in chosen])
    return Commanded(question=question, count=len(chosen), **found)


def question_of(responses: list[list[int]]) -> Tensor:
    """[N] the number of the response that each of the N tokens belongs to."""
    lengths = torch.tensor([len(response) for response in responses])
    return torch.repeat_interleave(torch.arange(len(responses)), lengths)


def ranking_loss(plain: Tensor, low: Tensor, high: Tensor, margin: float) -> Tensor:
    """Of means [Q]: 0 where high lies `margin` above plain and low `margin` below it."""
    return (torch.relu(margin - (high - plain)) + torch.relu(margin - (plain - low))).mean()


def train_control(heads: Heads, unembedding, data: Commanded, recipe: Recipe, control: Control) -> list[dict]:
    """Train `heads` further, in place; returns a row every ten steps. The base stays as it is."""
    heads.requires_grad_(True)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=control.learning_rate)
    rows_of = [torch.nonzero(data.question == i).squeeze(-1) for i in range(data.count)]
    curve = []
    for step in tqdm(range(control.steps), desc="control", unit="step"):
        generator = torch.Generator().manual_seed(control.seed * 1_000_003 + step)
        chosen = torch.randint(data.count, (control.questions,), generator=generator)
        tokens = torch.cat([rows_of[i] for i in chosen.tolist()])
        places = question_of([rows_of[i].tolist() for i in chosen.tolist()])
        found = {name: _predict(heads, unembedding, getattr(data, name), tokens) for name in ("plain", "low", "high")}
        loss = loss_of(*found["plain"], data.plain.tokens[tokens], recipe, generator)
        for i, margin in ((1, control.temperature_margin), (2, control.top_p_margin)):
            means = {name: _mean(values[i], places, len(chosen)) for name, values in found.items()}
            loss = loss + control.ranking * ranking_loss(means["plain"], means["low"], means["high"], margin)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 10 == 0:
            shift = {name: (found[name][1].mean() - found["plain"][1].mean()).item() for name in ("low", "high")}
            curve.append(
                {"step": step + 1, "loss": round(loss.item(), 5), **{k: round(v, 5) for k, v in shift.items()}}
            )
    heads.requires_grad_(False)
    return curve


def _predict(heads: Heads, unembedding, states: States, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [n, V], T-hat [n] and P-hat [n] of some tokens."""
    hidden = states.hidden[tokens].float()
    with torch.no_grad():
        logits = unembedding(hidden).float()
    return logits, *heads(hidden, logits)


def _mean(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Mean of values [n] by place: [count]."""
    sums = values.new_zeros(count).index_add(0, places, values)
    return sums / torch.bincount(places, minlength=count)
