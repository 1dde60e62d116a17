"""AutoDeco: the heads, exact distributions, the controls."""

import math

import pytest
import torch
from conftest import AR, CONFIG, heads, tiny
from scipy.stats import chisquare

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco, deal, decode, predicted
from lib.autodeco.heads import largest, statistics
from lib.autodeco.peers.entropy import EntropyTemperature, entropy_temperature
from lib.decoding.autoregressive import Autoregressive, Next
from lib.decoding.autoregressive import decode as plain_decode
from lib.decoding.distributions import warp
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError

FALSE_ALARM = 1e-4  # of each statistical test: seeds are fixed, so it either always passes or never


def test_heads_have_the_published_sizes():
    """Parameter counts that the authors print for four bases."""
    for size, count in ((4096, 2_099_458), (3584, 1_837_314), (2048, 1_050_882), (2880, 1_476_866)):
        assert sum(p.numel() for p in Heads(HeadsConfig(size)).parameters()) == count
    smallest = sum(p.numel() for p in Heads(HeadsConfig(576)).parameters())
    assert smallest * 4 < 8e6, "the file stays under 8 MB"


def test_settings_lie_in_their_ranges_and_scale_the_logits():
    logits, hidden = torch.randn(50, 24) * 3, torch.randn(50, 32)
    temperature, top_p, probs = heads()(hidden, logits)
    assert (0 < temperature).all() and (temperature < 2).all() and (0 < top_p).all() and (top_p < 1).all()
    assert temperature.std() > 0.1 and top_p.std() > 0.05
    assert torch.equal(probs, warp(logits, temperature))


@pytest.mark.parametrize("size", [6, 500, 1280, 5000])
def test_statistics_are_the_released_codes(size):
    """Which are the largest probability, -sum p log(p + 1e-8), the variance, and the sum of the five largest."""
    generator = torch.Generator().manual_seed(size)
    scaled = torch.randn(40, size, generator=generator) * torch.tensor([0.0, 1.0, 4.0, 50.0]).repeat(10)[:, None]
    scaled[::7, :2] = torch.finfo(torch.float32).min  # what the heads make of -inf
    probs = torch.softmax(scaled, -1)
    entropy = -(probs * torch.log(probs + 1e-8)).sum(-1)
    theirs = torch.stack([probs.max(-1).values, entropy, probs.var(-1), probs.topk(5).values.sum(-1)], -1)
    assert torch.allclose(statistics(scaled, probs), theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(largest(probs, 5), probs.topk(5).values)


@pytest.mark.parametrize("user", [1.0, 1.5])  # the heads' own softmax, and another
def test_the_step_follows_the_exact_distribution(user):
    logits = torch.tensor([1.0, 0.2, -0.5, 2.0, 0.9])
    draws = 40_000
    uniform = RowGenerator.of(0, ["x"]).uniform(0, 0, draws)[0]
    at = Next(logits.expand(draws, 5), None, uniform, torch.arange(draws), 0)

    def heads(hidden, logits):
        said = torch.full((draws,), 0.7), torch.full((draws,), 0.8)
        return *said, torch.softmax(logits / 0.7, -1)

    temperature, top_p, tokens = predicted(heads, at, AutoDeco(temperature=user, top_p=0.9))
    assert temperature[0].item() == pytest.approx(0.7 * user) and top_p[0].item() == pytest.approx(0.8 * 0.9)
    probs = torch.softmax(logits / (0.7 * user), -1)
    order = probs.argsort(descending=True)
    inside = order[: 1 + int((probs[order].cumsum(-1) < 0.72).sum())]
    counts = torch.bincount(tokens, minlength=5)
    assert counts.sum() == counts[inside].sum()
    exact = probs[inside] / probs[inside].sum() * draws
    assert chisquare(counts[inside].numpy(), exact.double().numpy(), sum_check=False).pvalue > FALSE_ALARM


def test_neutral_heads_change_no_bit(prompts):
    base = tiny()
    ids, mask = prompts
    model = AutoDecoForCausalLM.from_base(base, Heads.saying(CONFIG))
    out = model(input_ids=ids, attention_mask=mask)
    expected = base(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(out.logits, expected)
    assert torch.equal(out.probs, torch.softmax(expected, -1))
    assert (out.temperature == 1).all() and (out.top_p == 1).all()
    ours = decode(model, ids, AutoDeco(max_new_tokens=9), generator=3, family=AR, attention_mask=mask)
    plain = plain_decode(
        base, ids, Autoregressive(max_new_tokens=9, temperature=1.0), generator=3, family=AR, attention_mask=mask
    )
    assert torch.equal(ours.responses, plain.responses)


def test_the_base_stays_as_it_was(prompts):
    base = tiny()
    before = base(input_ids=prompts[0]).logits
    model = AutoDecoForCausalLM.from_base(base, heads())
    assert not hasattr(base, "heads") and type(base).__name__ == "LlamaForCausalLM"
    assert type(model).__name__ == "AutoDecoLlamaForCausalLM" and isinstance(model, type(base))
    assert torch.equal(base(input_ids=prompts[0]).logits, before)
    assert torch.equal(model(input_ids=prompts[0]).logits, before)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("options", [AutoDeco(max_new_tokens=9), AutoDeco(max_new_tokens=9, shuffled=True)], ids=repr)
def test_batch_order_and_cache_change_nothing(decoder, prompts, options):
    ids, mask = prompts
    names = ["a", "b", "c", "d"]
    given = {"family": AR, "attention_mask": mask}
    together = decode(decoder, ids, options, generator=RowGenerator.of(7, names), **given)
    uncached = AutoDeco(**{k: v for k, v in options.to_dict().items() if k != "method"} | {"use_cache": False})
    assert torch.equal(
        decode(decoder, ids, uncached, generator=RowGenerator.of(7, names), **given).responses, together.responses
    )
    for row in range(4):
        length = int(mask[row].sum())
        alone = decode(
            decoder, ids[row : row + 1, -length:], options, generator=RowGenerator.of(7, [names[row]]), family=AR
        )
        assert torch.equal(alone.responses[0], together.responses[row])


def test_shuffled_settings_are_the_rows_own(decoder, prompts):
    """Each row of the second response goes through the settings of the first in a new order, one a token."""
    ids, mask = prompts
    generator = RowGenerator.of(7, ["a", "b", "c", "d"])
    given = {"generator": generator, "family": AR, "attention_mask": mask, "record": True}
    first = decode(decoder, ids, AutoDeco(max_new_tokens=9), **given)
    second = decode(decoder, ids, AutoDeco(max_new_tokens=9, shuffled=True), **given)

    def settings(out, row, name):
        return [e[name][e["rows"] == row].item() for e in out.trace.events if (e["rows"] == row).any()]

    dealt, moved = deal(first, generator, 9), False
    for row in range(4):
        for i, name in enumerate(("temperature", "top_p")):
            own, used = settings(first, row, name), settings(second, row, name)
            assert sorted(dealt[row, : len(own), i].tolist()) == pytest.approx(sorted(own))
            assert used == dealt[row, : len(used), i].tolist()
            moved |= used != own[: len(used)]
        measured = second.trace.measures
        assert measured["temperature"][row].item() == pytest.approx(
            dealt[row, : len(used), 0].mean().item(), abs=1e-4
        )
        assert measured["drawn"][row] == len(used)
    assert moved
    assert (second.trace.target_forwards == first.trace.target_forwards + second.trace.measures["drawn"]).all()


def test_entropy_rule():
    options = EntropyTemperature(highest=1.2, base=0.8, theta=0.5)
    flat, peaked = torch.zeros(1, 8), torch.tensor([[30.0] + [0.0] * 7])
    assert entropy_temperature(flat, options).item() == pytest.approx(1.2 * 0.8 ** (0.5 / math.log(8)))
    assert entropy_temperature(peaked, options).item() < 1e-3
    assert entropy_temperature(torch.tensor([[0.0, -torch.inf]]), options).item() < 1e-3


def test_heads_follow_dtype_and_a_zero_temperature_is_raised(prompts):
    """A large negative bias makes T-hat 0 in bfloat16: the draw is greedy, and finite."""
    cold = Heads.saying(CONFIG)
    cold.temp_head.mlp[-1].bias.data.fill_(-200.0)
    base = tiny().bfloat16()
    model = AutoDecoForCausalLM.from_base(base, cold)
    assert model.heads.temp_head.mlp[0].weight.dtype == torch.bfloat16
    out = decode(model, prompts[0], AutoDeco(max_new_tokens=5), generator=0, family=AR, attention_mask=prompts[1])
    greedy = plain_decode(
        base, prompts[0], Autoregressive(max_new_tokens=5), generator=0, family=AR, attention_mask=prompts[1]
    )
    assert torch.equal(out.responses, greedy.responses)


def test_nan_logits_are_an_error(prompts):
    sick = heads()
    sick.top_p_head.mlp[0].weight.data[0] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        AutoDecoForCausalLM.from_base(tiny(), sick)(input_ids=prompts[0])
    base = tiny()
    base.lm_head.weight.data[3] = torch.nan
    model = AutoDecoForCausalLM.from_base(base, heads())
    with pytest.raises(UserError, match="NaN"):
        decode(model, prompts[0], AutoDeco(max_new_tokens=3), generator=0, family=AR, attention_mask=prompts[1])
