"""Lossy rules as their sources have them, and how far beyond the target what they accept goes."""

from math import exp, log

import pytest
import torch
from conftest import tiny
from enumeration import DRAWS, FIVE, PLAIN, PROMPT, TableModel, assert_follows, keys, many_prompts, prompts, texts
from exact import chains, drafted

from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.distributions import Distribution
from lib.errors import UserError
from lib.mtad import Bild, Mtad, Speculative, Threshold, Truncated, Typical
from lib.mtad.loop import excess
from lib.mtad.peers.speculative import chain_path

TARGET, DRAFT = TableModel.pair()
COLD = {"temperature": 0.0, "top_k": 10, "top_p": 0.9}
RAW = Mtad(**PLAIN)


def bild_by_hand(p, q, start: tuple[int, ...], options: Bild) -> tuple[list[int], int]:
    """BiLD at temperature 0, pass by pass: fallback by the draft's largest softmax, rollback by the target's
    cross-entropy unless its likeliest token is the same (T5BiLD of kssteven418/BigLittleDecoder)."""
    text, passes = start, 0
    best = lambda law: max(range(5), key=lambda token: law[token])  # noqa: E731
    while len(text) - len(start) < options.max_new_tokens and 0 not in text[len(start) :]:
        run = ()
        while len(run) < options.gamma and 0 not in run and max(q(text + run)) >= options.fallback:
            run += (best(q(text + run)),)
        kept = 0
        for token in run:
            law = p(text + run[:kept])
            if -log(law[token]) > options.rollback and token != best(law):
                break
            kept += 1
        text, passes = text + run[:kept], passes + 1
        if 0 not in run[:kept]:
            text += (best(p(text)),)
    made = list(text[len(start) :])[: options.max_new_tokens]
    made = made[: made.index(0)] if 0 in made else made
    return made + [0] * (options.max_new_tokens - len(made)), passes


@pytest.mark.parametrize(("fallback", "rollback"), [(0.3, 2.0), (0.5, 0.9), (0.8, 1.2), (0.0, 5.0), (0.4, 1e-9)])
def test_bild_at_temperature_0_sees_raw_probabilities(fallback, rollback):
    options = Bild(max_new_tokens=10, gamma=4, fallback=fallback, rollback=rollback, **COLD)
    ids = many_prompts()[::10]
    out = decode(TARGET, ids, options, draft=DRAFT, generator=0, family=FIVE)
    p, q = TARGET.distributions(RAW), DRAFT.distributions(RAW)
    by_hand = [bild_by_hand(p, q, tuple(row), options) for row in ids.tolist()]
    assert [*zip(out.responses.tolist(), out.trace.measures["blocks"].tolist(), strict=True)] == by_hand
    greedy = decode(TARGET, ids, Autoregressive(10), generator=0, family=FIVE).responses
    assert torch.equal(out.responses, greedy) == (rollback < 0.01)


def medusa(p, x: int, epsilon: float, delta: float) -> bool:
    entropy = -sum(a * log(a) for a in p if a)
    return p[x] > min(epsilon, delta * exp(-entropy))


@pytest.mark.parametrize("argmax", [True, False])
def test_typical_acceptance_follows_medusas_rule(argmax):
    """Drafted tokens while they pass, then the target's likeliest one, whether a token failed or not."""
    options = Typical(max_new_tokens=3, gamma=2, epsilon=0.3, delta=0.8, argmax=argmax, **PLAIN)
    p, q = TARGET.distributions(options), DRAFT.distributions(options)

    def last(prefix):
        law = p(prefix)
        return (
            {(max(range(5), key=lambda token: law[token]),): 1.0} if argmax else {(x,): a for x, a in enumerate(law)}
        )

    def block(prefix, left=2):
        found = {}
        for token, chance in enumerate(q(prefix)) if left else ():
            if medusa(p(prefix), token, 0.3, 0.8):
                rest = block(prefix + (token,), left - 1) if token else {(): 1.0}
                new = {(token, *tokens): chance * c for tokens, c in rest.items()}
            else:
                new = {tokens: chance * c for tokens, c in last(prefix).items()}
            found = {x: found.get(x, 0) + new.get(x, 0) for x in found | new}
        return found or last(prefix)

    out = decode(TARGET, prompts(), options, draft=DRAFT, generator=keys(), family=FIVE)
    assert_follows(out.responses, texts(block, 3))
    assert len(out.responses) == DRAWS


@pytest.mark.parametrize("method", [Typical, Truncated])
def test_a_certain_token_passes_whatever_the_bar(method):
    """At temperature 0 the target against itself takes every drafted token; at an epsilon of 1 none would pass."""
    options = method(max_new_tokens=8, gamma=3, epsilon=0.999, delta=50.0, **COLD)
    ids = many_prompts()[::10]
    out = decode(TARGET, ids, options, draft=TARGET, generator=0, family=FIVE)
    assert torch.equal(out.responses, decode(TARGET, ids, Autoregressive(8), generator=0, family=FIVE).responses)
    assert (out.trace.measures["blocks"] <= 2).all()
    with pytest.raises(UserError, match=rf"{method.__name__}.epsilon must be in \(0, 1\), not 1.0"):
        method(epsilon=1.0)


def test_typical_acceptance_is_not_the_truncated_sampling_that_it_is_taken_for():
    """What it accepts has the draft's weights within the set; the control has the target's."""
    shape = {"max_new_tokens": 1, "gamma": 1, "epsilon": 0.3, "delta": 0.8, **PLAIN}
    law = TARGET.distributions(RAW)(PROMPT)
    inside = [a if medusa(law, x, 0.3, 0.8) else 0.0 for x, a in enumerate(law)]
    exact = {(x,): a / sum(inside) for x, a in enumerate(inside)}
    assert sum(a > 0 for a in inside) > 1
    for block in (False, True):
        options = Truncated(**shape, block=block)
        out = decode(TARGET, prompts(), options, draft=DRAFT, generator=keys(), family=FIVE)
        assert_follows(out.responses, exact)
    typical = decode(TARGET, prompts(), Typical(**shape), draft=DRAFT, generator=keys(), family=FIVE).responses
    shares = torch.stack([(typical == x).double().mean() for x in range(5)])
    assert (shares - torch.tensor([exact[x,] for x in range(5)])).abs().sum() / 2 > 0.05


def test_excess_is_the_drafts_joint_over_the_targets():
    tokens = chains(2, 3)
    q = torch.tensor([0.8, 0.2], dtype=torch.double).expand(8, 3, 2)
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]], dtype=torch.double).expand(8, -1, -1)
    draft = drafted(tokens, Distribution(q))
    for taken in range(4):
        found = excess(draft, Distribution(p), chain_path(torch.full((8,), taken), 3))
        for row, chain in enumerate(tokens.tolist()):
            gap = sum(log(q[0, i, x]) - log(p[0, i, x]) for i, x in enumerate(chain[:taken]))
            assert float(found[row]) == pytest.approx(max(gap, 0.0), abs=1e-12)


@pytest.mark.parametrize("tau", [0.2, 0.6, 0.95])
def test_mtads_overshoot_is_within_log_tau_a_block(tau):
    options = Mtad(max_new_tokens=9, gamma=4, width=3, tau=tau, **PLAIN)
    of = decode(TARGET, many_prompts(), options, draft=DRAFT, generator=3, family=FIVE).trace.measures
    most = of["blocks"] * log(1 / tau)
    assert (of["overshoot"] <= most + 1e-3).all() and (of["beyond"] <= of["blocks"] * (1 - tau) + 1e-3).all()
    assert of["overshoot"].mean() > 0.02 * most.double().mean() and (of["beyond"] <= of["overshoot"] + 1e-3).all()


def test_overshoot_is_that_of_the_events():
    """Joints of what a response took of each accepted path, by the tables themselves."""
    options = Mtad(max_new_tokens=5, gamma=3, width=3, tau=0.3, tree=True, **PLAIN)
    ids = many_prompts()[::10]
    out = decode(TARGET, ids, options, draft=DRAFT, generator=3, family=FIVE, record=True)
    p, q = TARGET.distributions(options), DRAFT.distributions(options)
    text, sums = [list(row) for row in ids.tolist()], torch.zeros(len(ids), 2, dtype=torch.double)
    for event in out.trace.events:
        for i, row in enumerate(event["rows"].tolist()):
            path, start, gap = [x for x in event["path"][i].tolist() if x >= 0], tuple(text[row]), 0.0
            took = event["drafted"][i, path].tolist()
            took = took[: took.index(0) + 1] if 0 in took else took
            for place, token in enumerate(took):
                prefix = start + tuple(took[:place])
                gap += log(q(prefix)[token]) - log(p(prefix)[token])
            sums[row] += torch.tensor([max(gap, 0.0), 1 - exp(-max(gap, 0.0))])
            text[row] += [*took, event["bonus"][i].item()]
    found = torch.stack([out.trace.measures["overshoot"], out.trace.measures["beyond"]], -1)
    torch.testing.assert_close(found, sums, atol=2e-4, rtol=0)
    assert (sums > 0.1).any()


def test_a_stricter_rule_overshoots_less():
    means = []
    for tau in (0.0, 0.3, 0.6, 0.9):
        options = Threshold(max_new_tokens=8, gamma=4, tau=tau, **PLAIN)
        of = decode(TARGET, many_prompts(), options, draft=DRAFT, generator=3, family=FIVE).trace.measures
        means.append(float(of["overshoot"].sum() / of["blocks"].sum()))
    assert means == sorted(means, reverse=True) and means[0] > 2 * means[2] > 0


def test_lossless_rules_have_no_overshoot_to_tell():
    options = Speculative(max_new_tokens=4, gamma=2, **PLAIN)
    pair = tiny(vocabulary=5, seed=1), tiny(vocabulary=5, seed=2)
    of = decode(pair[0], prompts(2), options, draft=pair[1], generator=3, family=FIVE).trace.measures
    assert "overshoot" not in of and "beyond" not in of
