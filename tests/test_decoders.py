"""What holds for every decoder: counts, invariances, limits, errors."""

from dataclasses import fields

import pytest
import torch
from conftest import AR, SHIFTED, UNSHIFTED, Counter, tiny

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco
from lib.autodeco.peers.entropy import EntropyTemperature
from lib.autodeco.peers.eta import Eta
from lib.autodeco.peers.min_p import MinP
from lib.autodeco.peers.p_less import PLess
from lib.autodeco.peers.top_h import TopH
from lib.autodeco.peers.typical import TypicalP
from lib.decoders import DECODERS, decode, options_of
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.tolerator import (
    Core,
    FastDllm,
    Rcr,
    Remdm,
    RemdmLlada,
    RemdmPort,
    Settle,
    T2m,
    Tolerator,
    Vanilla,
    Wino,
)

# Rules that end by themselves, or at their limit at the latest.
LIMITED = [
    FastDllm(canvas=8, forwards=6),
    FastDllm(canvas=8, forwards=7, block=4, rule="factor", temperature=1.0),
    T2m(canvas=8, forwards=9),
    T2m(canvas=8, forwards=12, block=4, temperature=1.0, doubt=0.9),
    Wino(canvas=8, forwards=6),
    Wino(canvas=8, forwards=9, block=4, draft=0.1, temperature=1.0),
    Settle(canvas=8, forwards=6),
    Settle(canvas=8, forwards=14, rho=0.5, sure=0.6, doubt=1.1, share=0.5, temperature=1.0),
]
DIFFUSION = [
    Vanilla(canvas=8, steps=1),
    Vanilla(canvas=8, steps=3),
    Vanilla(canvas=8, steps=8, rule="entropy", temperature=1.0, top_p=0.9),
    Vanilla(canvas=8, steps=5, schedule="dream", rule="margin"),
    Vanilla(canvas=8, steps=5, block=4, rule="random", eot_form="prob_div"),
    Remdm(canvas=8, steps=5, variant="cap", eta=0.3),
    Remdm(canvas=8, steps=6, variant="rescale", eta=0.5),
    Remdm(canvas=8, steps=6, variant="conf"),
    Remdm(canvas=8, steps=9, variant="loop", eta=0.1),
    Remdm(canvas=8, steps=9, edges="continuous", crossing=True, last_argmax=False),
    Rcr(canvas=8, steps=3),
    Rcr(canvas=8, steps=6, block=2),
    Rcr(canvas=8, steps=6, block=2, rounding="even", tempered=False, reopen=False),
    Rcr(canvas=8, steps=4, eot_form="prob_div", eot_lambda=3.0),
    RemdmPort(canvas=8, steps=8),
    RemdmLlada(canvas=8, forwards=9),
    Core(canvas=8, forwards=9, every=2, candidates=3),
    *LIMITED,
    Tolerator(canvas=8, forwards=2),
    Tolerator(canvas=8, forwards=9, subset="folds"),
    Tolerator(canvas=8, forwards=9, subset="confidence", greedy_last=True),
    Tolerator(canvas=8, forwards=7, rho=0.3, rate="exponential", block=8),
    Tolerator(canvas=8, forwards=12, rho=0.5, rate="constant", update_rate=0.5, eot_form="prob_div"),
    Tolerator(canvas=8, forwards=12, rho=0.1, lock_after=2, refine_temperature=0.0),
]
AUTOREGRESSIVE = [
    Autoregressive(max_new_tokens=9),
    Autoregressive(max_new_tokens=9, temperature=1.0, top_p=0.9),
    AutoDeco(max_new_tokens=9),
    AutoDeco(max_new_tokens=9, shuffled=True),
    EntropyTemperature(max_new_tokens=9, theta=1.0),
    Eta(max_new_tokens=9, epsilon=0.05),
    MinP(max_new_tokens=9, temperature=1.5),
    PLess(max_new_tokens=9, temperature=1.5),
    TopH(max_new_tokens=9, temperature=1.5, alpha=0.8),
    TypicalP(max_new_tokens=9),
]
EVERY = [*AUTOREGRESSIVE, *DIFFUSION]


def family_of(options):
    return SHIFTED if hasattr(options, "canvas") else AR


@pytest.fixture
def model(model):
    """Heads go with it: only AutoDeco looks at what they say."""
    torch.manual_seed(5)
    return Both(model, AutoDecoForCausalLM.from_base(model, Heads(HeadsConfig(32, width=16))))


class Both:
    """A base for the diffusion methods; those token by token get the same base with heads, whose logits are equal."""

    def __init__(self, base, with_heads):
        self.base, self.with_heads, self.config = base, with_heads, base.config
        self.heads = with_heads.heads

    def __call__(self, **inputs):
        return (self.with_heads if "past_key_values" in inputs else self.base)(**inputs)

    def __getattr__(self, name):
        return getattr(self.base, name)


def run(model, prompts, options, generator=None, **more):
    ids, mask = prompts
    generator = generator or RowGenerator.of(7, [f"item{i}" for i in range(len(ids))])
    return decode(model, ids, options, generator=generator, family=family_of(options), attention_mask=mask, **more)


@pytest.mark.parametrize("options", EVERY, ids=repr)
def test_forwards_counted_by_wrapping_the_model(model, prompts, options):
    counter = Counter(model)
    out = run(counter, prompts, options)
    assert out.trace.batch_forwards == counter.calls
    assert int(out.trace.target_forwards.sum()) == counter.rows
    assert counter.calls == int(out.trace.target_forwards.max())


@pytest.mark.parametrize("options", DIFFUSION, ids=repr)
def test_budget_is_exact_where_nothing_stops_early(model, prompts, options):
    out = run(model, prompts, options)
    budget = getattr(options, "forwards", 0) or options.steps
    if options in LIMITED or getattr(options, "lock_after", 0):
        assert (out.trace.target_forwards <= budget).all()
    else:
        assert out.trace.target_forwards.tolist() == [budget] * 4
    shadow = (options.block or options.canvas) if isinstance(options, Wino) else 0
    lengths = prompts[1].sum(-1) + options.canvas + shadow
    assert out.trace.positions.tolist() == (lengths * out.trace.target_forwards).tolist()


@pytest.mark.parametrize("options", EVERY, ids=repr)
def test_batch_order_and_padding_change_nothing(model, prompts, options):
    ids, mask = prompts
    names = [f"item{i}" for i in range(4)]
    together = run(model, prompts, options)
    for row in (2, 0, 3, 1):
        length = int(mask[row].sum())
        alone = run(
            model,
            (ids[row : row + 1, -length:], mask[row : row + 1, -length:]),
            options,
            RowGenerator.of(7, [names[row]]),
        )
        assert torch.equal(alone.responses[0], together.responses[row])
        assert alone.trace.row(0) == together.trace.row(row)


@pytest.mark.parametrize("options", [o for o in DIFFUSION if not isinstance(o, RemdmPort)], ids=repr)
@pytest.mark.parametrize("family", [SHIFTED, UNSHIFTED], ids=lambda f: f.name)
def test_no_mask_is_left_and_nothing_follows_the_first_eot(model, prompts, options, family):
    ids, mask = prompts
    before = ids.clone()
    out = decode(model, ids, options, generator=3, family=family, attention_mask=mask)
    assert torch.equal(ids, before), "prompts are never touched"
    assert (out.responses != family.mask_id).all()
    for row, length in zip(out.responses, out.lengths, strict=True):
        assert not torch.isin(row[:length], torch.tensor(family.eot_ids)).any()
        assert (row[length:] == family.eot_ids[0]).all()


@pytest.mark.parametrize("options", EVERY, ids=repr)
def test_seeds_matter_only_where_something_is_drawn(model, prompts, options):
    outs = [run(model, prompts, options, RowGenerator.of(seed, list("abcd"))).responses for seed in range(6)]
    same = all(torch.equal(outs[0], other) for other in outs[1:])
    greedy = getattr(options, "temperature", 1) == 0 and not isinstance(options, Tolerator)
    assert same == greedy


@pytest.mark.parametrize("options", AUTOREGRESSIVE, ids=repr)
def test_cache_on_equals_cache_off(model, prompts, options):
    from dataclasses import replace

    on, off = run(model, prompts, options), run(model, prompts, replace(options, use_cache=False))
    assert torch.equal(on.responses, off.responses)
    assert (on.trace.positions <= off.trace.positions).all()


def test_greedy_equals_transformers_generate(model, prompts):
    ids, mask = prompts
    ours = run(model, prompts, Autoregressive(max_new_tokens=10))
    theirs = model.generate(
        ids, attention_mask=mask, max_new_tokens=10, do_sample=False, eos_token_id=0, pad_token_id=0
    )
    theirs = theirs[:, ids.shape[1] :]
    assert torch.equal(ours.responses[:, : theirs.shape[1]], theirs)


def test_temperature_zero_is_argmax_one_token_a_forward(model, prompts):
    """Vanilla at T = G and temperature 0, written out by hand."""
    ids, mask = prompts
    options = Vanilla(canvas=6, steps=6, temperature=0.0)
    out = decode(model, ids, options, generator=0, family=SHIFTED, attention_mask=mask, record=True)
    from lib.decoding.bidirectional import canvas_logits

    canvas = torch.full((4, 6), SHIFTED.mask_id)
    full = torch.cat([mask, torch.ones(4, 6, dtype=torch.long)], 1)
    with torch.inference_mode():
        for _ in range(6):
            logits = canvas_logits(model, torch.cat([ids, canvas], 1), full, torch.ones(4, 6).bool(), SHIFTED).view(
                4, 6, -1
            )
            logits[..., SHIFTED.mask_id] = -torch.inf
            best, token = logits.softmax(-1).max(-1)
            where = best.masked_fill(canvas != SHIFTED.mask_id, -1).argmax(-1)
            canvas[torch.arange(4), where] = token[torch.arange(4), where]
    assert torch.equal(out.trace.events[-1]["tokens"], canvas)


def test_every_eot_kind_ends_a_response():
    from lib.decoding.trace import Decoded, Trace

    responses = torch.tensor([[5, 2, 7, 0], [5, 6, 7, 8], [0, 5, 5, 5]])
    out = Decoded.close(responses, (0, 2), Trace.start(3))
    assert out.lengths.tolist() == [1, 4, 0]
    assert out.responses.tolist() == [[5, 0, 0, 0], [5, 6, 7, 8], [0, 0, 0, 0]]


def test_length_limit_is_exact():
    model = tiny(seed=3)
    model.lm_head.weight.data[0] = 0  # EoT's logit is 0 and another's always above
    out = run(model, (torch.tensor([[4, 5]]), torch.ones(1, 2, dtype=torch.long)), Autoregressive(max_new_tokens=5))
    assert out.lengths.tolist() == [5] == out.trace.target_forwards.tolist()


@pytest.mark.parametrize("method", DECODERS)
def test_an_unknown_option_names_itself_and_the_known_ones(method):
    first = fields(DECODERS[method].options)[0].name
    with pytest.raises(UserError, match=f"no option 'temprature'; it has {first}, "):
        options_of(method, {"temprature": 1.0})


def test_an_unknown_method_lists_the_known():
    with pytest.raises(UserError, match="tolerator"):
        options_of("toleratr", {})


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("tolerator", {"rho": 0.0}, r"rho must be in \(0, 1\)"),
        ("tolerator", {"rho": 1.0}, r"rho must be in \(0, 1\)"),
        ("tolerator", {"forwards": 1}, "forwards must be 2 or more"),
        ("tolerator", {"gamma_min": 0.9}, "gamma_min"),
        ("tolerator", {"canvas": 4, "forwards": 20}, "Tolerator.forwards must be such that .* the canvas, 4"),
        ("rcr", {"canvas": 4, "steps": 5}, "Rcr.steps must be from 1 to the canvas length, 4"),
        ("vanilla", {"steps": "8"}, "steps must be of type int"),
        ("vanilla", {"steps": 4.0}, "steps must be of type int"),
        ("tolerator", {"rho": "x"}, "rho must be of type float"),
        ("vanilla", {"rule": "best"}, "rule must be empty or one of"),
        ("vanilla", {"canvas": 8, "steps": 8, "block": 3}, "block must be 0 or a divisor"),
        ("vanilla", {"top_p": 0.0}, "top_p"),
        ("remdm", {"variant": "max"}, "variant"),
        ("remdm", {"t_off": 0.9}, "t_off"),
        ("remdm", {"eot_form": "log"}, "eot_form must be one of"),
        ("rcr", {"eot_lambda": 0.0}, "eot_lambda must be above 0"),
        ("remdm_port", {"eta": 0.5}, "eta must be at most"),
        ("tolerator", {"subset": "even"}, "subset must be one of random, folds, confidence"),
        ("settle", {"share": 0.0}, r"share must be in \(0, 1\]"),
        ("settle", {"rho": 1.5}, r"rho must be in \(0, 1\]"),
        ("autoregressive", {"temperature": -1}, "temperature"),
    ],
)
def test_a_value_out_of_range_names_its_range(method, values, message):
    with pytest.raises(UserError, match=message):
        options_of(method, values)


def test_a_diffusion_decoder_refuses_an_autoregressive_model(model, prompts):
    with pytest.raises(UserError, match="mask token"):
        decode(model, prompts[0], Vanilla(), generator=0, family=AR)


@pytest.mark.parametrize("options", DIFFUSION, ids=repr)
def test_prompts_are_never_touched(model, prompts, options):
    """At every forward the rows' prompts are the ones given."""
    ids, mask = prompts
    seen = []

    class Watch(Counter):
        def __call__(self, **inputs):
            seen.append(inputs["input_ids"][:, : ids.shape[1]].clone())
            return super().__call__(**inputs)

    run(Watch(model), prompts, options)
    given = {tuple(row) for row in ids.tolist()}
    assert seen and all(tuple(row) in given for rows in seen for row in rows.tolist())
    assert torch.equal(seen[0], ids)


@pytest.mark.parametrize(
    "options, masks",
    [
        (Vanilla(canvas=8, steps=3), [5, 2, 0]),
        (Vanilla(canvas=8, steps=4, block=4), [6, 4, 2, 0]),
        (Vanilla(canvas=8, steps=3, block=4), [6, 4, 0]),
        (Vanilla(canvas=8, steps=8), [7, 6, 5, 4, 3, 2, 1, 0]),
        (Rcr(canvas=8, steps=3), [5, 2, 0]),
        (Rcr(canvas=8, steps=4, block=4), [6, 4, 2, 0]),
        (Tolerator(canvas=8, forwards=6, rho=0.5), [5, 2, 0, 0, 0, 0]),
    ],
    ids=repr,
)
def test_masks_after_each_forward_follow_the_schedule(model, prompts, options, masks):
    trace = run(model, prompts, options, record=True).trace
    left = [(event["tokens"] == SHIFTED.mask_id).sum(-1).tolist() for event in trace.events]
    assert left == [[count] * 4 for count in masks]


def test_refinement_masks_the_published_counts(model, prompts):
    """8 positions at gamma 0.8 to 0.4 on the cosine: 7 and 4 at the ends, 5 in the middle."""
    trace = run(model, prompts, Tolerator(canvas=8, forwards=6, rho=0.5), record=True).trace
    changed = [event["changed"].sum(-1).tolist() for event in trace.events if event["stage"] == "refine"]
    assert changed == [[7] * 4, [5] * 4, [4] * 4]


def test_the_head_is_counted_and_computed_where_it_is_needed(model, prompts):
    """Vanilla over 8 positions in 3 forwards: 8, 5 and 2 masks; refinement: the masked 7, 5 and 4."""
    widths = []
    handle = model.lm_head.register_forward_hook(lambda _, __, out: widths.append(len(out)))
    try:
        vanilla = run(model, prompts, Vanilla(canvas=8, steps=3)).trace
        refined = run(model, prompts, Tolerator(canvas=8, forwards=6)).trace
    finally:
        handle.remove()
    assert vanilla.head_positions.tolist() == [15] * 4 and refined.head_positions.tolist() == [15 + 16] * 4
    assert widths == [4 * n for n in (8, 5, 2, 8, 5, 2, 7, 5, 4)]
