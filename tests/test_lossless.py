"""Lossless rules by exact sums: the law of the text, the tokens that are accepted, and who accepts more."""

from functools import partial

import pytest
import torch
from conftest import AR, tiny
from exact import accepted, cells, chains, drafted, law, targets
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.distributions import Distribution
from lib.mtad import Hsd, Speculative, Truncated
from lib.mtad.peers import truncation
from lib.mtad.peers.hsd import verify_hsd
from lib.mtad.peers.speculative import verify_block, verify_tokens
from lib.mtad.peers.truncation import typical_set

RULES = {"tokens": verify_tokens, "block": verify_block, "hsd": verify_hsd}
RELEASED = partial(verify_hsd, released=True)


def pair(size: int, length: int, seed: int, sharp: float = 1.5, holes: bool = False):
    """All chains of a vocabulary, and distributions of a target [b, N + 1, K] and a draft [b, N, K] in float64 that
    depend on what stands before. `holes`: either gives some tokens no chance at all."""
    random = torch.Generator().manual_seed(seed)
    tokens = chains(size, length)
    tables = []
    for _ in range(2):
        rows = torch.zeros(len(tokens), length + 1, size, dtype=torch.double)
        for place in range(length + 1):
            logits = sharp * torch.randn(size**place, size, generator=random, dtype=torch.double)
            if holes:
                logits[torch.arange(size**place), torch.randint(size, (size**place,), generator=random)] = -torch.inf
            before = (tokens[:, :place] * size ** torch.arange(place)).sum(-1)
            rows[:, place] = logits[before].softmax(-1)
        tables.append(rows)
    return tokens, Distribution(tables[0]), Distribution(tables[1][:, :length])


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("ends", [(), (0,)], ids=["endless", "ends"])
@pytest.mark.parametrize(("size", "length"), [(2, 2), (3, 2), (2, 3), (3, 3), (4, 1)])
@pytest.mark.parametrize("rule", RULES)
def test_a_lossless_rule_gives_the_targets_law_to_the_last_digits(rule, size, length, ends, holes):
    for seed in range(2):
        tokens, p, q = pair(size, length, seed, holes=holes)
        found, expected = law(RULES[rule], drafted(tokens, q, ends), p, size, ends)
        torch.testing.assert_close(found, targets(p, tokens, size, ends), atol=1e-12, rtol=0)
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert (0 if holes else 1e-3) <= expected < length


@pytest.mark.parametrize(("size", "length"), [(3, 2), (3, 3), (2, 3)])
def test_a_block_accepts_at_least_what_tokens_accept(size, length):
    gains = []
    for seed in range(5):
        tokens, p, q = pair(size, length, seed)
        draft = drafted(tokens, q)
        by_token, block = (law(rule, draft, p, size)[1] for rule in (verify_tokens, verify_block))
        gains.append(block - by_token)
    assert min(gains) >= -1e-12 and max(gains) > 0.02


def example(length: int):
    """Section 2 of arXiv 2403.10444: p = (1/3, 2/3) and q = (2/3, 1/3) whatever stands before."""
    tokens = chains(2, length)
    p, q = (torch.tensor(x, dtype=torch.double) / 3 for x in ([1, 2], [2, 1]))
    p, q = p.expand(len(tokens), length + 1, 2), q.expand(len(tokens), length, 2)
    return Distribution(p), drafted(tokens, Distribution(q))


@pytest.mark.parametrize(("rule", "ninths"), [(verify_tokens, 10), (verify_block, 11), (verify_hsd, 11)])
def test_the_example_of_the_paper_on_block_verification(rule, ninths):
    p, draft = example(2)
    assert law(rule, draft, p, 2)[1] == pytest.approx(ninths / 9, abs=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 3), st.booleans(), st.sampled_from([(), (0,)]))
@settings(max_examples=60, deadline=None)
def test_on_one_chain_hsd_is_block_verification(seed, size, length, holes, ends):
    """Draw by draw: the same prefix, and the same distribution of the next token."""
    tokens, p, q = pair(size, length, seed, holes=holes)
    drawn = q.at(tokens[..., None]).squeeze(-1).prod(-1) > 0
    draft = drafted(tokens[drawn], q[drawn], ends)
    random = torch.Generator().manual_seed(seed)
    for _ in range(8):
        uniform = torch.rand(draft.tokens.shape, generator=random, dtype=torch.double)
        one, other = verify_hsd(draft, p[drawn], uniform), verify_block(draft, p[drawn], uniform)
        assert torch.equal(one.path, other.path)
        laws = [x.bonus.probs / x.bonus.probs.sum(-1, keepdim=True) for x in (one, other)]
        torch.testing.assert_close(*laws, atol=1e-9, rtol=0)


def hsd_by_the_paper(p, q, chain: list[int]) -> tuple[list[float], list[list[float]]]:
    """Equations 16 to 20 for one chain, number by number: the tests h_1, ..., h_gamma and the branches' residuals."""
    r, joint_q, tests, residuals = [1.0], [1.0], [], []
    for t, token in enumerate(chain):
        r.append(r[-1] * p[t][token] / q[t][token])
        joint_q.append(joint_q[-1] * q[t][token])
    gamma = len(chain)

    def capped(t: int, ratio: float) -> float:  # r* of a text of t tokens whose joint ratio is `ratio`
        return ratio / max([1.0, *(r[i] for i in range(1, t))])

    for t in range(gamma + 1):  # the branch of the first t tokens; that of t = 0 has no test
        if t < gamma:
            of = [capped(t + 1, r[t] * p[t][x] / q[t][x]) for x in range(len(q[t]))]
            joint = [joint_q[t] * q[t][x] for x in range(len(q[t]))]
            lack = [max(of[x] - 1, 0) * joint[x] for x in range(len(joint))]
            over = [max(1 - of[x], 0) * joint[x] for x in range(len(joint))]
            tests.append(sum(lack) / sum(over))
            residuals.append([x / (sum(lack) or 1) for x in lack])  # a test of 0 is not passed
        else:
            tests.append(min(capped(gamma, r[gamma]), 1))
    return tests[1:], residuals


@pytest.mark.parametrize("length", [1, 2, 3])
def test_hsd_is_algorithm_2(length):
    tokens, p, q = pair(3, length, seed=length)
    draft = drafted(tokens, q)
    random = torch.Generator().manual_seed(5)
    uniforms = [torch.rand(tokens.shape, generator=random, dtype=torch.double) for _ in range(20)]
    for uniform in uniforms:
        verdict = verify_hsd(draft, p, uniform)
        for row, chain in enumerate(tokens.tolist()):
            tests, residuals = hsd_by_the_paper(p.probs[row].tolist(), q.probs[row].tolist(), chain)
            count = next((t for t in range(length, 0, -1) if tests[t - 1] >= uniform[row, t - 1]), 0)
            assert accepted(verdict)[row] == count
            after = p.probs[row, length] if count == length else torch.tensor(residuals[count], dtype=torch.double)
            bonus = verdict.bonus.probs[row]
            torch.testing.assert_close(bonus / bonus.sum(), after, atol=1e-12, rtol=0)


def test_the_released_last_test_of_hsd_accepts_more_and_is_not_lossless():
    p, draft = example(2)
    found, expected = law(RELEASED, draft, p, 2)
    exact = targets(p, draft.tokens, 2)
    assert expected > 11 / 9 + 0.05
    assert (found - exact).abs().sum() / 2 > 0.01
    chances = [chance for chance, _ in cells(RELEASED, draft, p)]
    torch.testing.assert_close(sum(chances), torch.ones(4, dtype=torch.double))


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("size_length", [(3, 2), (3, 3)])
def test_the_truncation_control_is_true_truncated_sampling(size_length, block, monkeypatch):
    size, length = size_length
    tokens, p, q = pair(size, length, seed=4)
    rule = verify_block if block else verify_tokens
    cut = typical_set(p, 0.3, 0.9)
    plain = torch.where(p.probs > _bar(p.probs, 0.3, 0.9), p.probs, 0.0)
    plain = plain / plain.sum(-1, keepdim=True)
    torch.testing.assert_close(cut.probs, plain)
    assert 0.1 < (plain == 0).double().mean() < 0.6
    given = {"block": block, "epsilon": 0.3, "delta": 0.9}
    found, _ = law(rule_of(Truncated(**given), monkeypatch), drafted(tokens, q), p, size)
    # Behind the step the truncated target goes on, which `law` does not know: the first step's tokens are compared.
    torch.testing.assert_close(
        found.sum(tuple(range(1, length + 1))), targets(cut, tokens, size).sum(tuple(range(1, length + 1)))
    )
    whole, _ = law(lambda draft, _, uniform: rule(draft, cut, uniform), drafted(tokens, q), cut, size)
    torch.testing.assert_close(whole, targets(cut, tokens, size), atol=1e-12, rtol=0)


def rule_of(options, monkeypatch):
    """The verifier that a decoder gives to `chain`."""
    monkeypatch.setattr(truncation, "chain", lambda model, ids, options, verify, **given: verify)
    return truncation.decode(None, None, options)


def _bar(probs, epsilon, delta):
    entropy = -torch.special.xlogy(probs, probs).sum(-1, keepdim=True)
    return torch.minimum(torch.tensor(epsilon, dtype=torch.double), delta * (-entropy).exp())


def test_an_empty_typical_set_is_the_likeliest_token():
    flat = Distribution(torch.tensor([[0.26, 0.25, 0.25, 0.24]], dtype=torch.double))
    assert typical_set(flat, 0.9, 3.0).probs.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize(
    "options",
    [
        Speculative(gamma=4, temperature=0.0, max_new_tokens=24),
        Speculative(gamma=4, temperature=0.0, max_new_tokens=24, block=True),
        Hsd(gamma=4, temperature=0.0, max_new_tokens=24),
        Hsd(gamma=4, temperature=0.0, max_new_tokens=24, released=True),
        Truncated(gamma=4, temperature=0.0, max_new_tokens=24),
    ],
    ids=lambda options: f"{type(options).__name__}-{getattr(options, 'block', '')}{getattr(options, 'released', '')}",
)
def test_greedy_is_the_targets_greedy_token_by_token(options, prompts):
    target, draft = tiny(seed=11), tiny(seed=11, scale=14)
    with torch.no_grad():
        noise = torch.randn(32, 48, generator=torch.Generator().manual_seed(1))
        draft.model.layers[1].mlp.down_proj.weight += 0.05 * noise
    ids, mask = prompts
    out = decode(target, ids, options, draft=draft, generator=3, family=AR, attention_mask=mask)
    greedy = decode(target, ids, Autoregressive(24), generator=3, family=AR, attention_mask=mask)
    assert torch.equal(out.responses, greedy.responses)
    of = out.trace.measures
    assert 0 < of["accepted"].sum() < of["drafted"].sum()
    assert (out.trace.target_forwards < greedy.trace.target_forwards).any()
