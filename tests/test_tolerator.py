"""The diffusion steps against exact distributions on five tokens, and against the published schedules."""

import itertools
import math
from collections import Counter as Tally

import pytest
import torch
from conftest import SHIFTED, tiny
from scipy.stats import chisquare
from whole_canvas import fill_step, rcr_step, refine_step, remdm_step

from lib.decoding.family import Family
from lib.decoding.randomness import RowGenerator
from lib.tolerator import Rcr, Remdm, Tolerator, Vanilla, refine
from lib.tolerator.canvas import penalise_eot, top_count
from lib.tolerator.fill import plan, transfer_counts
from lib.tolerator.peers.remdm import alpha, sigma
from lib.tolerator.refine import Refinement, masked_count, refinement_rate, subset_of

FIVE = Family("five", eot_ids=(0,), mask_id=1, chat=False)
DRAWS = 40_000
FALSE_ALARM = 1e-4  # of each chi-square test
LOGITS = torch.tensor(
    [[0.3, -torch.inf, 1.2, -0.5, 0.1], [-1.0, -torch.inf, 0.4, 0.9, 0.2], [2.0, -torch.inf, -0.3, 0.0, 1.5]]
)


def uniform(step, width, streams=1):
    generator = RowGenerator(torch.arange(DRAWS))
    draws = [generator.uniform(step, stream, width) for stream in range(streams)]
    return draws[0] if streams == 1 else torch.stack(draws)


def assert_follows(outcomes: torch.Tensor, exact: dict[tuple, float]):
    """Chi-square of observed rows against exact probabilities; rare outcomes are pooled."""
    seen = Tally(map(tuple, outcomes.tolist()))
    assert set(seen) <= {k for k, p in exact.items() if p > 0}, "an impossible outcome was drawn"
    assert math.isclose(sum(exact.values()), 1, abs_tol=1e-6)
    common = [k for k, p in exact.items() if p * DRAWS >= 8]
    observed = [seen[k] for k in common]
    expected = [exact[k] * DRAWS for k in common]
    observed.append(DRAWS - sum(observed))
    expected.append(DRAWS - sum(expected))
    if expected[-1] < 8:
        observed, expected = observed[:-1], expected[:-1]
    assert chisquare(observed, expected, sum_check=False).pvalue > FALSE_ALARM


def expand(tensor):
    return tensor.expand(DRAWS, *tensor.shape)


def start(tokens):
    return Refinement.start(tokens, torch.zeros(tokens.shape, dtype=torch.float64))


@pytest.mark.parametrize("form", ["off", "prob_div", "logit_div"])
@pytest.mark.parametrize("rule", ["confidence", "entropy", "margin"])
def test_fill_step_follows_the_enumerated_distribution(rule, form):
    options = Vanilla(canvas=3, steps=3, rule=rule, temperature=0.7, eot_form=form, eot_lambda=1.5)
    tokens = torch.tensor([1, 1, 4])  # the third position is decoded already
    z = penalise_eot(LOGITS, 0, form, 1.5)
    tempered, plain = torch.softmax(z / 0.7, -1), torch.softmax(z, -1)
    exact = Tally()
    for a, b in itertools.product(range(5), repeat=2):
        p = float(tempered[0, a] * tempered[1, b])
        if rule == "confidence":
            scores = [float(plain[0, a]), float(plain[1, b])]
        elif rule == "entropy":
            scores = [float(torch.special.xlogy(q, q).sum()) for q in tempered[:2]]
        else:
            scores = [float(q.topk(2).values.diff().neg()) for q in tempered[:2]]
        exact[(a, 1, 4) if scores[0] >= scores[1] else (1, b, 4)] += p
    region = torch.ones(3, dtype=torch.bool)
    out, kept, _ = fill_step(expand(tokens), expand(LOGITS), region, 1, options, FIVE, uniform(0, 3, 2))
    assert (kept.sum(-1) == 1).all() and not kept[:, 2].any()
    assert_follows(out, exact)


def test_random_rule_keeps_each_position_alike():
    options = Vanilla(canvas=3, steps=3, rule="random")
    masks = torch.full((3,), 1)
    _, kept, _ = fill_step(
        expand(masks), expand(LOGITS), torch.ones(3, dtype=torch.bool), 1, options, FIVE, uniform(1, 3, 2)
    )
    assert_follows(kept.long(), {(1, 0, 0): 1 / 3, (0, 1, 0): 1 / 3, (0, 0, 1): 1 / 3})


def test_fill_step_stays_in_its_block():
    options = Vanilla(canvas=3, steps=3)
    region = torch.tensor([False, True, False])
    _, kept, _ = fill_step(expand(torch.full((3,), 1)), expand(LOGITS), region, 2, options, FIVE, uniform(2, 3, 2))
    assert kept.tolist()[0] == [False, True, False]


def test_refinement_subset_is_uniform_over_the_unlocked():
    state = start(expand(torch.tensor([2, 3, 4, 0])))
    state.locked = expand(torch.tensor([False, True, False, False])).clone()
    chosen = subset_of(state, 0.5, uniform(3, 4))  # 3 unlocked: 3 - floor(1.5) = 2 are masked
    assert_follows(chosen.long(), {(1, 0, 1, 0): 1 / 3, (1, 0, 0, 1): 1 / 3, (0, 0, 1, 1): 1 / 3})


@pytest.mark.parametrize("form", ["off", "prob_div", "logit_div"])
def test_refine_step_follows_the_exact_distribution(form):
    options = Tolerator(canvas=3, forwards=4, refine_temperature=0.6, eot_form=form, refine_eot_lambda=2.0)
    probs = torch.softmax(penalise_eot(LOGITS, 0, form, 2.0) / 0.6, -1)
    exact = {(a, 3, c): float(probs[0, a] * probs[2, c]) for a in range(5) for c in range(5)}
    chosen = expand(torch.tensor([True, False, True]))
    state = start(expand(torch.tensor([2, 3, 4])))
    out = refine_step(state, chosen, expand(LOGITS), options, 0, uniform(4, 3))
    assert_follows(out.tokens, exact)


def test_update_rate_replaces_the_least_likely_old_tokens():
    options = Tolerator(canvas=3, forwards=4, update_rate=0.5, refine_temperature=0.0, eot_form="off")
    state = start(torch.tensor([[3, 0, 2]]))  # all of low probability; the third the lowest
    old = torch.softmax(LOGITS, -1)[torch.arange(3), state.tokens[0]]
    out = refine_step(state, torch.tensor([[True, True, True]]), LOGITS[None], options, 0, torch.full((1, 3), 0.5))
    changed = (out.tokens != state.tokens)[0]
    assert changed.sum() == 1 == max(1, math.floor(3 * 0.5)) and changed[old.argmin()]


@pytest.mark.parametrize(("variant", "eta"), [("cap", 0.3), ("rescale", 0.7), ("conf", 0.0), ("loop", 0.1)])
def test_remdm_step_follows_the_enumerated_transition(variant, eta):
    options = Remdm(canvas=3, variant=variant, eta=eta, temperature=0.8, top_p=1.0)
    t, s = 0.5, 0.3
    tokens = torch.tensor([1, 3, 2])
    confidence = torch.tensor([0.0, 0.9, 0.4], dtype=torch.float64)
    alpha_t, alpha_s = alpha(t, options), alpha(s, options)
    highest = min(1, (1 - alpha_s) / alpha_t)
    if variant == "conf":
        weights = [0, *(math.exp(-c) / (math.exp(-0.9) + math.exp(-0.4)) for c in (0.9, 0.4))]
        remask = [w * highest for w in weights]
    else:
        remask = [{"cap": min(eta, highest), "rescale": eta * highest, "loop": min(eta, highest)}[variant]] * 3
    probs = torch.softmax(LOGITS[0] / 0.8, -1)
    decoded = (alpha_s - (1 - remask[0]) * alpha_t) / (1 - alpha_t)
    first = {token: decoded * float(probs[token]) for token in range(5)}
    first[1] = 1 - decoded
    exact = {
        (a, b, c): first[a] * (remask[1] if b == 1 else 1 - remask[1]) * (remask[2] if c == 1 else 1 - remask[2])
        for a in range(5)
        for b in (1, 3)
        for c in (1, 2)
    }
    out, _ = remdm_step(expand(tokens), expand(confidence), expand(LOGITS), t, s, options, FIVE, uniform(5, 3, 2))
    assert_follows(out, exact)


@pytest.mark.parametrize("variant", ["cap", "rescale", "conf", "loop"])
@pytest.mark.parametrize("steps", [2, 5, 16])
def test_remdm_probabilities_are_probabilities_and_nothing_is_masked_at_the_end(variant, steps):
    options = Remdm(variant=variant, eta=0.9)
    masked = torch.tensor([[True, False, False, True]])
    for step in range(steps):
        t, s = 1 - step / steps, 1 - (step + 1) / steps
        alpha_t, alpha_s = alpha(t, options), alpha(s, options)
        remask = sigma(t, alpha_t, alpha_s, options, masked, torch.rand(1, 4).double())
        decode_probability = (alpha_s - (1 - remask) * alpha_t) / (1 - alpha_t)
        assert (remask >= 0).all() and (remask <= 1).all()
        assert (decode_probability >= -1e-12).all() and (decode_probability <= 1 + 1e-12).all()
    assert (
        alpha_s == 1
        and (remask.abs() < 1e-12).all()
        and torch.allclose(decode_probability, torch.ones(1, dtype=torch.float64))
    )


def test_remdm_without_remasking_is_the_plain_reverse_process():
    """eta = 0: a masked token is decoded with probability (alpha_s - alpha_t) / (1 - alpha_t), others stay."""
    options = Remdm(canvas=3, variant="cap", eta=0.0, temperature=1.0, top_p=1.0)
    out, _ = remdm_step(
        expand(torch.tensor([1, 3, 2])),
        torch.zeros(DRAWS, 3).double(),
        expand(LOGITS),
        0.5,
        0.25,
        options,
        FIVE,
        uniform(6, 3, 2),
    )
    assert (out[:, 1:] == torch.tensor([3, 2])).all()
    share = (out[:, 0] != 1).double().mean().item()
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / DRAWS)


def test_rcr_step_follows_the_enumerated_distribution_and_revises_decoded_tokens():
    options = Rcr(canvas=3, steps=3, temperature=0.9, top_p=1.0, tempered=False)
    plain, tempered = torch.softmax(LOGITS, -1), torch.softmax(LOGITS / 0.9, -1)
    confidence = torch.tensor([0.0, 0.35, 0.0], dtype=torch.float64)  # the second token was filled at 0.35
    exact = Tally()
    for a, c in itertools.product(range(5), repeat=2):
        scores = [float(plain[0, a]), 0.35, float(plain[2, c])]
        out = [a, 3, c]
        out[scores.index(min(scores))] = 1
        exact[tuple(out)] += float(tempered[0, a] * tempered[2, c])
    region = torch.ones(3, dtype=torch.bool)
    out, _ = rcr_step(
        expand(torch.tensor([1, 3, 1])), expand(confidence), expand(LOGITS), region, 1, options, FIVE, uniform(7, 3)
    )
    assert (out[:, 1] == 1).any(), "a decoded token can be masked again"
    assert_follows(out, exact)


def test_eot_penalty_forms():
    z = torch.tensor([[2.0, 1.0], [-2.0, 1.0]])
    log_odds = z[:, 0] - z[:, 1]
    probability = penalise_eot(z, 0, "prob_div", 1.2)
    assert torch.allclose(probability[:, 0] - probability[:, 1], log_odds - math.log(1.2)), "p / lambda, any sign"
    logit = penalise_eot(z, 0, "logit_div", 1.2)
    assert logit[0, 0] == pytest.approx(2 / 1.2) and logit[1, 0] == pytest.approx(-2 / 1.2)
    assert logit[1, 0] > z[1, 0], "dividing a negative logit raises it"
    assert penalise_eot(z, 0, "off", 9.0) is z and torch.equal(z[:, 0], torch.tensor([2.0, -2.0]))
    assert torch.equal(penalise_eot(z, 0, "prob_div", 1.0), z) and torch.equal(
        penalise_eot(z, 0, "logit_div", 1.0), z
    )


def test_published_refinement_counts():
    """Fact sheet 1.2: with 256 positions the first iteration masks 205, the last 103; mean resamplings by K."""
    options = Tolerator(canvas=256, forwards=64)
    full = torch.tensor([256])
    for steps, resamplings in ((2, 1.20), (4, 2.41), (8, 4.81), (16, 9.63), (32, 19.26), (64, 38.5), (128, 77.0)):
        counts = [int(masked_count(full, refinement_rate(k, steps, options))) for k in range(steps)]
        assert counts[0] == 205 and counts[-1] == 103
        assert sum(counts) / 256 == pytest.approx(resamplings, abs=0.05)
        assert counts == sorted(counts, reverse=True)
    assert int(masked_count(full, refinement_rate(0, 1, options))) == 103, "a single step uses gamma_min"


def test_refinement_rates_between_their_ends():
    for rate in ("cosine", "exponential"):
        options = Tolerator(rate=rate, gamma_max=0.9, gamma_min=0.3)
        values = [refinement_rate(k, 9, options) for k in range(9)]
        assert values[0] == pytest.approx(0.9) and values[-1] == pytest.approx(0.3)
    assert values[4] == pytest.approx(math.sqrt(0.9 * 0.3)), "exponential: the geometric mean in the middle"
    assert {refinement_rate(k, 9, Tolerator(rate="constant")) for k in range(9)} == {0.8}
    assert int(masked_count(torch.tensor([40]), 0.8)) == 32, "40 * (1 - 0.8) is 8, not 7.999"


def test_transfer_counts_sum_to_the_canvas():
    assert transfer_counts(10, 4) == [3, 3, 2, 2]
    for width, steps in itertools.product((5, 16, 40), (1, 2, 4, 5)):
        for schedule in ("even", "dream"):
            counts = transfer_counts(width, steps, schedule)
            assert len(counts) == steps and sum(counts) == width and min(counts) >= 0
    times = torch.linspace(1, 1e-3, 6).tolist()
    assert transfer_counts(40, 5, "dream")[0] == int(40 * (1 - times[1]))


def test_blocks_share_the_steps():
    steps = plan(Vanilla(canvas=12, steps=7, block=4))
    assert [s[:2] for s in steps] == [(0, 4)] * 3 + [(4, 8)] * 2 + [(8, 12)] * 2
    for block in range(3):
        assert sum(count for first, _, count in steps if first == 4 * block) == 4


def test_budget_split():
    for forwards, rho, fill in ((2, 0.5, 1), (4, 0.5, 2), (5, 0.5, 3), (10, 0.01, 1), (10, 0.99, 9), (8, 0.25, 2)):
        options = Tolerator(canvas=32, forwards=forwards, rho=rho)
        assert (options.fill_steps, options.refine_steps) == (fill, forwards - fill)


def test_locked_positions_never_change_and_streaks_follow_the_rule():
    model = tiny(vocabulary=12, seed=5, scale=60.0)
    options = Tolerator(canvas=10, forwards=40, rho=0.1, lock_after=3)
    ids = torch.randint(3, 12, (6, 5), generator=torch.Generator().manual_seed(0))
    out = refine.decode(model, ids, options, generator=1, family=SHIFTED, record=True)
    events = [e for e in out.trace.events if e["stage"] == "refine"]
    draws = [[[] for _ in range(10)] for _ in range(6)]
    locked = torch.zeros(6, 10, dtype=torch.bool)
    tokens = None
    for event in events:
        rows = event["rows"]
        assert not (event["changed"] & locked[rows]).any(), "a locked position was masked again"
        if tokens is not None:
            same = locked[rows]
            assert torch.equal(event["tokens"][same], tokens[rows][same])
        tokens = torch.zeros(6, 10, dtype=torch.long) if tokens is None else tokens
        tokens[rows] = event["tokens"]
        for i, row in enumerate(rows.tolist()):
            for position in event["changed"][i].nonzero().flatten().tolist():
                draws[row][position].append(int(event["tokens"][i, position]))
        for i, row in enumerate(rows.tolist()):
            by_hand = [any(len(set(d[j : j + 3])) == 1 for j in range(len(d) - 2)) for d in draws[row]]
            assert event["locked"][i].tolist() == by_hand
            locked[row] = event["locked"][i]
    assert locked.any(), "the case must occur"
    finished = locked.all(-1)
    assert finished.any() and (out.trace.target_forwards[finished] < 40).any(), "a locked row stops paying"


def test_top_count_takes_the_best_eligible_and_the_earlier_of_ties():
    score = torch.tensor([[1.0, 5.0, 5.0, 2.0]])
    eligible = torch.tensor([[True, True, True, False]])
    assert top_count(score, eligible, 1).tolist() == [[False, True, False, False]]
    assert top_count(score, eligible, 9).tolist() == eligible.tolist()
    assert top_count(score.expand(2, 4), eligible.expand(2, 4), torch.tensor([0, 2])).tolist() == [
        [False] * 4,
        [False, True, True, False],
    ]


def test_autoregressive_sampling_follows_the_chain_rule():
    """Two sampled tokens of a five-token model against the product of its exact conditionals."""
    from lib.decoding.autoregressive import Autoregressive, decode

    model = tiny(vocabulary=5, seed=2, scale=4.0)
    prompt = torch.tensor([[3, 4]])
    with torch.inference_mode():
        first = torch.softmax(model(prompt).logits[0, -1] / 0.8, -1)
        exact = {}
        for a in range(5):
            if a == 0:
                exact[(0, 0)] = float(first[0])
                continue
            second = torch.softmax(model(torch.tensor([[3, 4, a]])).logits[0, -1] / 0.8, -1)
            exact.update({(a, b): float(first[a] * second[b]) for b in range(5)})
    family = Family("five-ar", eot_ids=(0,), chat=False)
    out = decode(
        model,
        prompt.expand(DRAWS, 2),
        Autoregressive(max_new_tokens=2, temperature=0.8),
        generator=RowGenerator(torch.arange(DRAWS)),
        family=family,
    )
    assert_follows(out.responses, exact)


def test_the_window_of_remdm_loop_has_three_phases():
    """alpha climbs to 0.9 before the window, stays there, and climbs to 1 after it; written out by hand."""
    options = Remdm(variant="loop", t_on=0.5, t_off=0.1, alpha_on=0.9)
    for t, expected in ((1.0, 0.0), (0.75, 0.45), (0.5, 0.9), (0.3, 0.9), (0.1, 0.9), (0.05, 0.95), (0.0, 1.0)):
        assert alpha(t, options) == pytest.approx(expected), t


def test_remdm_loop_masks_again_within_its_window_alone():
    options, masked = Remdm(variant="loop", t_on=0.5, t_off=0.1, eta=0.02), torch.zeros(1, 2).bool()
    for t, expected in ((0.6, 0.0), (0.5, 0.02), (0.3, 0.02), (0.1, 0.0), (0.05, 0.0)):
        s = t - 0.04
        found = sigma(t, alpha(t, options), alpha(s, options), options, masked, torch.ones(1, 2))
        assert found.tolist() == [[pytest.approx(expected)] * 2], t


def test_the_margin_is_that_of_the_two_likeliest():
    """The first position has the larger probability, 0.5 against 0.45, the second the larger gap."""
    probs = torch.tensor([[[0.02, 1e-9, 0.5, 0.46, 0.02], [0.15, 1e-9, 0.45, 0.2, 0.2]]])
    for rule, place in (("margin", 1), ("confidence", 0)):
        options = Vanilla(canvas=2, steps=2, rule=rule, temperature=0.0)
        tokens = torch.full((1, 2), 1)
        given = (torch.ones(2).bool(), 1, options, FIVE, torch.full((2, 1, 2), 0.5))
        _, kept, _ = fill_step(tokens, probs.log(), *given)
        assert kept[0].nonzero().item() == place


@pytest.mark.parametrize("rule", ["entropy", "margin"])
def test_rules_that_read_a_distribution_keep_the_surest_at_temperature_zero(rule):
    """The draw is greedy; which position is kept follows the untempered distribution, not the order."""
    logits = torch.tensor([[[0.0, -9, 1.0, 0.9, 0.8], [0.0, -9, 1.0, 3.0, 0.8], [0.0, -9, 9.0, 0.9, 0.8]]])
    options = Vanilla(canvas=3, steps=3, rule=rule, temperature=0.0)
    tokens = torch.full((1, 3), 1)
    out, kept, _ = fill_step(tokens, logits, torch.ones(3).bool(), 1, options, FIVE, torch.full((2, 1, 3), 0.5))
    assert kept.tolist() == [[False, False, True]] and out.tolist() == [[1, 1, 2]]


def test_a_token_put_back_is_no_draw():
    """With update_rate 1/2 one of two masked positions keeps its old token: its streak stays."""
    options = Tolerator(canvas=2, forwards=4, update_rate=0.5, lock_after=2, refine_temperature=0.0)
    state = start(torch.tensor([[2, 3]]))
    state.last, state.streak = torch.tensor([[2, 3]]), torch.tensor([[1, 1]])
    logits = torch.tensor([[[0.0, -9, 5.0, 0, 0], [0.0, -9, 0.0, 0.1, 0]]])  # the old token is likelier at 0
    after = refine_step(state, torch.tensor([[True, True]]), logits, options, 0, torch.full((1, 2), 0.5))
    assert after.streak.tolist() == [[1, 2]] and after.locked.tolist() == [[False, True]]
