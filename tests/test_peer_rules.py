"""The rules of the diffusion peers in numbers: published counts, bounds, budgets."""

import itertools
from collections import Counter as Tally
from dataclasses import replace

import pytest
import torch
from conftest import SHIFTED, UNSHIFTED, tiny
from test_tolerator import DRAWS, FIVE, LOGITS, assert_follows, expand, uniform

from lib.decoders import decode, options_of
from lib.decoding.bidirectional import canvas_logits, pair_logits
from lib.errors import UserError
from lib.tolerator import Core, FastDllm, RemdmLlada, T2m, Vanilla, Wino
from lib.tolerator.peers.core import revise
from lib.tolerator.peers.fast_dllm import confident, fast_dllm_step
from lib.tolerator.peers.pace import Pace
from lib.tolerator.peers.wino import shadow_text, wino_step

UNLIMITED = torch.tensor([2**30])


def test_the_rules_of_fast_dllm():
    c = torch.tensor([[0.95, 0.2, 0.91, 0.6, 0.99]]).double()
    open_ = torch.tensor([[True, True, True, True, False]])
    assert confident(c, open_, FastDllm()).tolist() == [[True, False, True, False, False]]
    # 2 (1 - .95) = .1, 3 (1 - .91) = .27, 4 (1 - .6) = 1.6, 5 (1 - .2) = 4
    for factor, kept in ((0.05, 0), (0.1001, 1), (0.28, 2), (1.5, 2), (1.7, 3), (4.1, 4)):
        found = confident(c, open_, FastDllm(rule="factor", factor=factor))
        assert found.sum() == kept and not found[0, 4], factor


def test_fast_dllm_step_follows_the_enumerated_distribution():
    """Two masks at temperature 0.7: kept are those at 0.45 or above, else the surer one."""
    probs, plain = torch.softmax(LOGITS / 0.7, -1), torch.softmax(LOGITS, -1)
    exact = Tally()
    for a, c in itertools.product(range(5), repeat=2):
        sure = [float(plain[0, a]), float(plain[2, c])]
        kept = [s >= 0.45 for s in sure]
        if not any(kept):
            kept[sure.index(max(sure))] = True
        exact[a if kept[0] else 1, 3, c if kept[1] else 1] += float(probs[0, a] * probs[2, c])
    open_ = expand(torch.tensor([True, False, True]))
    options = FastDllm(canvas=3, threshold=0.45, temperature=0.7)
    least = torch.ones(DRAWS, dtype=torch.long)
    tokens = expand(torch.tensor([1, 3, 1]))
    out, _ = fast_dllm_step(tokens, open_, expand(LOGITS)[open_], least, options, 0, uniform(3, 3))
    assert_follows(out, exact)


def test_core_revises_the_most_unstable_token():
    probs, plain = torch.softmax(LOGITS / 0.7, -1), torch.softmax(LOGITS, -1)
    assert plain[0, 3] > plain[2, 2] < plain[1, 0], "the third token is the least likely one"
    chosen = expand(torch.tensor([True, True, True]))
    tokens, options = expand(torch.tensor([3, 0, 2])), Core(canvas=3, forwards=4, every=1, temperature=0.7)
    out, again = revise(tokens, chosen, expand(LOGITS)[chosen], options, 0, uniform(4, 3))
    assert (again == torch.tensor([False, False, True])).all()
    assert_follows(out, {(3, 0, c): float(probs[2, c]) for c in range(5)})


def test_published_counts_of_core():
    """128 steps have 8 revisions, 136 forwards in all: every 8th in [0.25, 0.75)."""
    steps, revisions = Core(canvas=512, forwards=136).plan
    assert steps == 128 and revisions == [32, 40, 48, 56, 64, 72, 80, 88]
    assert Core(canvas=512, forwards=137).plan[0] == 129, "step 96 of 128 is outside: 96 / 128 is the window's end"
    for forwards in range(1, 200):
        steps, revisions = Core(canvas=512, forwards=forwards, revised=0).plan
        assert steps + len(revisions) == forwards
    steps, revisions = Core(canvas=8, forwards=8, every=1, start=0.0, end=1.0).plan
    assert steps == 5 and revisions == [2, 3, 4], "before step 1 nothing is decoded"


def test_core_without_a_revision_is_refused():
    """At E 8 step 8 of 11 is the first in the window, and takes 12 forwards."""
    for forwards in range(1, 12):
        with pytest.raises(UserError, match=f"more, or a smaller every, or revised=0.*, not {forwards}$"):
            Core(canvas=32, forwards=forwards)
        Core(canvas=32, forwards=forwards, revised=0)
    assert Core(canvas=32, forwards=12).plan == (11, [8])
    Core(canvas=32, forwards=11, every=4)


def test_published_counts_of_remdm_for_llada():
    """32 tokens, 32 sampling steps: 28 fill, 32 mask again, 4 fill, 64 in all."""
    assert RemdmLlada(canvas=32, forwards=64).plan() == [(32, 32, 28)]
    assert RemdmLlada(canvas=32, forwards=16, block=8).plan() == [(2, 2, 1)] * 4


def test_wino_accepts_and_takes_back_in_its_bounds():
    """40 masks: at most 20 of those above tau_1; doubts below tau_2 but fewer than were accepted before."""
    width = 50
    logits = torch.zeros(40, 5)
    logits[:, 2] = torch.linspace(1.0, 3.0, 40)  # p from 0.40 to 0.83
    logits[:, 1] = -torch.inf
    open_ = torch.zeros(1, width, dtype=torch.bool)
    open_[:, :40] = True
    tokens = torch.full((1, width), 3).masked_fill(open_, 1)
    shadow = torch.zeros(10, 5)
    shadow[:, 3] = torch.linspace(-1.0, 5.0, 10)
    shadow[:, 1] = -torch.inf
    given = (tokens, open_, logits, ~open_, shadow)
    p, q = torch.softmax(logits, -1)[:, 2], torch.softmax(shadow, -1)[:, 3]
    draws = torch.full((1, width), 0.5)

    def step(options, before=4, left=UNLIMITED):
        return wino_step(*given, torch.tensor([before]), left, options, FIVE, draws)

    _, accepted, again = step(Wino(canvas=width))
    assert accepted.sum() == min(int((p > 0.6).sum()), 20) == 20 and accepted[0, 20:40].all()
    assert (q < 0.9).sum() > 3 and again.sum() == 3 and again[0, 40:43].all(), "the least probable, fewer than before"
    assert step(Wino(canvas=width), before=99)[2].sum() == (q < 0.9).sum()
    _, accepted, again = step(Wino(canvas=width, draft=0.9), before=99)
    assert accepted.sum() == 1 and not again.any(), "who accepts but one takes nothing back"
    _, accepted, again = step(Wino(canvas=width), left=torch.tensor([1]))
    assert torch.equal(accepted, open_) and not again.any(), "the last forward fills"


@pytest.mark.parametrize("family", [SHIFTED, UNSHIFTED], ids=lambda family: family.name)
@torch.inference_mode()
def test_a_shadow_does_not_see_its_token_and_the_text_no_shadow(family):
    """In one layer, where none can tell another: another token changes no logit of its shadow."""
    model = tiny()
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    text = torch.tensor([[0, 7, 8, 9, 10, 11, 12]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 1]])

    def logits(text):
        ids, seen, places = shadow_text(text, mask, torch.tensor([3]), 4, family.mask_id, family.shift)
        return pair_logits(model, ids, seen, places, torch.ones_like(ids).bool())

    before, changed = logits(text), text.clone()
    changed[0, 4] = 20
    after = logits(changed)
    assert torch.allclose(before[8], after[8]), "shadow of token 4"
    assert not torch.allclose(before[9], after[9]), "shadow of token 5"
    everything = torch.ones(1, 6, dtype=torch.bool)
    plain = canvas_logits(model, text[:, 1:], mask[:, 1:], everything, replace(family, shift=False))
    assert torch.allclose(before[1:7], plain, atol=1e-5)


@pytest.mark.parametrize("block", [0, 6])
@pytest.mark.parametrize("options", [Wino(canvas=24, draft=0.05, verify=1.1), Wino(canvas=24, draft=0.3, verify=1.1)])
def test_wino_ends_however_much_it_doubts(options, block, prompts):
    """Every token is doubted: it takes back fewer than it accepted before, so a token a forward is left at least."""
    ids, mask = prompts
    trace = decode(tiny(), ids, replace(options, block=block), generator=0, family=SHIFTED, attention_mask=mask).trace
    assert (trace.target_forwards <= 24).all()


def test_a_limit_shares_itself_out_over_blocks():
    pace = Pace(12, 4, 7)
    assert pace.later.tolist() == [4, 2, 0]
    assert pace.left(0, torch.tensor([0])).item() == 3
    assert pace.left(1, torch.tensor([1])).item() == 4, "what the first block saved goes to the second"
    assert pace.first_open(torch.tensor([[0] * 12, [0] * 4 + [1] * 8, [1] * 12]).bool()).tolist() == [2, 1, 0]
    assert Pace(12, 0, 0).left(99, torch.tensor([0])).item() > 10**6


METHODS = (FastDllm(canvas=12, threshold=1.1), Wino(canvas=12), T2m(canvas=12, sure=1.1, doubt=0.9, early_stop=False))


@pytest.mark.parametrize("options", METHODS, ids=lambda options: type(options).__name__)
@pytest.mark.parametrize("forwards, block", [(1, 0), (5, 0), (3, 4), (7, 4), (12, 3)])
def test_no_more_forwards_than_the_limit(options, forwards, block, prompts):
    ids, mask = prompts
    options = replace(options, forwards=forwards, block=block)
    out = decode(tiny(scale=3.0), ids, options, generator=0, family=SHIFTED, attention_mask=mask, record=True)
    assert (out.trace.target_forwards <= forwards).all() and out.trace.target_forwards.max() == forwards
    if isinstance(options, Wino):
        length = mask.sum(-1) + options.canvas + (block or options.canvas)
        assert out.trace.positions.tolist() == (length * out.trace.target_forwards).tolist()


def test_t2m_stops_at_the_block_with_an_eot(prompts):
    """Every token is an EoT: a block that one forward fills is checked by none, and no later one is decoded."""
    family = replace(SHIFTED, eot_ids=tuple(range(24)))
    given = {"generator": 0, "family": family, "attention_mask": prompts[1], "record": True}
    options = T2m(canvas=12, block=4, sure=1e-9)
    out = decode(tiny(), prompts[0], options, **given)
    assert out.trace.target_forwards.tolist() == [1] * 4
    assert ((out.trace.events[-1]["tokens"] == family.mask_id) == torch.tensor([False] * 4 + [True] * 8)).all()
    out = decode(tiny(), prompts[0], replace(options, early_stop=False), **given)
    assert (out.trace.target_forwards >= 6).all(), "a filling and a checking one a block"


def test_one_token_a_forward_is_greedy_vanilla(prompts):
    ids, mask = prompts
    given = {"generator": 0, "family": SHIFTED, "attention_mask": mask}
    vanilla = decode(tiny(), ids, Vanilla(canvas=8, steps=8, temperature=0.0), **given).responses
    core, llada = Core(canvas=8, forwards=8, revised=0), RemdmLlada(canvas=8, forwards=8, remask_share=0.0)
    wino, t2m = Wino(canvas=8, draft=1.0, verify=0.0), T2m(canvas=8, sure=1.0, most=0)
    for options in (FastDllm(canvas=8, threshold=1.1), wino, t2m, core, replace(llada, temperature=0.0)):
        assert torch.equal(decode(tiny(), ids, options, **given).responses, vanilla), options


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("fast_dllm", {"rule": "best"}, "rule must be one of threshold, factor"),
        ("fast_dllm", {"forwards": 2, "block": 8}, r"forwards must be 0 \(no limit\) or at least one a block"),
        ("wino", {"block": 5}, "block must be 0 or a divisor"),
        ("t2m", {"strategy": "low"}, "strategy must be one of low_prob"),
        ("core", {"start": 0.8}, r"end must be in \[start, 1\]"),
        ("core", {"canvas": 8, "forwards": 40}, "such that its .* steps are at most the canvas"),
        ("remdm_llada", {"remask_share": 1.0}, r"remask_share must be in \[0, 1\)"),
        ("remdm_llada", {"canvas": 8, "forwards": 30}, "no more filling steps than tokens"),
        ("remdm", {"edges": "x"}, "edges must be one of released, continuous"),
        ("core", {"temperature": -1.0}, "Core.temperature must be 0 or more"),
        ("rcr", {"rounding": "up"}, "rounding must be one of ceil, round, even"),
        ("rcr", {"block": 5}, "Rcr.block must be 0 or a divisor"),
        ("rcr", {"steps": 2, "block": 8}, "Rcr.steps must be at least one a block"),
        ("rcr", {"eot_lambda": 0.0}, "Rcr.eot_lambda must be above 0"),
        ("remdm_port", {"steps": 33}, "RemdmPort.steps must be from 1 to the canvas length, 32"),
        ("tolerator", {"block": 5}, "Tolerator.block must be 0 or a divisor"),
        ("tolerator", {"forwards": 4, "block": 8}, r"such that round\(rho T\) is at least one a block"),
        ("tolerator", {"top_p": 0.0}, r"Tolerator.top_p must be in \(0, 1\]"),
    ],
)
def test_a_value_out_of_range_names_its_range(method, values, message):
    with pytest.raises(UserError, match=message):
        options_of(method, values)


def test_wino_refuses_a_network_without_a_mask_of_pairs(prompts):
    family = replace(SHIFTED, wide_mask=False)
    with pytest.raises(UserError, match="wide_mask=True"):
        decode(tiny(), prompts[0], Wino(canvas=8), generator=0, family=family)
