"""Natural-language control (paper section 3.3): commands for low and high diversity that the heads learn to follow.

The paper names a ranking loss and gives no formula. Ours: for a question x with response y, the mean prediction m(x)
over the tokens of y and m0(x), that of the heads before, for temperature and for top-p,

    relu(margin - (m(x + high) - m(x))) + relu(margin - (m(x) - m(x + low)))
    + keep (|m(x) - m0(x)| + |m(x + neutral) - m0(x)|)

averaged over questions, plus the training loss of the heads on some tokens of the plain question. All see the same
y. The second line holds the plain question and one with a sentence that asks for nothing where they were: the
training loss alone is too weak for that. It pulls only as hard as a margin that cannot be met pulls, such as one
above a top-p of 1: then the plain question may fall. One step beyond the paper, none * m(x + none) of the
temperature, for commands that ask for no randomness at all.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lib.autodeco.heads import HEADS, Heads
from lib.decoding.options import Options
from lib.errors import UserError
from lib.models.entries import PUBLISHED
from lib.models.registry import Model
from lib.running.respond import commanded
from lib.training.autodeco.commands import HIGH, LOW, NEUTRAL, NONE
from lib.training.autodeco.hidden_states import States, states_of
from lib.training.autodeco.loop import logits_of, loss_of, record
from lib.training.autodeco.recipe import Recipe
from lib.training.optimise import optimise

WATCHED = 2  # the last commands of each kind are not learned from: the curve shows whether they are followed


@dataclass(frozen=True)
class Control(Options):
    """How heads that already choose well learn to follow commands; the margins are those of the ranking loss.

    pool: how many of the responses are learned from. tokens: of each response, its first. questions: a step.
    positions: tokens of the plain questions at which a step takes the heads' own training loss.
    ranking, keep, none: weights of the parts of the loss; none = 0 leaves its commands out.
    """

    pool: int = 1500
    tokens: int = 256
    steps: int = 1000
    questions: int = 64
    positions: int = 256
    learning_rate: float = 2e-3
    temperature_margin: float = 0.1
    top_p_margin: float = 0.05
    ranking: float = 1.0
    keep: float = 1.0
    none: float = 0.0
    seed: int = 0

    def check(self) -> None:
        for name in ("pool", "tokens", "steps", "questions", "positions"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "temperature_margin", "top_p_margin", "ranking"):
            self.require(name, getattr(self, name) > 0, "above 0")
        for name in ("keep", "none"):
            self.require(name, getattr(self, name) >= 0, "0 (off) or more")


SMALL = Control(pool=300, tokens=32, positions=64)  # of a larger base, for two cores
CONTROLS = {
    "study-ar-control": Control(),
    "study-ar-no-randomness": Control(none=1.0),
    "study-ar-adapter": Control(none=1.0),
    "smollm2-135m-control": SMALL,
    "smollm2-135m-no-randomness": replace(SMALL, none=1.0),
    "smollm2-135m-adapter": replace(SMALL, none=1.0),
    **{f"{base}-control": Control() for base in PUBLISHED},
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
    chosen = drawn(rows, control, chooser)
    states = {
        name: states_of(model, [(commanded(prompt, chooser.choice(commands)), ids) for prompt, ids in chosen])
        for name, commands in commands_of(control, watched).items()
    }
    return Commanded(states, question_of([ids for _, ids in chosen]), len(chosen))


def drawn(rows: list[tuple[str, list[int]]], control: Control, chooser: random.Random) -> list[tuple[str, list[int]]]:
    """The (prompt, response ids) that are learned from, of each response its first tokens."""
    chosen = chooser.sample(rows, min(control.pool, len(rows)))
    return [(prompt, ids[: control.tokens]) for prompt, ids in chosen]


def question_of(responses: list[list[int]]) -> Tensor:
    """[N] the number of the response that each of the N tokens belongs to."""
    lengths = torch.tensor([len(response) for response in responses])
    return torch.repeat_interleave(torch.arange(len(responses)), lengths)


def ranking_loss(plain: Tensor, low: Tensor, high: Tensor, margin: float) -> Tensor:
    """Of means [Q]: 0 where high lies `margin` above plain and low `margin` below it."""
    return (torch.relu(margin - (high - plain)) + torch.relu(margin - (plain - low))).mean()


def command_loss(
    found: dict[str, Tensor], before: Tensor, places: Tensor, count: int, control: Control, setting: str
) -> Tensor:
    """The loss at the top of this file for one setting, but for the training loss: `found` [n] behind each sentence.

    `before` [n]: the same behind the plain question, by the heads before they were taught. `places` [n] numbers the
    question of each token, of `count`.
    """
    means = {name: mean_by(values, places, count) for name, values in found.items()}
    was = mean_by(before, places, count)
    margin = control.temperature_margin if setting == "temperature" else control.top_p_margin
    moved = (means["plain"] - was).abs() + (means["neutral"] - was).abs()
    loss = control.ranking * ranking_loss(means["plain"], means["low"], means["high"], margin)
    loss = loss + control.keep * moved.mean()
    if "none" in means and setting == "temperature":
        loss = loss + control.none * means["none"].mean()
    return loss


def shifts(found: dict[str, Tensor], prefix: str) -> dict[str, float]:
    """The mean of a setting behind the plain questions, and how far each kind of sentence moves it, for a curve."""
    plain = found["plain"].mean()
    moved = {f"{prefix}_{name}": (found[name].mean() - plain).item() for name in found if name != "plain"}
    return {f"{prefix}_plain": plain.item(), **moved}


@dataclass(frozen=True)
class Said:
    """What heads say along N positions: T-hat [N] and P-hat [N], and what enters the top-p head [N, ...]."""

    temperature: Tensor
    top_p: Tensor
    inputs: Tensor


@torch.no_grad()
def said(heads: Heads, unembedding, states: States, device: str = "cpu", batch: int = 1024) -> Said:
    """By `heads`, at all positions of `states`."""
    inputs: list[Tensor] = []
    handle = heads.top_p_head.register_forward_pre_hook(lambda _, entering: inputs.append(entering[0]))
    try:
        parts = [part.float().to(device) for part in states.hidden.split(batch)]
        found = [heads(part, logits_of(unembedding, part))[:2] for part in parts]
    finally:
        handle.remove()
    temperature, top_p = (torch.cat(part) for part in zip(*found, strict=True))
    return Said(temperature, top_p, torch.cat(inputs))


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

    First the temperature head, whose commands need no look at the vocabulary, then the top-p head at the temperatures
    that it finally says, so that what enters it is computed once. Seconds are those of the steps. The curve shows the
    mean of the plain questions and the shifts from it, every hundredth step those of `watched` too. `folder` keeps
    the state, so that a killed run goes on. Raises UserError for heads of which one is not used.
    """
    if set(heads.config.heads) != set(HEADS):
        raise UserError("commands are taught to heads of which both are used: train temperature and top_p")
    first = said(heads, unembedding, data.states["plain"], device)
    before = {"temperature": first.temperature, "top_p": first.top_p}
    data_key = [recipe.to_dict(), control.to_dict(), *(s.fingerprint() for s in data.states.values())]
    curve, seconds = [], 0.0
    heads.requires_grad_(False)
    for setting, head in (("temperature", heads.temp_head), ("top_p", heads.top_p_head)):
        head.requires_grad_(True)
        loss_at = teaching(setting, heads, unembedding, data, before[setting], recipe, control, device, watched)
        given = {"steps": control.steps, "learning_rate": control.learning_rate, "device": device}
        given |= {"path": folder / f"control_{setting}.pt", "key": json.dumps([setting, *data_key])}
        more, took = optimise(loss_at, {setting: head}, **given)
        head.requires_grad_(False)
        curve, seconds = curve + more, seconds + took
    record(heads, "control", control, curve, seconds)
    return curve, seconds


def teaching(
    setting: str,
    heads: Heads,
    unembedding,
    data: Commanded,
    before: Tensor,
    recipe: Recipe,
    control: Control,
    device: str,
    watched: Commanded | None,
) -> Callable[[int], tuple[Tensor, dict]]:
    """What `optimise` minimises to teach one head; `before` [N]: its values before anything was taught."""
    rows_of = [torch.nonzero(data.question == i).squeeze(-1) for i in range(data.count)]
    plain = data.states["plain"]
    inputs, unseen = (
        {name: _entering(setting, heads, unembedding, s, device) for name, s in (part.states if part else {}).items()}
        for part in (data, watched)
    )

    def says(entering: Tensor) -> Tensor:
        if setting == "temperature":
            return heads.temperature(entering)
        return torch.sigmoid(heads.top_p_head(entering).squeeze(-1).float())

    def loss_at(step: int) -> tuple[Tensor, dict]:
        generator = torch.Generator().manual_seed(control.seed * 1_000_003 + step)
        chosen = torch.randint(data.count, (control.questions,), generator=generator)
        rows = torch.cat([rows_of[i] for i in chosen.tolist()])
        places = question_of([rows_of[i].tolist() for i in chosen.tolist()]).to(device)
        found = {name: says(entering[rows]) for name, entering in inputs.items()}
        loss = command_loss(found, before[rows], places, len(chosen), control, setting)
        some = rows[torch.randperm(len(rows), generator=generator)[: control.positions]]
        hidden = plain.hidden[some].float().to(device)
        with torch.no_grad():
            logits = logits_of(unembedding, hidden)
        own = loss_of(logits, *heads(hidden, logits)[:2], plain.tokens[some].to(device), recipe, generator)
        shown = shifts(found, setting)
        if unseen and (step + 1) % 100 == 0:
            with torch.no_grad():
                shown |= shifts({name: says(entering) for name, entering in unseen.items()}, f"watched_{setting}")
        return own + loss, shown

    return loss_at


def _entering(setting: str, heads: Heads, unembedding, states: States, device: str) -> Tensor:
    """What enters the head of a setting along the positions, in float32."""
    if setting == "temperature":
        return states.hidden.float().to(device)
    return said(heads, unembedding, states, device).inputs


def mean_by(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Mean of values [n] by place: [count]."""
    sums = values.new_zeros(count).index_add(0, places, values)
    return sums / torch.bincount(places, minlength=count)
