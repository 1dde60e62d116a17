"""Where the papers leave it open, ReMDM, RCR and Dream's schedule go as their official code does."""

import itertools
from dataclasses import replace

import pytest
import torch
from conftest import SHIFTED, tiny
from test_tolerator import DRAWS, FIVE, LOGITS, uniform
from whole_canvas import rcr_step, remdm_step

from lib.decoders import decode
from lib.models.registry import FAMILIES
from lib.tolerator import Rcr, Remdm, Vanilla
from lib.tolerator.fill import plan
from lib.tolerator.peers.rcr import owed_masks
from lib.tolerator.peers.remdm import alpha, below, sigma


def test_the_released_edges_of_remdms_loop():
    """T = 32 with the published window: what the code's three branches give, written out from its move chances."""
    options, masked, one = Remdm(variant="loop", top_p=1.0), torch.zeros(1, 1).bool(), torch.ones(1, 1)
    for step in range(32):
        t, dt = 1 - step / 32, 1 / 32
        if t > 0.55:
            move_t, move_s = 1 - (1 - t) * 0.9 / 0.45, 1 - (1 - t + dt) * 0.9 / 0.45
            expected = (move_t - move_s) / move_t
        elif t > 0.05:
            expected = (0.9 - (1 - 0.02) * 0.9) / (1 - 0.9)
        else:
            expected = 1 - ((t - dt) * 0.1 / 0.05) / (t * 0.1 / 0.05)
        logits = LOGITS[:1].expand(DRAWS, 1, 5)
        tokens = torch.full((DRAWS, 1), 1)
        draws = torch.stack([torch.linspace(0, 1, DRAWS)[:, None]] * 2)
        out, _ = remdm_step(tokens, tokens.double(), logits, t, t - dt, options, FIVE, draws)
        assert (out != 1).double().mean().item() == pytest.approx(min(expected, 1), abs=1e-3), t
    inside, outside = alpha(0.53, options), alpha(0.53, options, 0.56)
    assert inside == 0.9 and outside == pytest.approx(0.94), "not clipped at the window's edge"
    assert sigma(0.5, 0.9, 0.9, options, masked, one).item() == pytest.approx(0.02)


def test_the_token_that_crosses_top_p_is_out_in_remdm():
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.85, 0.03, 0.02]])
    assert (below(probs, 0.9) > 0).tolist() == [[True, True, False, False], [False, True, False, False]]
    assert (below(probs, 0.4) > 0).sum(-1).tolist() == [1, 1], "the first is always in"
    for crossing, tokens in ((False, {0, 4}), (True, {0, 4, 3})):
        options = Remdm(canvas=3, variant="cap", eta=0.0, temperature=1.0, top_p=0.9, crossing=crossing)
        third = LOGITS[2:].expand(DRAWS, 1, 5)  # probabilities 0.52, 0, 0.05, 0.07, 0.32
        plain = torch.softmax(LOGITS[2], -1)
        masks = torch.full((DRAWS, 1), 1)
        out, sure = remdm_step(masks, masks.double(), third, 0.5, 0.0, options, FIVE, uniform(5, 1, 2))
        assert set(out[:, 0].tolist()) == tokens
        assert torch.allclose(sure[:, 0], plain[out[:, 0]].double())


def test_the_last_forward_of_remdm_takes_the_likeliest(prompts):
    ids, mask = prompts
    options = Remdm(canvas=16, steps=4, eta=0.3, temperature=3.0, top_p=1.0)
    assert options.times == pytest.approx([1, 1 - (1 - 1e-5) / 3, 1 - 2 * (1 - 1e-5) / 3, 1e-5])
    assert replace(options, last_argmax=False).times == [1, 0.75, 0.5, 0.25, 0]
    assert Remdm(steps=1).times == [1]
    given = {"generator": 0, "family": SHIFTED, "attention_mask": mask}
    one = decode(tiny(), ids, replace(options, steps=1), **given)
    greedy = decode(tiny(), ids, Vanilla(canvas=16, steps=1, temperature=0.0), **given)
    assert torch.equal(one.responses, greedy.responses) and one.trace.target_forwards.tolist() == [1] * 4


def test_what_is_kept_in_rcr():
    """32 tokens in 7 steps, as MDPO's code, its port and vanilla decoding keep them."""
    published = {"ceil": [5, 5, 4, 5, 4, 5, 4], "round": [5, 4, 5, 4, 5, 4, 5], "even": [5, 5, 5, 5, 4, 4, 4]}
    for rounding, kept in published.items():
        left = [32, *owed_masks(32, 7, rounding)]
        assert [a - b for a, b in itertools.pairwise(left)] == kept and left[-1] == 0


def test_rcr_ranks_by_the_tempered_probability():
    """Position 0 drew a token of plain probability 0.45 of three; cold, it is the surer one."""
    logits = torch.tensor([[[0.0, -torch.inf, 2.0, 1.9, -9.0], [0.0, -torch.inf, 1.2, -0.1, -9.0]]])
    plain, cold = torch.softmax(logits, -1), torch.softmax(logits / 0.1, -1)
    draws = torch.full((1, 2), 0.3)
    found = {}
    for tempered in (False, True):
        options = Rcr(canvas=2, steps=2, temperature=0.1, top_p=1.0, tempered=tempered)
        masks, everywhere = torch.full((1, 2), 1), torch.ones(2).bool()
        out, sure = rcr_step(masks, torch.zeros(1, 2).double(), logits, everywhere, 1, options, FIVE, draws)
        law = cold if tempered else plain
        assert sure[0].tolist() == pytest.approx([law[0, 0, 2].item(), law[0, 1, 2].item()])
        found[tempered] = out
    assert plain[0, 0, 2] < plain[0, 1, 2] and (found[False] == 1).sum() == 1 == (found[True] == 1).sum()


def test_rcr_may_open_earlier_blocks_again(prompts):
    ids, mask = prompts

    def reopened(reopen):
        options = Rcr(canvas=16, steps=12, block=4, temperature=1.0, reopen=reopen)
        given = {"generator": 0, "family": SHIFTED, "attention_mask": mask, "record": True}
        events = decode(tiny(scale=6.0), ids, options, **given).trace.events
        return sum(int((event["tokens"][:, :4] == 1).sum()) for event in events[3:])

    assert reopened(True) > 0 == reopened(False)


def test_dreams_schedule_is_its_familys(prompts):
    assert FAMILIES["dream"].schedule == "dream" and FAMILIES["llada"].schedule == "even"
    options = Vanilla(canvas=256, steps=32)
    assert [n for *_, n in plan(options, "dream")] == [7, *[8] * 30, 9]
    assert [n for *_, n in plan(options)] == [8] * 32
    assert plan(replace(options, schedule="even"), "dream") == plan(options)
    options, family = Vanilla(canvas=16, steps=5), replace(SHIFTED, schedule="dream")
    events = decode(tiny(), prompts[0], options, generator=0, family=family, record=True).trace.events
    kept = [int(event["changed"][0].sum()) for event in events]
    assert kept == [n for *_, n in plan(options, "dream")] != [n for *_, n in plan(options)]
