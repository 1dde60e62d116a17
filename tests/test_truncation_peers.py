"""Decoders that cut each step's distribution by a rule: against `transformers`, the papers' formulas, enumeration."""

import math
from dataclasses import replace

import pytest
import torch
from bigram import Bigram
from enumeration import FIVE, assert_follows, keys, prompts
from transformers import EtaLogitsWarper, MinPLogitsWarper, TypicalLogitsWarper
from transformers.generation.logits_process import TopHLogitsWarper

from lib.autodeco.peers.entropy import EntropyTemperature, entropy_temperature
from lib.autodeco.peers.eta import Eta, eta_kept
from lib.autodeco.peers.min_p import MinP, min_p_kept
from lib.autodeco.peers.p_less import PLess, p_less_kept
from lib.autodeco.peers.top_h import TopH, top_h_kept
from lib.autodeco.peers.typical import TypicalP, typical_kept
from lib.decoders import decode
from lib.decoding.distributions import warp
from lib.errors import UserError

LOWEST = -torch.inf


def logits(kind: str) -> torch.Tensor:
    """Rows [n, V] of each sort."""
    random = torch.Generator().manual_seed(3)
    drawn = torch.randn(400, 37, generator=random)
    return {
        "flat and peaked": drawn * torch.linspace(0.01, 12, 400)[:, None],
        "tied": (drawn * 2).round(),
        "wide": 3 * torch.randn(40, 700, generator=random),
        "with bans": drawn.masked_fill(drawn < 0.3, LOWEST),
        "one for certain": torch.nn.functional.one_hot(torch.arange(37), 37) * 200.0,
        "all alike": torch.zeros(3, 37),
        "one left": torch.full((2, 37), LOWEST).index_fill(1, torch.tensor([5]), 1.0),
    }[kind]


KINDS = ("flat and peaked", "tied", "wide", "with bans", "one for certain", "all alike", "one left")
RULES = {
    "min_p": (min_p_kept, MinPLogitsWarper, (0.0, 0.05, 0.1, 0.5, 1.0)),
    "eta": (eta_kept, EtaLogitsWarper, (3e-4, 4e-3, 0.1, 0.9)),
    "typical_p": (typical_kept, TypicalLogitsWarper, (0.2, 0.5, 0.9, 0.99)),
    "top_h": (lambda p, alpha: top_h_kept(p, alpha, "transformers"), TopHLogitsWarper, (0.1, 0.4, 0.8)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_the_kept_set_is_that_of_transformers(rule, kind):
    """But for rows where rounding decides: a value within 1e-5 of the threshold, of which there are few."""
    ours, theirs, values = RULES[rule]
    scores = logits(kind)
    if rule == "top_h" and kind in ("with bans", "one for certain", "one left"):
        scores = scores.clamp(min=scores.amax(-1, keepdim=True) - 60)  # theirs is NaN at a probability of 0
    for value in values:
        expected = theirs(value)(None, scores) > LOWEST
        found = ours(torch.softmax(scores, -1), value)
        probs = torch.softmax(scores, -1)
        found, expected = found & (probs > 0), expected & (probs > 0)
        if rule == "top_h":  # of equals theirs takes any
            found, expected = (torch.sort(probs * part, -1).values for part in (found, expected))
        same = (found == expected).all(-1)
        assert same.float().mean() >= (0.97 if rule in ("top_h", "typical_p") else 1.0), (value, int((~same).sum()))


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def test_top_h_takes_the_longest_prefix_that_the_papers_bound_allows():
    """H(q) <= alpha H(p) of every prefix, q renormalised, by hand; no prefix fits behind one that does not."""
    differ = 0
    for row in torch.cat([logits("flat and peaked")[::4], logits("tied")[::8]]):
        p = torch.softmax(row.double(), -1)
        ordered = sorted(p.tolist(), reverse=True)
        for alpha in (0.2, 0.4, 0.9, 1.0):
            fits = []
            for size in range(1, len(ordered) + 1):
                mass = sum(ordered[:size])
                fits.append(entropy([x / mass for x in ordered[:size]]) <= alpha * entropy(ordered) + 1e-9)
            longest = max(size + 1 for size, fit in enumerate(fits) if fit) if any(fits) else 1
            assert fits == [True] * longest + [False] * (len(fits) - longest), "H(q) grows with every token"
            kept = top_h_kept(p.float(), alpha)
            assert int(kept.sum()) == longest
            assert p[kept].min() >= p[~kept].max() - 1e-7 if longest < len(p) else True
            differ += int(kept.sum()) != int(top_h_kept(p.float(), alpha, "code").sum())
    assert differ > 100, "the released rule is another one"


def test_top_h_of_the_authors_code_sums_what_the_full_softmax_gives():
    """Their logit_processor.py restated: of the 100 likeliest a token comes in unless the sum of -p log p then
    exceeds tau = alpha S (H(p / S) - log S), with S the mass of the 100."""
    spike = torch.tensor([0.5, *[0.5 / 999] * 999]).log()
    for row in (*logits("wide"), *logits("flat and peaked")[::8], spike):
        p = torch.softmax(row.double(), -1)
        top = sorted(p.tolist(), reverse=True)[:100]
        mass = sum(top)
        for alpha in (0.2, 0.4, 0.8):
            tau = alpha * mass * (entropy([x / mass for x in top]) - math.log(mass))
            size, taken = 1, entropy(top[:1])
            while size < 100 and (taken := taken + entropy([top[size]])) <= tau + 1e-9:
                size += 1
            assert int(top_h_kept(p, alpha, "code").sum()) == size
    sizes = [int(top_h_kept(spike.exp(), 0.4, form).sum()) for form in ("code", "transformers")]
    assert sizes == [1, 32], "`transformers` renormalises over the 100"


def test_p_less_keeps_what_is_as_likely_as_two_draws_are_to_agree():
    """Against the released rule, restated: where p < sum of p^2 a token goes; norm: (V sum p^2 - 1) / (V - 1)."""
    for kind in KINDS:
        probs = torch.softmax(logits(kind), -1).double()
        collision, size = probs.square().sum(-1, keepdim=True), probs.shape[-1]
        for norm, threshold in ((False, collision), (True, (size * collision - 1) / (size - 1))):
            found = p_less_kept(probs, norm)
            clear = (probs - threshold).abs() > 2e-6 * threshold
            assert torch.equal(found & clear, (probs >= threshold) & clear)
            assert found.any(-1).all(), "the likeliest is always as likely as the mean of p"
            assert (found | ~p_less_kept(probs, False)).all(), "norm keeps more"
    assert p_less_kept(torch.full((32000,), 1 / 32000)).all(), "rounding leaves all of a uniform distribution"
    half = torch.tensor([0.6, 0.3, 0.1])  # sum of squares 0.46, norm (3 * 0.46 - 1) / 2 = 0.19
    assert p_less_kept(half).tolist() == [True, False, False]
    assert p_less_kept(half, norm=True).tolist() == [True, True, False]


def test_rules_by_hand():
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])  # entropy 1.2130 nats
    assert min_p_kept(p, 0.5).tolist() == [True, True, False, False]
    assert min_p_kept(p, 1.0).tolist() == [True, False, False, False]
    # sqrt(0.2) exp(-1.2130) = 0.1330, below 0.2: the third and the fourth go.
    assert eta_kept(p, 0.2).tolist() == [True, True, False, False]
    # Distances from 1.2130: 0.5199, 0.1733, 0.8664, 0.8664; the first two have 0.75, the last two are equal.
    assert typical_kept(p, 0.2).tolist() == [False, True, False, False]
    assert typical_kept(p, 0.75).tolist() == [True, True, False, False]
    assert typical_kept(p, 0.76).tolist() == [True] * 4
    # H(q) of two is 0.6365, of three 0.9557 (0.79 of the whole); the sums -p log p are 0.3466, 0.6931, 0.9531.
    assert top_h_kept(p, 0.53).tolist() == [True, True, False, False]
    assert top_h_kept(p, 0.53, "code").tolist() == [True, False, False, False]
    assert top_h_kept(torch.full((5000,), 1 / 5000), 0.9).tolist().index(False) == int(5000**0.9), (
        "of equals the first"
    )


def test_dynamic_temperature_is_the_papers():
    """T = T0 N^(theta / H), H in nats, on random rows."""
    rows = logits("flat and peaked")[40:]
    options = EntropyTemperature(highest=1.3, theta=0.7)
    assert options.base == 0.8
    for row, found in zip(rows, entropy_temperature(rows, options).tolist(), strict=True):
        h = entropy(torch.softmax(row.double(), -1).tolist())
        assert found == pytest.approx(1.3 * 0.8 ** (0.7 / h), rel=1e-4, abs=1e-6)


DRAWN = {
    "min_p": (MinP(2, temperature=1.3, min_p=0.3), lambda p: min_p_kept(p, 0.3)),
    "p_less": (PLess(2, temperature=1.3), p_less_kept),
    "p_less norm": (PLess(2, temperature=1.3, norm=True), lambda p: p_less_kept(p, True)),
    "top_h": (TopH(2, temperature=1.3, alpha=0.7), lambda p: top_h_kept(p, 0.7)),
    "eta": (Eta(2, temperature=1.3, epsilon=0.3), lambda p: eta_kept(p, 0.3)),
    "typical_p": (TypicalP(2, temperature=1.3, mass=0.6), lambda p: typical_kept(p, 0.6)),
}


TABLE = 1.2 * torch.randn(5, 5, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("name", DRAWN)
def test_decoding_draws_from_what_is_kept_of_the_tempered_distribution(name):
    """Texts of two tokens against their exact distribution, each step cut by itself; the event counts what stays."""
    options, kept = DRAWN[name]
    stays = kept(warp(TABLE, 1.3))
    step = warp(TABLE, 1.3) * stays
    step = (step / step.sum(-1, keepdim=True)).tolist()
    exact = {(0, 0): step[2][0]}
    for first in range(1, 5):
        exact |= {(first, second): step[2][first] * step[first][second] for second in range(5)}
    assert 2 < len([p for p in exact.values() if p]) < len(exact)
    out = decode(Bigram(TABLE), prompts(6000), options, generator=keys(6000), family=FIVE, record=True)
    assert_follows(out.responses, exact)
    first, second = out.trace.events
    assert first["kept"].tolist() == [int(stays[2].sum())] * 6000
    assert second["kept"].tolist() == [int(stays[token].sum()) for token in first["tokens"] if token]


@pytest.mark.parametrize("name", DRAWN)
def test_temperature_zero_is_greedy(name):
    options = replace(DRAWN[name][0], temperature=0.0)
    out = decode(Bigram(TABLE), prompts(2), options, generator=0, family=FIVE)
    first = int(TABLE[2].argmax())
    assert out.responses.tolist() == [[first, int(TABLE[first].argmax()) if first else 0]] * 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MinP(min_p=1.1), r"MinP.min_p must be in \[0, 1\]"),
        (lambda: TopH(alpha=0.0), r"TopH.alpha must be in \(0, 1\]"),
        (lambda: TopH(form="theirs"), "one of paper, code, transformers"),
        (lambda: Eta(epsilon=1.0), r"Eta.epsilon must be in \(0, 1\)"),
        (lambda: TypicalP(mass=0.0), r"TypicalP.mass must be in \(0, 1\]"),
        (lambda: PLess(temperature=-1.0), "PLess.temperature must be 0 or more"),
    ],
)
def test_what_is_out_of_range_names_the_range(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_nothing_cut_is_ordinary_sampling():
    p = warp(logits("flat and peaked"), 1.0)
    for kept in (min_p_kept(p, 0.0), top_h_kept(p, 1.0), typical_kept(p, 1.0)):
        assert ((p * kept).sum(-1) > 1 - 1e-4).all()
