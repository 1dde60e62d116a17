"""Natural-language control (paper section 3.3): commands for low and high diversity that the heads learn to follow.

The paper names a ranking loss and gives no formula. Ours: for a question x with response y and the mean prediction
m(x) over the tokens of y, for temperature and for top-p,

    relu(margin - (m(x + high) - m(x))) + relu(margin - (m(x) - m(x + low)))

averaged over questions, plus the training loss of the heads on the plain question. All three see the same y.

One step beyond the paper, a command that asks for no randomness at all: with m0 of the heads before,

    m(x + none) + 2 |m(x) - m0(x)|

of the temperature is added. Without the second part all temperatures fall to 0, from where no gradient leads back.
"""

import copy
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
    "I want certain answers only.",
    "Keep the diversity low.",
    "Ensure that the output varies little.",
    "Take no risks with the wording.",
    "I hope for an exact and sober answer.",
    "Low temperature, please.",
)
HIGH = (
    "Please make the answer as varied as possible.",
    "Answer with high diversity.",
    "Be bold and creative.",
    "Surprise me with the answer.",
    "Give an unusual answer.",
    "Explore freely.",
    "I want inventive answers only.",
    "Keep the diversity high.",
    "Ensure that the output varies much.",
    "Take risks with the wording.",
    "I hope for a fresh and daring answer.",
    "High temperature, please.",
)
NONE = (
    "Leave nothing to chance.",
    "Use no randomness at all.",
    "Always choose the likeliest word.",
    "Decode greedily.",
    "Set the temperature to zero.",
    "Answer without any sampling.",
    "Your output has to be free of chance.",
    "Ensure that nothing is drawn at random.",
    "No variation is wanted at all.",
    "Be fully deterministic.",
    "Zero temperature, please.",
    "Give the same answer every time.",
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
    heads' own loss. none: weight of the commands for no randomness; 0 leaves those out.
    """

    pool: int = 1500
    steps: int = 1000
    questions: int = 64
    learning_rate: float = 1e-3
    temperature_margin: float = 0.1
    top_p_margin: float = 0.05
    ranking: float = 1.0
    none: float = 0.0
    seed: int = 0

    def check(self) -> None:
        for name in ("pool", "steps", "questions"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "temperature_margin", "top_p_margin", "ranking"):
            self.require(name, getattr(self, name) > 0, "above 0")
        self.require("none", self.none >= 0, "0 (off) or more")


CONTROLS = {
    "study-ar-control": Control(),
    "study-ar-no-randomness": Control(none=1.0),
    "study-ar-adapter": Control(none=1.0),
}


@dataclass(frozen=True)
class Commanded:
    """States of the same responses behind the plain questions and behind commands, by what `commands_of` calls them.

    `question` [N] numbers the question of each token, from 0 to `count` - 1.
    """

    states: dict[str, States]
    question: Tensor
    count: int


def commands_of(control: Control) -> dict[str, tuple[str, ...]]:
    """What is put behind a question to learn from; `plain` is nothing."""
    commands = {"plain": ("",), "low": LOW, "high": HIGH}
    return commands | {"none": NONE} if control.none else commands


def commanded_states(model: Model, rows: list[tuple[str, list[int]]], control: Control) -> Commanded:
    """States of some (prompt, response ids) without and with commands, each question with random ones."""
    chooser = random.Random(control.seed)
    chosen = chooser.sample(rows, min(control.pool, len(rows)))
    states = {
        name: states_of(model, [(commanded(prompt, chooser.choice(commands)), ids) for prompt, ids in chosen])
        for name, commands in commands_of(control).items()
    }
    return Commanded(states, question_of([ids for _, ids in chosen]), len(chosen))


def question_of(responses: list[list[int]]) -> Tensor:
    """[N] the number of the response that each of the N tokens belongs to."""
    lengths = torch.tensor([len(response) for response in responses])
    return torch.repeat_interleave(torch.arange(len(responses)), lengths)


def ranking_loss(plain: Tensor, low: Tensor, high: Tensor, margin: float) -> Tensor:
    """Of means [Q]: 0 where high lies `margin` above plain and low `margin` below it."""
    return (torch.relu(margin - (high - plain)) + torch.relu(margin - (plain - low))).mean()


def command_loss(
    found: dict[str, tuple[Tensor, Tensor]], before: Tensor, places: Tensor, count: int, control: Control
) -> Tensor:
    """Ranking of both settings, and T-hat without randomness: T-hat [n] and P-hat [n] behind each command.

    `before` [n]: T-hat behind the plain question, by the heads before they were taught. `places` [n] numbers the
    question of each token, of `count`.
    """
    loss = 0.0
    for i, margin in enumerate((control.temperature_margin, control.top_p_margin)):
        means = {name: _mean(settings[i], places, count) for name, settings in found.items()}
        loss = loss + control.ranking * ranking_loss(means["plain"], means["low"], means["high"], margin)
    if "none" in found:
        moved = (_mean(found["plain"][0], places, count) - _mean(before, places, count)).abs()
        loss = loss + control.none * (_mean(found["none"][0], places, count) + 2 * moved).mean()
    return loss


def shifts(found: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """How far each command moves the mean T-hat from that of the plain questions, for a curve."""
    plain = found["plain"][0].mean()
    return {name: round((found[name][0].mean() - plain).item(), 5) for name in found if name != "plain"}


def train_control(heads: Heads, unembedding, data: Commanded, recipe: Recipe, control: Control) -> list[dict]:
    """Train `heads` further, in place; returns a row every ten steps. The base stays as it is."""
    before = copy.deepcopy(heads)
    heads.requires_grad_(True)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=control.learning_rate)
    rows_of = [torch.nonzero(data.question == i).squeeze(-1) for i in range(data.count)]
    curve = []
    for step in tqdm(range(control.steps), desc="control", unit="step"):
        generator = torch.Generator().manual_seed(control.seed * 1_000_003 + step)
        chosen = torch.randint(data.count, (control.questions,), generator=generator)
        rows = torch.cat([rows_of[i] for i in chosen.tolist()])
        places = question_of([rows_of[i].tolist() for i in chosen.tolist()])
        found = {}
        for name, states in data.states.items():
            hidden = states.hidden[rows].float()
            with torch.no_grad():
                logits = unembedding(hidden).float()
            found[name] = heads(hidden, logits)[:2]
            if name == "plain":
                loss, was = (
                    loss_of(logits, *found[name], states.tokens[rows], recipe, generator),
                    before.temperature(hidden),
                )
        loss = loss + command_loss(found, was, places, len(chosen), control)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 10 == 0:
            curve.append({"step": step + 1, "loss": round(loss.item(), 5), **shifts(found)})
    heads.requires_grad_(False)
    return curve


def _mean(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Mean of values [n] by place: [count]."""
    sums = values.new_zeros(count).index_add(0, places, values)
    return sums / torch.bincount(places, minlength=count)
