"""Controls of TOLERATOR, the released port of ReMDM, the EoT penalty of the peers, and our own rule."""

from dataclasses import replace

import pytest
import torch
from conftest import SHIFTED, UNSHIFTED, tiny
from test_tolerator import DRAWS, FIVE, LOGITS, assert_follows, expand, start, uniform
from whole_canvas import rcr_step, refine_step, settle_step, window_step

from lib.decoders import decode
from lib.decoding.bidirectional import canvas_logits
from lib.decoding.randomness import RowGenerator
from lib.tolerator import Rcr, Remdm, RemdmPort, Settle, Tolerator, Vanilla
from lib.tolerator.canvas import penalise_eot
from lib.tolerator.controls.settle import Canvases, keep_sure, most_doubtful
from lib.tolerator.refine import masked_count, refinement_rate, subset_of


def run(options, prompts, family=SHIFTED, seed=0, scale=20.0):
    ids, mask = prompts
    generator = RowGenerator.of(seed, [str(i) for i in range(len(ids))])
    model = tiny(scale=scale)
    return decode(model, ids, options, generator=generator, family=family, attention_mask=mask, record=True)


def test_folds_take_turns():
    """Of 7 positions 3 at a time: no position is masked twice more than another, and orders differ by response."""
    state, options = start(expand(torch.full((7,), 3))[:50].clone()), Tolerator(canvas=7, forwards=4)
    order = uniform(1, 7)[:50]
    seen = []
    for _ in range(5):
        chosen = subset_of(state, 0.4, order, "folds")
        assert (chosen.sum(-1) == 3).all()
        seen.append(chosen)
        state = refine_step(state, chosen, expand(torch.zeros(7, 5))[:50], options, 0, uniform(2, 7)[:50])
        assert (state.visits.amax(-1) - state.visits.amin(-1) <= 1).all()
    assert torch.equal(state.visits, torch.stack(seen).sum(0))
    assert len({tuple(row) for row in seen[0].tolist()}) > 10


def test_confidence_masks_the_least_probable():
    state = start(torch.tensor([[2, 3, 4, 2]]))
    state.confidence = torch.tensor([[0.9, 0.2, 0.5, 0.4]]).double()
    assert subset_of(state, 0.5, torch.rand(1, 4), "confidence").tolist() == [[False, True, False, True]]
    state.locked = torch.tensor([[False, True, False, False]])
    assert subset_of(state, 0.3, torch.rand(1, 4), "confidence").tolist() == [[False, False, False, True]]


def test_the_confidence_of_a_token_is_its_probability_when_it_was_drawn():
    chosen = torch.tensor([[True, False, True]])
    state = start(torch.tensor([[2, 3, 4]]))
    after = refine_step(state, chosen, LOGITS[None], Tolerator(canvas=3, forwards=4), 0, torch.full((1, 3), 0.4))
    probs = torch.softmax(LOGITS, -1)
    for i in (0, 2):
        assert after.confidence[0, i] == pytest.approx(float(probs[i, after.tokens[0, i]]))
    assert after.confidence[0, 1] == 0


def test_random_subsets_visit_a_position_as_often_as_published():
    """Fact sheet: 19.26 resamplings of each of 256 positions over 32 iterations, from 0.8 to 0.4; by simulation."""
    options, rows = Tolerator(canvas=256, forwards=64), 64
    state, generator = start(torch.full((rows, 256), 3)), RowGenerator(torch.arange(rows))
    visits = torch.zeros(rows, 256)
    for k in range(32):
        visits += subset_of(state, refinement_rate(k, 32, options), generator.uniform(k, 0, 256))
    assert visits.mean().item() == pytest.approx(19.26, abs=0.05)
    counts = [int(masked_count(torch.tensor([256]), refinement_rate(k, 32, options))) for k in range(32)]
    shares = [count / 256 for count in counts]
    exact = sum(share * (1 - share) for share in shares)  # independent draws: variance of one position's visits
    assert visits.var().item() == pytest.approx(exact, rel=0.1)


def test_without_refinement_it_is_vanilla(prompts):
    """The canvas after the fill-up is that of vanilla decoding with the same options and random numbers."""
    options = Tolerator(canvas=8, forwards=9, rho=0.45)
    ours = run(options, prompts)
    last = [event for event in ours.trace.events if event["stage"] == "fill"][-1]
    vanilla = run(options.fill_up, prompts)
    assert options.fill_up.steps == 4 and torch.equal(last["tokens"], vanilla.trace.events[-1]["tokens"])


def likeliest(prompts, canvas, at, lambda_=1.0):
    """The model's likeliest tokens at the positions `at` [B, G] of a canvas in which these are masked."""
    ids, mask = prompts
    masked = canvas.masked_fill(at, SHIFTED.mask_id)
    full = torch.cat([mask, torch.ones_like(canvas)], 1)
    with torch.inference_mode():
        logits = canvas_logits(tiny(), torch.cat([ids, masked], 1), full, at, SHIFTED)
        logits = penalise_eot(logits, 0, "logit_div", lambda_).clone()
        logits[:, SHIFTED.mask_id] = -torch.inf
        return logits.argmax(-1)


def test_a_greedy_last_pass_takes_the_likeliest_tokens(prompts):
    """After draws at temperature 5 the tokens of the last iteration are the likeliest of its canvas."""
    options = Tolerator(canvas=8, forwards=5, rho=0.4, temperature=0.0, refine_temperature=5.0, greedy_last=True)
    before, last = run(options, prompts).trace.events[-2:]
    found = likeliest(prompts, before["tokens"], last["changed"])
    assert torch.equal(last["tokens"][last["changed"]], found)
    warm = run(replace(options, greedy_last=False), prompts).trace.events[-1]
    assert not torch.equal(warm["tokens"], last["tokens"])


def test_what_refinement_measures_is_what_it_did(prompts):
    options = Tolerator(canvas=8, forwards=12, rho=0.3, lock_after=3, refine_temperature=0.5)
    trace = run(options, prompts).trace
    masked, changed = trace.measures["masked"], trace.measures["changed"]
    assert masked.shape == changed.shape == (4, options.refine_steps)
    fill_up = run(options.fill_up, prompts).trace
    assert torch.equal(trace.head_positions, fill_up.head_positions + masked.sum(-1))
    assert (changed <= masked).all() and changed.sum() > 0
    refined = [event for event in trace.events if event["stage"] == "refine"]
    for k, event in enumerate(refined):
        assert torch.equal(masked[event["rows"], k], event["changed"].sum(-1))


@pytest.mark.parametrize("form", ["prob_div", "logit_div"])
def test_rcr_draws_under_the_penalty(form):
    options = Rcr(canvas=3, steps=3, temperature=0.9, top_p=1.0, eot_form=form, eot_lambda=2.5, tempered=False)
    probs = torch.softmax(penalise_eot(LOGITS, 0, form, 2.5) / 0.9, -1)
    tokens, nothing = torch.tensor([1, 3, 1]), torch.zeros(DRAWS, 3).double()
    everywhere = torch.ones(3, dtype=torch.bool)
    out, sure = rcr_step(expand(tokens), nothing, expand(LOGITS), everywhere, 0, options, FIVE, uniform(7, 3))
    assert_follows(out, {(a, 3, c): float(probs[0, a] * probs[2, c]) for a in range(5) for c in range(5)})
    plain = torch.softmax(penalise_eot(LOGITS, 0, form, 2.5), -1)
    assert torch.allclose(sure[:, 0], plain[0, out[:, 0]].double())


@pytest.mark.parametrize("method", [Vanilla, Remdm, Rcr])
def test_a_heavy_penalty_makes_answers_longer(method, prompts):
    """Both directions: lambda above 1 puts the end off, below 1 it brings it on."""
    lengths = []
    for lambda_ in (1e-9, 1.0, 1e9):
        options = method(canvas=8, steps=8, temperature=1.0, eot_form="prob_div", eot_lambda=lambda_)
        lengths.append(int(run(options, prompts, UNSHIFTED).lengths.sum()))
    assert lengths[0] == 0 and lengths[0] < lengths[1] <= lengths[2] == 4 * 8


def test_the_ports_window_has_the_published_number_of_steps():
    """Fact sheet 2.3: one step of 4, 7 of 32, 13 of 64, 51 of 256."""
    for steps, within in ((4, 1), (32, 7), (64, 13), (256, 51)):
        options = RemdmPort(canvas=256, steps=steps)
        assert sum(map(options.within, range(steps))) == within
    assert RemdmPort().share == pytest.approx(0.38)


def test_the_port_never_masks_again_and_remdm_does(prompts):
    def remasked(options):
        events = run(options, prompts, scale=3.0).trace.events
        before = torch.full_like(events[0]["tokens"], SHIFTED.mask_id)
        found = 0
        for event in events:
            found += int(((before != SHIFTED.mask_id) & (event["tokens"] != before)).sum())
            before = event["tokens"]
        return found

    assert remasked(RemdmPort(canvas=24, steps=24)) == 0
    assert remasked(Remdm(canvas=24, steps=24, eta=0.3)) > 0


def test_the_port_outside_its_window_is_vanilla(prompts):
    """A window that no step falls into leaves vanilla decoding to the token."""
    options = RemdmPort(canvas=8, steps=4, t_on=0.45, t_off=0.3)
    assert not any(map(options.within, range(4)))
    out, vanilla = run(options, prompts), run(options.vanilla, prompts)
    assert torch.equal(out.responses, vanilla.responses)


def test_window_step_follows_the_enumerated_distribution():
    """Two masks, one is kept: the surer of those that drew a token, none where both drew [MASK]."""
    tokens, share = torch.tensor([1, 3, 1]), 0.38
    probs = torch.softmax(LOGITS, -1)
    exact = {(1, 3, 1): (1 - share) ** 2}
    for a in range(5):
        alone = share * float(probs[0, a]) * (1 - share)
        exact[a, 3, 1] = exact.get((a, 3, 1), 0) + alone
        exact[1, 3, a] = exact.get((1, 3, a), 0) + share * float(probs[2, a]) * (1 - share)
    for a in range(5):
        for c in range(5):
            both = share**2 * float(probs[0, a] * probs[2, c])
            kept = (a, 3, 1) if probs[0, a] >= probs[2, c] else (1, 3, c)
            exact[kept] += both
    out, kept = window_step(expand(tokens), expand(LOGITS), 1, share, 1, uniform(9, 3, 2))
    assert (kept.sum(-1) <= 1).all() and not kept[:, 1].any()
    assert_follows(out, exact)


def test_a_sure_token_is_kept_at_once():
    masked = torch.tensor([[True, True, True, True, False]])
    probability = torch.tensor([[0.95, 0.2, 0.91, 0.4, 0.0]]).double()
    assert keep_sure(masked, probability, 4, 0.9).tolist() == [[True, False, True, False, False]]
    assert keep_sure(masked, probability, 2, 1.1).sum() == 2, "half of the masks where two steps are left"
    assert keep_sure(masked, probability, 1, 0.9).tolist() == masked.tolist(), "the last step keeps all"


def test_doubts_take_turns_and_confirmed_ones_rest():
    options = Settle(doubt=0.9, share=0.5)
    state = Canvases(
        torch.tensor([[2, 3, 4, 2]]),
        torch.tensor([[0.5, 0.3, 0.95, 0.1]]).double(),
        torch.tensor([[0, 0, 0, 1]]),
        torch.zeros(1, 4, dtype=torch.bool),
    )
    assert most_doubtful(state, options).tolist() == [[True, True, False, False]], "half of three, rounded up"
    state.confirmed[0, 1] = True
    assert most_doubtful(state, options).tolist() == [[True, False, False, False]]
    state.confirmed[:] = True
    assert not most_doubtful(state, options).any()


def test_a_check_changes_a_token_only_for_a_likelier_one():
    chosen = expand(torch.tensor([True, False, True]))
    tokens = torch.tensor([4, 3, 0])  # the first is the second likeliest of its position, the third the likeliest
    nothing = torch.zeros(DRAWS, 3).double()
    state = Canvases(expand(tokens), nothing, nothing.long(), expand(torch.tensor([False, True, False])))
    after = settle_step(state, chosen, expand(LOGITS), 1, Settle(canvas=3, temperature=1.0), 1, uniform(11, 3))
    probs = torch.softmax(LOGITS, -1)
    best = [a for a in range(5) if probs[0, a] > probs[0, 4]]
    exact = {(a, 3, 0): float(probs[0, a]) for a in best}
    exact[4, 3, 0] = 1 - sum(exact.values())
    assert_follows(after.tokens, exact)
    changed = (after.tokens != state.tokens).any(-1)
    assert changed.any() and not changed.all()
    assert torch.equal(after.confirmed[:, 1], ~changed), "a change reopens what was confirmed before"
    assert after.confirmed[:, 2].all() and torch.equal(after.confirmed[:, 0], ~changed)
    assert torch.equal(after.checks, chosen.long())
    expected = probs[0, after.tokens[:, 0]].double()
    assert torch.allclose(after.confidence[:, 0], expected) and (after.confidence[:, 1] == 0).all()


def test_settle_without_checks_and_sureness_is_greedy_vanilla(prompts):
    """sure above 1 and doubt 0: ceil(masks / steps left) a step, which is the even schedule."""
    ours = run(Settle(canvas=8, forwards=5, rho=1.0, sure=1.1, doubt=0.0), prompts)
    vanilla = run(Vanilla(canvas=8, steps=5, temperature=0.0), prompts)
    assert torch.equal(ours.responses, vanilla.responses)
    assert ours.trace.target_forwards.tolist() == [5] * 4


def test_a_settled_response_has_the_likeliest_token_everywhere(prompts):
    """One position at a time, none beyond doubt: at the end each token is the likeliest given all others."""
    options = Settle(canvas=8, forwards=200, rho=0.01, doubt=1.1, share=1e-9)
    trace = run(options, prompts).trace
    settled = trace.target_forwards < 200  # conditionals of a random model need not agree: a row may go in circles
    assert settled.sum() >= 3
    canvas = torch.zeros(4, 8, dtype=torch.long)
    for event in trace.events:
        canvas[event["rows"]] = event["tokens"]
    assert (trace.target_forwards >= options.fill_steps + 8).all(), "every position was checked"
    for position in range(8):
        at = torch.zeros_like(canvas, dtype=torch.bool)
        at[:, position] = True
        assert torch.equal(likeliest(prompts, canvas, at)[settled], canvas[settled, position])
