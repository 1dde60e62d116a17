"""Natural-language control (paper section 3.3): commands for low and high diversity that the heads learn to follow.

The paper names a ranking loss and gives no formula. Ours: for a question x with response y, the mean prediction m(x)
over the tokens of y and m0(x), that of the heads before, for temperature and for top-p,

    relu(margin - (m(x + high) - m(x))) + relu(margin - (m(x) - m(x + low)))
    + keep (|m(x) - m0(x)| + |m(x + neutral) - m0(x)|)

averaged over questions, plus the training loss of the heads on the plain question. All see the same y. The second
line holds the plain question and one with a sentence that asks for nothing where they were: the training loss alone
is too weak for that. One step beyond the paper, none * m(x + none) of the temperature, for commands that ask for no
randomness at all.
"""

import copy
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lib.autodeco.heads import Heads
from lib.autodeco.training.commands import HIGH, LOW, NEUTRAL, NONE
from lib.autodeco.training.loop import loss_of
from lib.autodeco.training.optimise import optimise
from lib.autodeco.training.recipe import Recipe
from lib.autodeco.training.states import States, states_of
from lib.evaluation import commanded
from lib.models.registry import Model
from lib.options import Options

WATCHED = 2  # the last commands of each kind are not learned from: the curve shows whether they are followed


@dataclass(frozen=True)
class Control(Options):
    """How heads that already choose well learn to follow commands; the margins are those of the ranking loss.

    pool: how many of the responses are learned from. tokens: of each response, its first. questions: a step.
    ranking, keep, none: weights of the parts of the loss; none = 0 leaves its commands out.
    """

    pool: int = 1500
    tokens: int = 256
    steps: int = 600
    questions: int = 64
    learning_rate: float = 1e-3
    temperature_margin: float = 0.1
    top_p_margin: float = 0.05
    ranking: float = 1.0
    keep: float = 1.0
    none: float = 0.0
    seed: int = 0

    def check(self) -> None:
        for name in ("pool", "tokens", "steps", "questions"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "temperature_margin", "top_p_margin", "ranking"):
            self.require(name, getattr(self, name) > 0, "above 0")
        for name in ("keep", "none"):
            self.require(name, getattr(self, name) >= 0, "0 (off) or more")


SMALL = Control(pool=300, tokens=32, questions=8, steps=300)  # of a larger base, for two cores
CONTROLS = {
    "study-ar-control": Control(),
    "study-ar-no-randomness": Control(none=1.0),
    "study-ar-adapter": Control(none=1.0),
    "smollm2-135m-control": SMALL,
    "smollm2-135m-no-randomness": replace(SMALL, none=1.0),
    "smollm2-135m-adapter": replace(SMALL, none=1.0),
}


@dataclass(frozen=True)
class Commanded:
    """States of the same responses behind the plain questions and behind sentences, by what `commands_of` calls them.

    `question` [N] numbers the question of each token, from 0 to `count` - 1.
    """

    states: dict[str, States]
    question: Tensor
    count: int


def commands_of(control: Control, watched: bool = False) -> dict[str, tuple[str, ...]]:
    """What is put behind a question to learn from, or to watch; `plain` is nothing."""
    kinds = {"low": LOW, "high": HIGH, "neutral": NEUTRAL} | ({"none": NONE} if control.none else {})
    return {"plain": ("",)} | {k: c[-WATCHED:] if watched else c[:-WATCHED] for k, c in kinds.items()}


def commanded_states(
    model: Model, rows: list[tuple[str, list[int]]], control: Control, watched: bool = False
) -> Commanded:
    """States of some (prompt, response ids) without and with a sentence, each question with random ones."""
    chooser = random.Random(control.seed)
    chosen = drawn(rows, control)
    states = {
        name: states_of(model, [(commanded(prompt, chooser.choice(commands)), ids) for prompt, ids in chosen])
        for name, commands in commands_of(control, watched).items()
    }
    return Commanded(states, question_of([ids for _, ids in chosen]), len(chosen))


def drawn(rows: list[tuple[str, list[int]]], control: Control) -> list[tuple[str, list[int]]]:
    """The (prompt, response ids) that are learned from, of each response its first tokens."""
    chosen = random.Random(control.seed).sample(rows, min(control.pool, len(rows)))
    return [(prompt, ids[: control.tokens]) for prompt, ids in chosen]


def question_of(responses: list[list[int]]) -> Tensor:
    """[N] the number of the response that each of the N tokens belongs to."""
    lengths = torch.tensor([len(response) for response in responses])
    return torch.repeat_interleave(torch.arange(len(responses)), lengths)


def ranking_loss(plain: Tensor, low: Tensor, high: Tensor, margin: float) -> Tensor:
    """Of means [Q]: 0 where high lies `margin` above plain and low `margin` below it."""
    return (torch.relu(margin - (high - plain)) + torch.relu(margin - (plain - low))).mean()


def command_loss(
    found: dict[str, tuple[Tensor, Tensor]],
    before: tuple[Tensor, Tensor],
    places: Tensor,
    count: int,
    control: Control,
) -> Tensor:
    """The loss of the module's head, but for the training loss: T-hat [n] and P-hat [n] behind each sentence.

    `before`: the same behind the plain question, by the heads before they were taught. `places` [n] numbers the
    question of each token, of `count`.
    """
    loss = 0.0
    for i, margin in enumerate((control.temperature_margin, control.top_p_margin)):
        means = {name: mean_by(settings[i], places, count) for name, settings in found.items()}
        was = mean_by(before[i], places, count)
        loss = loss + control.ranking * ranking_loss(means["plain"], means["low"], means["high"], margin)
        moved = (means["plain"] - was).abs() + (means["neutral"] - was).abs()
        loss = loss + control.keep * moved.mean()
        if i == 0 and "none" in means:
            loss = loss + control.none * means["none"].mean()
    return loss


def shifts(found: dict[str, tuple[Tensor, Tensor]], prefix: str = "") -> dict[str, float]:
    """Mean T-hat behind the plain questions, and how far each kind of sentence moves it, for a curve."""
    plain = found["plain"][0].mean()
    moved = {f"{prefix}{name}": (found[name][0].mean() - plain).item() for name in found if name != "plain"}
    return {f"{prefix}plain": plain.item(), **moved}


def train_control(
    heads: Heads,
    unembedding,
    data: Commanded,
    recipe: Recipe,
    control: Control,
    folder: Path,
    device: str = "cpu",
    watched: Commanded | None = None,
) -> tuple[list[dict], float]:
    """Train `heads` further, in place; returns (curve, seconds). The base stays as it is.

    The curve shows the mean T-hat of the plain questions and the shifts from it, every hundredth step those of
    `watched` too. `folder` keeps the state, so that a killed run goes on.
    """
    before = copy.deepcopy(heads)
    key = json.dumps([recipe.to_dict(), control.to_dict(), *(s.fingerprint() for s in data.states.values())])
    heads.requires_grad_(True)
    rows_of = [torch.nonzero(data.question == i).squeeze(-1) for i in range(data.count)]

    def predicted(states: States, rows: Tensor, by: Heads) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden = states.hidden[rows].float().to(device)
        with torch.no_grad():
            logits = unembedding(hidden).float()
        return logits, by(hidden, logits)[:2]

    def loss_at(step: int) -> tuple[Tensor, dict]:
        generator = torch.Generator().manual_seed(control.seed * 1_000_003 + step)
        chosen = torch.randint(data.count, (control.questions,), generator=generator)
        rows = torch.cat([rows_of[i] for i in chosen.tolist()])
        places = question_of([rows_of[i].tolist() for i in chosen.tolist()]).to(device)
        found = {}
        for name, states in data.states.items():
            logits, found[name] = predicted(states, rows, heads)
            if name == "plain":
                own = loss_of(logits, *found[name], states.tokens[rows].to(device), recipe, generator)
                with torch.no_grad():
                    was = predicted(states, rows, before)[1]
        shown = shifts(found)
        if watched is not None and (step + 1) % 100 == 0:
            with torch.no_grad():
                everything = torch.arange(len(watched.question))
                seen = {name: predicted(states, everything, heads)[1] for name, states in watched.states.items()}
            shown |= shifts(seen, "watched_")
        return own + command_loss(found, was, places, len(chosen), control), shown

    given = {"steps": control.steps, "learning_rate": control.learning_rate, "path": folder / "control.pt"}
    curve, seconds = optimise(loss_at, {"heads": heads}, key=key, device=device, **given)
    heads.requires_grad_(False)
    return curve, seconds


def mean_by(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Mean of values [n] by place: [count]."""
    sums = values.new_zeros(count).index_add(0, places, values)
    return sums / torch.bincount(places, minlength=count)
