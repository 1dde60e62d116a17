"""Models of five tokens whose distributions are rows of a table, and the exact ones of what they decode."""

import math
from collections import Counter as Tally
from functools import cache
from itertools import combinations, combinations_with_replacement, permutations, product
from types import SimpleNamespace

import torch
from scipy.stats import chisquare
from transformers import LlamaConfig

from lib.decoding.distributions import warp
from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.decoding.session import Session
from lib.mtad.draft import beams, branching, grow
from lib.mtad.loop import read
from lib.mtad.mtad import alone
from lib.mtad.sequences import Sequences

FIVE = Family("five", eot_ids=(0,), chat=False)
ENDS = torch.tensor([0])
PROMPT = (2,)
DRAWS = 12_000
FALSE_ALARM = 1e-4  # of each chi-square test
PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
WARPED = {"temperature": 0.8, "top_k": 3, "top_p": 0.9}
NUCLEUS = {"temperature": 1.2, "top_k": 0, "top_p": 0.8}


class TableModel(torch.nn.Module):
    """Its cache holds the tokens themselves; its logits are looked up by the tokens that a query sees, in order."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.table = torch.nn.Parameter(table, requires_grad=False)
        self.config = LlamaConfig(vocab_size=table.shape[-1], num_hidden_layers=1)

    @classmethod
    def pair(cls, noise: float = 1.2, seed: int = 20) -> tuple["TableModel", "TableModel"]:
        """A target, and a draft that is the target with noise."""
        random = torch.Generator().manual_seed(seed)
        table = 1.3 * torch.randn(4999, 5, generator=random)
        return cls(table), cls(table + noise * torch.randn(4999, 5, generator=random))

    def get_output_embeddings(self) -> None:
        """It has no head."""

    def look(self, keys: torch.Tensor) -> torch.Tensor:
        return self.table[keys % len(self.table)]

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache, logits_to_keep):
        fed = input_ids[:, None, :, None].float()
        slots = past_key_values.update(fed, fed, 0)[0][:, 0, :, 0].long()
        sees = attention_mask[:, 0] == 0
        assert torch.equal(position_ids, (sees.sum(-1) - 1).clamp(min=0))
        keys = torch.zeros_like(input_ids)
        for slot in range(slots.shape[1]):
            keys = torch.where(sees[..., slot], keys * 6 + slots[:, slot, None] + 1, keys)
        return SimpleNamespace(logits=self.look(keys)[:, -logits_to_keep:])

    def distribution(self, prefix: tuple[int, ...], temperature=1.0, top_k=0, top_p=1.0) -> list[float]:
        key = 0
        for token in prefix:
            key = key * 6 + token + 1
        return warp(self.look(torch.tensor(key)), temperature, top_p, top_k).tolist()

    def distributions(self, options):
        """The distribution after a prefix, as `options` warp it."""
        setting = {name: getattr(options, name) for name in PLAIN}
        return cache(lambda prefix: self.distribution(prefix, **setting))


class Scripted(TableModel):
    """Says one text whatever it reads: the token at each position is certain."""

    def __init__(self, text: list[int]):
        super().__init__(torch.zeros(1, 5))
        self.text = torch.tensor(text)

    def look(self, keys):
        length = sum((keys >= 6**n).long() for n in range(14))
        return 40.0 * torch.nn.functional.one_hot(self.text[length % len(self.text)], 5).float()


def prompts(rows: int = DRAWS, prompt: tuple[int, ...] = PROMPT) -> torch.Tensor:
    return torch.tensor(prompt).expand(rows, -1)


def many_prompts() -> torch.Tensor:
    """64 prompts, ten times each."""
    return torch.cartesian_prod(*[torch.arange(1, 5)] * 3).repeat_interleave(10, 0)


def keys(rows: int = DRAWS) -> RowGenerator:
    return RowGenerator(torch.arange(rows))


def assert_follows(outcomes: torch.Tensor, exact: dict[tuple, float]) -> None:
    """Chi-square of observed rows against exact probabilities; rare outcomes are pooled."""
    draws = len(outcomes)
    seen = Tally(map(tuple, outcomes.tolist()))
    assert set(seen) <= {k for k, p in exact.items() if p > 0}, "an impossible outcome was drawn"
    assert math.isclose(sum(exact.values()), 1, abs_tol=1e-5)
    common = [k for k, p in exact.items() if p * draws >= 8]
    observed, expected = [seen[k] for k in common], [exact[k] * draws for k in common]
    observed.append(draws - sum(observed))
    expected.append(draws - sum(expected))
    if expected[-1] < 8:
        observed, expected = observed[:-1], expected[:-1]
    assert chisquare(observed, expected, sum_check=False).pvalue > FALSE_ALARM


def texts(block, limit: int, prompt: tuple[int, ...] = PROMPT) -> Tally:
    """Responses of `limit` tokens, padded with EoT, and their probabilities. `block(prefix)` gives those of the
    tokens that one step adds."""
    exact = Tally()

    def go(done, p):
        if 0 in done:
            done = done[: done.index(0)] + (0,) * limit
        if len(done) >= limit:
            exact[done[:limit]] += p
            return
        for new, chance in block(prompt + done).items():
            go(done + new, p * chance)

    go((), 1.0)
    return exact


def token_by_token(distribution):
    return lambda prefix: {(token,): p for token, p in enumerate(distribution(prefix)) if p}


def joint(distribution, prefix: tuple[int, ...], path: tuple[int, ...]) -> float:
    """The probability of a path, which after an end of text is that of the end."""
    whole = 1.0
    for i, token in enumerate(path):
        whole *= distribution(prefix + path[:i])[token]
        if not token:
            break
    return whole


def blocks_by(joint_temperature: float, distribution, gamma: int, prefix: tuple[int, ...]) -> dict[tuple, float]:
    """MTJD: every block of gamma tokens (shorter where it ends) by P^(1/T)."""
    found = {}
    for path in product(range(5), repeat=gamma):
        found[path[: path.index(0) + 1] if 0 in path else path] = joint(distribution, prefix, path)
    if not joint_temperature:
        return {max(found, key=found.get): 1.0}
    powers = {path: p ** (1 / joint_temperature) for path, p in found.items() if p}
    return {path: p / sum(powers.values()) for path, p in powers.items()}


def drawn(cells: list[float], count: int, replacement: bool):
    """Every multiset of `count` cells that can be drawn, and its probability."""
    mass, places = sum(cells), range(len(cells))
    if not replacement:
        for chosen in combinations(places, count):
            chance = 0.0
            for order in permutations(chosen):
                p, left = 1.0, mass
                for i in order:
                    p, left = p * cells[i] / left, left - cells[i]
                chance += p
            yield chosen, chance
        return
    for chosen in combinations_with_replacement(places, count):
        orders = math.factorial(count)
        for times in Tally(chosen).values():
            orders //= math.factorial(times)
        yield chosen, orders * math.prod(cells[i] / mass for i in chosen)


def drafts(q, options, prefix: tuple[int, ...]):
    """Every way the beams can be drawn, as layers of (path, weight), and its probability."""
    states = [([[((), 1.0)]], 1.0)]
    for _ in range(options.gamma):
        longer = []
        for layers, p in states:
            cells = []
            for path, weight in layers[-1]:
                if 0 in path:
                    cells.append((path + (0,), weight))
                else:
                    cells += [(path + (v,), weight * c) for v, c in enumerate(q(prefix + path)) if c]
            for chosen, chance in drawn([mass for _, mass in cells], options.width, options.replacement):
                layer = [cells[i] for i in chosen]
                weights = [math.exp(mass) if options.weights == "softmax" else mass for _, mass in layer]
                beams = [(path, w / sum(weights)) for (path, _), w in zip(layer, weights, strict=True)]
                longer.append((layers + [beams], p * chance))
        states = longer
    return [(layers[1:], p) for layers, p in states]


def accepted_by(layers, p, q, options, prefix: tuple[int, ...]) -> tuple[int, ...]:
    """MTAD's verdict on drawn beams, candidate by candidate."""
    kept = max(layers[-1], key=lambda beam: beam[1])[0]
    found = ()
    for depth, layer in enumerate(layers, 1):
        paths = {path for path, _ in layer} if options.tree else {kept[:depth]}
        own = {path: joint(q, prefix, path) for path in paths}
        held = {"kept": joint(q, prefix, kept[:depth]), "best": max(own.values())}
        target = {path: joint(p, prefix, path) for path in paths}
        passing = [x for x in paths if min(1, target[x] / held.get(options.reference, own[x])) > options.tau]
        found = max(passing, key=target.get) if passing else found
    return found


def mtad_block(target: TableModel, draft: TableModel, options):
    """What one step of MTAD adds to a prefix: the accepted tokens and one of the target's."""
    p, q = target.distributions(options), draft.distributions(options)

    @cache
    def block(prefix):
        added, took = Tally(), Tally()
        for layers, chance in drafts(q, options, prefix):
            took[accepted_by(layers, p, q, options, prefix)] += chance
        for accepted, chance in took.items():
            if 0 in accepted:
                added[accepted[: accepted.index(0) + 1]] += chance
                continue
            for token, last in enumerate(p(prefix + accepted)):
                if last:
                    added[accepted + (token,)] += chance * last
        return added

    return block


def drafted_beams(target, draft, options, ids, mask=None, seed=0, branches=None):
    """The first draft of each row, by beams or by `branches`, and the target's distributions over it."""
    text = Sequences(ids, torch.ones_like(ids) if mask is None else mask, 16, ENDS, ahead=8)
    sessions = Session(target, len(ids)), Session(draft, len(ids))
    uniform = RowGenerator.of(seed, [str(i) for i in range(len(ids))]).uniform(0, 0, 64)
    if branches:
        choose = branching(branches, uniform)
    else:
        choose = beams(options.width, options.replacement, uniform, ENDS, options.weights == "softmax")
    found = grow(sessions[1], *text.unread(sessions[1].length), options, options.gamma, choose, ENDS)
    found = found if branches or options.tree else alone(found)
    return found, read(sessions[0], text, found)


def paths_of(draft, row: int) -> list[tuple[int, ...]]:
    """The tokens of each node of a row and of its ancestors, from the text on."""
    found = []
    for token, parent in zip(draft.tokens[row].tolist(), draft.parents[row].tolist(), strict=True):
        found.append((found[parent] if parent >= 0 else ()) + (token,))
    return found
