"""What one step of a drafting rule adds to a text, exactly: the sum over all drafts and all draws of the verifier."""

from collections import Counter
from itertools import product

import torch

from lib.decoding.distributions import Distribution
from lib.mtad.draft import Draft

NEVER, ALWAYS = 1 - 2**-53, 2**-60  # draws just inside (0, 1)


def chains(size: int, length: int) -> torch.Tensor:
    """Every chain of `length` tokens out of `size`: [size ** length, length]."""
    return torch.tensor(list(product(range(size), repeat=length)))


def drafted(tokens: torch.Tensor, q: Distribution, ends: tuple[int, ...] = ()) -> Draft:
    """Chains [b, N] as the draft of distributions q [b, N, K]; what lies behind an end is not real."""
    rows, length = tokens.shape
    line = torch.arange(length)
    is_end = torch.isin(tokens, torch.tensor(ends, dtype=torch.long))
    behind = is_end.cumsum(-1) - is_end.long() > 0
    chance = q.at(tokens[..., None]).squeeze(-1).masked_fill(behind, 1.0)
    return Draft(
        tokens=tokens,
        parents=(line - 1).expand(rows, -1),
        depth=line,
        real=~behind,
        sees=(line[:, None] >= line).expand(rows, -1, -1),
        chance=chance,
        joint=chance.log().cumsum(-1),
        behind=behind,
        distributions=q,
        fed=line.expand(rows, -1),
        read=length - 1,
    )


def accepted(verdict) -> torch.Tensor:
    return (verdict.path >= 0).sum(-1)


def thresholds(verify, draft: Draft, distribution: Distribution) -> torch.Tensor:
    """[b, N]: below which number each of the verifier's draws passes, by bisection; it may be anything where a draw
    decides nothing. Earlier draws pass and later ones fail, so that this one shows."""
    shape = draft.tokens.shape
    found = torch.zeros(shape, dtype=torch.double)
    for place in range(shape[1]):
        uniform = torch.full(shape, NEVER, dtype=torch.double)
        uniform[:, :place] = ALWAYS
        low, high = (
            torch.full(shape[:1], ALWAYS, dtype=torch.double),
            torch.full(shape[:1], NEVER, dtype=torch.double),
        )
        uniform[:, place] = low
        passing = accepted(verify(draft, distribution, uniform))
        for _ in range(60):
            middle = (low + high) / 2
            uniform[:, place] = middle
            passes = accepted(verify(draft, distribution, uniform)) == passing
            low, high = torch.where(passes, middle, low), torch.where(passes, high, middle)
        found[:, place] = low
    return found


def cells(verify, draft: Draft, distribution: Distribution):
    """The verifier's draws cut at the thresholds into cells: yields the probability [b] and the verdict of each."""
    cut = thresholds(verify, draft, distribution)
    for below in product((True, False), repeat=cut.shape[1]):
        inside = torch.tensor(below)
        yield (
            torch.where(inside, cut, 1 - cut).prod(-1),
            verify(draft, distribution, torch.where(inside, cut / 2, (1 + cut) / 2)),
        )


def law(verify, draft: Draft, distribution: Distribution, size: int, ends: tuple[int, ...] = ()):
    """The exact law of the first N + 1 tokens, [size] * (N + 1), and the expected number of accepted tokens.

    The draft's rows are all chains of its length, in order; behind what the step adds the target goes on alone.
    """
    length = draft.tokens.shape[1]
    # Of chains that differ behind an end alone, the one that goes on with 0 stands for all.
    single = ~(draft.behind & (draft.tokens > 0)).any(-1)
    weight = draft.chance.double().prod(-1) * single
    text, expected = Tree(distribution, draft.tokens, size, ends), 0.0
    for chance, verdict in cells(verify, draft, distribution):
        bonus, count = verdict.bonus.dense(size).double(), accepted(verdict)
        bonus = bonus / bonus.sum(-1, keepdim=True)
        mass = weight * chance
        expected += float((mass * count).sum())
        for row in mass.nonzero()[:, 0].tolist():
            kept = tuple(draft.tokens[row, : count[row]].tolist())
            if set(kept) & set(ends):
                text.add(kept, float(mass[row]))
                continue
            for token, p in enumerate((mass[row] * bonus[row]).tolist()):
                text.add((*kept, token), p)
    return text.law(length + 1), expected


def targets(distribution: Distribution, tokens: torch.Tensor, size: int, ends: tuple[int, ...] = ()) -> torch.Tensor:
    """The law of N + 1 tokens of the target alone, whose distributions [b, N + 1, K] follow all chains [b, N]."""
    text = Tree(distribution, tokens, size, ends)
    text.add((), 1.0)
    return text.law(tokens.shape[1] + 1)


class Tree:
    """Texts and their probabilities; where one is shorter, the target goes on."""

    def __init__(self, distribution: Distribution, tokens: torch.Tensor, size: int, ends: tuple[int, ...]):
        self.size, self.ends, self.mass = size, set(ends), Counter()
        self.p = dict(zip(map(tuple, tokens.tolist()), distribution.dense(size).double().tolist(), strict=True))

    def add(self, text: tuple[int, ...], mass: float) -> None:
        if mass:
            self.mass[text] += mass

    def law(self, length: int) -> torch.Tensor:
        found = torch.zeros([self.size] * length, dtype=torch.double)
        for short in range(length + 1):  # what is longer comes later
            for text in [text for text in self.mass if len(text) == short]:
                mass, rest = self.mass.pop(text), (0,) * (length - len(text))
                if len(text) == length or set(text) & self.ends:
                    found[text + rest] += mass
                    continue
                for token, p in enumerate(self.p[(text + rest)[:-1]][len(text)]):
                    self.add((*text, token), mass * p)
        return found
