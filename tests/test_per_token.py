"""What comes back with a text of every token of it: the step that unmasked it, its temperature and top-p."""

import pytest
import torch
from conftest import AR, SHIFTED, tiny
from listeners import CANVASES, LENGTH, TARGET, generate, options_of
from transformers.generation import GenerateDecoderOnlyOutput

from lib.autodeco.decode import AutoDeco
from lib.decoders import decode
from lib.decoding.listening import Listener
from lib.tolerator import RemdmPort, Tolerator


@pytest.mark.parametrize("name", CANVASES)
def test_the_step_map_is_that_of_the_events(name, prompts):
    ids, mask = prompts
    given = {"generator": 3, "family": SHIFTED, "attention_mask": mask}
    trace = decode(tiny(), ids, options_of(name), record=True, **given).trace
    expected = torch.zeros(4, LENGTH, dtype=torch.long)
    for number, event in enumerate(trace.events, 1):
        rows = event.get("rows", torch.arange(4))
        masked = event["tokens"] == SHIFTED.mask_id
        before = expected[rows]
        expected[rows] = torch.where(event["changed"], number, before).masked_fill(masked, 0)
    steps = trace.per_token["step"]
    assert torch.equal(steps, expected) and len(steps.unique()) > 2
    out = generate(name, ids, attention_mask=mask, return_dict_in_generate=True)
    assert isinstance(out, GenerateDecoderOnlyOutput) and torch.equal(out.trace.per_token["step"], steps)
    assert (steps <= out.trace.target_forwards[:, None]).all() and "step" not in out.trace.row(0)
    assert decode(tiny(), ids, options_of(name), **given).trace.per_token is None, "it is made when asked"


def test_a_mask_that_stays_was_never_unmasked(prompts):
    options = RemdmPort(canvas=12, steps=3, eta=0.0, t_on=0.9, t_off=0.1)
    out = decode(tiny(), prompts[0], options, generator=0, family=SHIFTED, record=Listener())
    step = out.trace.per_token["step"]
    assert (step == 0).any() and torch.equal(step[:, :4] == 0, out.responses[:, :4] == SHIFTED.mask_id)


def test_a_step_map_of_tolerator_says_where_tokens_were_drawn_again(prompts):
    options = Tolerator(canvas=12, forwards=8, rho=0.5, gamma_max=0.4, gamma_min=0.1)
    step = decode(tiny(), prompts[0], options, generator=0, family=SHIFTED, record=Listener()).trace.per_token["step"]
    assert (step > 4).any() and ((0 < step) & (step <= 4)).any()


@pytest.mark.parametrize("shuffled", [False, True])
def test_settings_of_every_token_come_with_the_trace(shuffled, prompts):
    ids, mask = prompts
    options = AutoDeco(30, shuffled=shuffled)
    out = generate("autodeco", ids, options, attention_mask=mask, return_dict_in_generate=True)
    trace = decode(TARGET, ids, options, generator=3, family=AR, attention_mask=mask, record=True).trace
    for name in ("temperature", "top_p"):
        expected = torch.full((4, 30), torch.nan)
        for event in trace.events:
            expected[event["rows"], event["step"]] = event[name]
        assert torch.allclose(out.trace.per_token[name], expected, equal_nan=True, rtol=0, atol=0)
        means = out.trace.per_token[name].double().nanmean(-1)
        assert torch.allclose(means, trace.measures[name], atol=1e-4) and expected.isnan().any()
