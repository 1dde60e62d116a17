"""AutoDeco: formulas by hand, exact distributions, the drop-in `generate`, files, and training."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from conftest import AR, tiny
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import (
    AutoDeco,
    EntropyTemperature,
    deal,
    decode,
    entropy_temperature,
    predicted,
)
from lib.autodeco.forward import distribution
from lib.autodeco.heads import largest, statistics
from lib.autodeco.model import fingerprint
from lib.autodeco.training.adapter import Adapter, train_adapter
from lib.autodeco.training.commands import (
    HELD_OUT_HIGH,
    HELD_OUT_LOW,
    HELD_OUT_NEUTRAL,
    HIGH,
    LOW,
    NEUTRAL,
    NO_RANDOMNESS,
    NONE,
)
from lib.autodeco.training.control import (
    Commanded,
    Control,
    command_loss,
    commands_of,
    question_of,
    ranking_loss,
    train_control,
)
from lib.autodeco.training.loop import train_heads
from lib.autodeco.training.optimise import optimise
from lib.autodeco.training.recipe import Recipe
from lib.autodeco.training.soft import objective, soft_top_p
from lib.autodeco.training.states import States
from lib.autoregressive import Autoregressive
from lib.autoregressive import decode as plain_decode
from lib.errors import UserError
from lib.models.registry import Model
from lib.sampling import RowGenerator, categorical, warp

FALSE_ALARM = 1e-4  # of each statistical test: seeds are fixed, so it either always passes or never
CONFIG = HeadsConfig(hidden_size=32, width=16)


def heads(seed=0, **changes):
    """Random heads whose settings differ by position."""
    torch.manual_seed(seed)
    out = Heads(HeadsConfig(**{"hidden_size": 32, "width": 16} | changes))
    with torch.no_grad():
        for head in (out.temp_head, out.top_p_head):
            head.mlp[-1].weight *= 8
    return out.requires_grad_(False)


@pytest.fixture
def decoder():
    return AutoDecoForCausalLM.from_base(tiny(), heads())


def test_soft_top_p_by_hand():
    probs = torch.tensor([0.1, 0.6, 0.05, 0.25])
    weights = [math.exp(-30 * max(0, c - 0.7)) for c in (0.6, 0.85, 0.95, 1.0)]
    by_hand = [p * w for p, w in zip((0.6, 0.25, 0.1, 0.05), weights, strict=True)]
    by_hand = [x / (sum(by_hand) + 1e-9) for x in by_hand]
    ours = soft_top_p(probs, torch.tensor(0.7))
    assert ours.tolist() == pytest.approx([by_hand[2], by_hand[0], by_hand[3], by_hand[1]], abs=1e-6)
    assert ours[1] == pytest.approx(0.995, abs=1e-3), "the crossing token is damped, which the hard nucleus keeps"
    assert (warp(probs.log(), 1.0, 0.7) > 0).tolist() == [False, True, False, True]


def test_soft_top_p_has_no_gradient_below_the_largest_probability():
    probs = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
    for value, dead in ((0.3, True), (0.55, True), (0.7, False), (0.9, False)):
        top_p = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        soft_top_p(probs, top_p)[1].log().backward()
        assert (abs(top_p.grad.item()) < 1e-3) == dead, value  # what is left is the epsilon
        step = 1e-5
        numeric = (
            soft_top_p(probs, torch.tensor(value + step).double())[1].log()
            - soft_top_p(probs, torch.tensor(value - step).double())[1].log()
        ) / (2 * step)
        assert top_p.grad.item() == pytest.approx(numeric.item(), rel=1e-2, abs=1e-3)


def test_heads_have_the_published_sizes():
    """Parameter counts that the authors print for four bases."""
    for size, count in ((4096, 2_099_458), (3584, 1_837_314), (2048, 1_050_882), (2880, 1_476_866)):
        assert sum(p.numel() for p in Heads(HeadsConfig(size)).parameters()) == count
    smallest = sum(p.numel() for p in Heads(HeadsConfig(576)).parameters())
    assert smallest * 4 < 8e6, "the file stays under 8 MB"


def test_settings_lie_in_their_ranges_and_statistics_are_right():
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


def test_the_step_follows_the_exact_distribution():
    logits = torch.tensor([1.0, 0.2, -0.5, 2.0, 0.9])
    draws = 40_000
    found = {"temperature": torch.full((draws, 1), 0.7), "top_p": torch.full((draws, 1), 0.8)}
    output = SimpleNamespace(logits=logits.expand(draws, 1, 5), probs=None, **found)
    temperature, top_p, probs = predicted(output, AutoDeco(temperature=1.5, top_p=0.9))
    assert temperature[0].item() == pytest.approx(0.7 * 1.5) and top_p[0].item() == pytest.approx(0.8 * 0.9)
    uniform = RowGenerator.of(0, ["x"]).uniform(0, 0, draws)[0]
    tokens = categorical(probs, uniform)
    probs = torch.softmax(logits / 1.05, -1)
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
    assert torch.equal(distribution(out), torch.softmax(expected, -1))
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


def follow(monkeypatch, generator):
    """Let `transformers` draw with our uniforms instead of torch's."""
    steps = iter(range(1000))

    def multinomial(probs, num_samples):
        assert num_samples == 1
        return categorical(probs, generator.uniform(next(steps), 0, 1)[:, 0])[:, None]

    monkeypatch.setattr(torch, "multinomial", multinomial)


@pytest.mark.parametrize("user", [{}, {"temperature": 0.6}, {"temperature": 1.4, "top_p": 0.7}])
def test_generate_equals_our_loop_token_for_token(decoder, prompts, monkeypatch, user):
    ids, mask = prompts
    generator = RowGenerator.of(5, ["a", "b", "c", "d"])
    ours = decode(
        decoder, ids, AutoDeco(max_new_tokens=12, **user), generator=generator, family=AR, attention_mask=mask
    )
    follow(monkeypatch, generator)
    theirs = decoder.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=True, **user)
    assert torch.equal(theirs[:, ids.shape[1] :], ours.responses[:, : theirs.shape[1] - ids.shape[1]])
    assert len(set(map(tuple, ours.responses.tolist()))) > 1


def test_generate_greedy_is_the_base_greedy(decoder, prompts):
    ids, mask = prompts
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    assert torch.equal(decoder.generate(ids, **options), tiny().generate(ids, **options))


def absolute():
    """A tiny GPT-2: unlike a Llama it has absolute positions, which `generate` makes from the attention mask."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=24, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=0, bos_token_id=0, pad_token_id=0
    )
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("make", [tiny, absolute])
@pytest.mark.parametrize("masked", [True, False])
def test_generate_prepares_its_inputs_as_for_the_base(make, masked, prompts):
    ids, mask = prompts
    given = {"attention_mask": mask} if masked else {}
    given |= {"max_new_tokens": 8, "pad_token_id": 3, "do_sample": True}
    base, model = make(), AutoDecoForCausalLM.from_base(make(), Heads.saying(CONFIG))
    torch.manual_seed(3)
    ours = model.generate(ids, **given)
    torch.manual_seed(3)
    assert torch.equal(ours, base.generate(ids, top_k=0, **given))


def test_the_prefill_computes_one_position(decoder, prompts, monkeypatch):
    shapes, real = [], Heads.forward
    monkeypatch.setattr(
        Heads, "forward", lambda self, hidden, logits: shapes.append(logits.shape) or real(self, hidden, logits)
    )
    decoder.generate(prompts[0], attention_mask=prompts[1], max_new_tokens=3, do_sample=True)
    assert set(shapes) == {(4, 1, 24)}


def test_other_processors_come_before_the_heads(prompts):
    """A nucleus of one token that another processor forbids must not leave nothing to draw."""
    ids, mask = prompts
    model = AutoDecoForCausalLM.from_base(tiny(), Heads.saying(CONFIG, 1.0, 1e-6))
    given = {"attention_mask": mask, "max_new_tokens": 8}
    likeliest = tiny().generate(ids, do_sample=False, **given)[:, ids.shape[1]].unique().tolist()
    for more in ({"min_new_tokens": 8}, {"bad_words_ids": [[token] for token in likeliest]}):
        ours = model.generate(ids, do_sample=True, **given, **more)
        assert torch.equal(ours, tiny().generate(ids, do_sample=False, **given, **more)), more


def test_settings_of_the_user_multiply_and_those_of_the_base_do_not(decoder, prompts):
    ids, mask = prompts
    given = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": True, "return_settings": True}

    def draw(*args, **more):
        torch.manual_seed(0)
        return decoder.generate(ids, *args, **given, **more)[0]

    plain = draw()
    assert not torch.equal(plain, draw(temperature=1.9)) and torch.equal(plain, draw(temperature=None))
    assert torch.equal(plain, draw(generation_config=decoder.generation_config))
    assert torch.equal(draw(temperature=1.9), draw(GenerationConfig(temperature=1.9, eos_token_id=0, pad_token_id=0)))
    assert torch.equal(plain, draw(generation_config=GenerationConfig(eos_token_id=0, pad_token_id=0)))
    greedy = tiny().generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert torch.equal(
        decoder.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=True, temperature=0.0), greedy
    )
    try:
        decoder.generation_config.update(temperature=0.3, top_k=1)  # as a base may ship
        assert torch.equal(plain, draw())
    finally:
        decoder.generation_config.update(temperature=1.0, top_k=50)
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"num_beams": 2}, {"do_sample": False}):
        with pytest.raises(UserError):
            decoder.generate(ids, **given | wrong)


def test_a_forward_that_a_loader_replaced_is_kept(prompts):
    """`accelerate` puts its own forward into the model, as `device_map="auto"` does."""
    hooked = tiny()
    add_hook_to_module(hooked, AlignDevicesHook(execution_device="cpu"))
    model = AutoDecoForCausalLM.from_base(hooked, heads())
    expected = AutoDecoForCausalLM.from_base(tiny(), heads())(input_ids=prompts[0])
    assert torch.equal(model(input_ids=prompts[0]).temperature, expected.temperature)
    with pytest.raises(UserError, match="has heads already"):
        AutoDecoForCausalLM.from_base(model, heads())


def test_settings_of_several_sequences_end_with_them(decoder, prompts):
    ids, mask = prompts
    out, temperature, top_p = decoder.generate(
        ids, attention_mask=mask, max_new_tokens=40, do_sample=True, num_return_sequences=2, return_settings=True
    )
    new = out[:, ids.shape[1] :]
    assert temperature.shape == top_p.shape == new.shape and len(out) == 8
    ended = (new == 0).long().cumsum(-1) - (new == 0).long() > 0
    assert ended.any() and torch.equal(temperature.isnan(), ended) and torch.equal(top_p.isnan(), ended)


def test_settings_come_back_with_the_tokens(decoder, prompts):
    ids, mask = prompts
    out, temperature, top_p = decoder.generate(
        ids, attention_mask=mask, max_new_tokens=6, do_sample=True, return_settings=True
    )
    new = out.shape[1] - ids.shape[1]
    assert temperature.shape == top_p.shape == (4, new)
    row, step = 2, 1
    real = out[row : row + 1, ids.shape[1] - int(mask[row].sum()) : ids.shape[1] + step]
    alone = decoder(input_ids=real)
    assert temperature[row, step].item() == pytest.approx(alone.temperature[0, -1].item(), abs=1e-5)
    assert top_p[row, step].item() == pytest.approx(alone.top_p[0, -1].item(), abs=1e-5)


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


def test_save_and_load_give_the_same_output(decoder, prompts, tmp_path):
    decoder.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "autodeco_heads.safetensors"}
    again = AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())
    assert torch.equal(again(input_ids=prompts[0]).logits, decoder(input_ids=prompts[0]).logits)


def test_the_authors_form_round_trips(decoder, prompts, tmp_path):
    """Their config has no fingerprint, and their file may be named model.safetensors."""
    decoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("base_fingerprint", "heads_width", "hottest", "detach", "hidden_size"):
        config.pop(key)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "autodeco_heads.safetensors")
    assert set(weights) == {
        f"{head}.mlp.{layer}.{kind}"
        for head in ("temp_head", "top_p_head")
        for layer in (0, 2)
        for kind in ("weight", "bias")
    }
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "autodeco_heads.safetensors").unlink()
    again = AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny(seed=9))
    assert torch.equal(again.heads.temp_head.mlp[0].weight, decoder.heads.temp_head.mlp[0].weight)


def test_wrong_files_name_their_cure(decoder, tmp_path):
    decoder.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="another base"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny(seed=1))
    AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny(seed=1), check_base=False)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"use_enhanced_features": False}))
    with pytest.raises(UserError, match="takes 37 numbers"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())
    (tmp_path / "autodeco_heads.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="corrupt"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())
    (tmp_path / "autodeco_heads.safetensors").unlink()
    with pytest.raises(UserError, match="holds no heads"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())
    with pytest.raises(UserError, match="hidden size of 31"):
        AutoDecoForCausalLM.from_base(tiny(), Heads(HeadsConfig(31)))


def test_heads_of_another_family_or_without_a_part_are_refused(decoder, tmp_path):
    decoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    theirs = {key: value for key, value in config.items() if key != "base_fingerprint"}
    (tmp_path / "config.json").write_text(json.dumps(theirs | {"base_model_type": "gpt2"}))
    with pytest.raises(UserError, match="another family"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())
    (tmp_path / "config.json").write_text(json.dumps(theirs | {"base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match="pass base="):
        AutoDecoForCausalLM.from_pretrained(tmp_path)
    weights = load_file(tmp_path / "autodeco_heads.safetensors")
    weights.pop("temp_head.mlp.2.bias")
    save_file(weights, tmp_path / "autodeco_heads.safetensors")
    with pytest.raises(UserError, match="temp_head.mlp.2.bias"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())


def test_the_revision_of_the_base_is_kept(decoder, tmp_path):
    decoder.save_pretrained(tmp_path / "a", base_revision="abc")
    AutoDecoForCausalLM.from_pretrained(tmp_path / "a", base=tiny()).save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["base_model_revision"] == "abc"


def test_fingerprint_knows_the_weights_not_the_dtype():
    assert fingerprint(tiny()) == fingerprint(tiny().bfloat16()) != fingerprint(tiny(seed=1))
    changed = tiny()
    changed.model.layers[1].mlp.up_proj.weight.data += 0.1
    assert fingerprint(changed) != fingerprint(tiny())


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


def test_objectives_by_hand():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    temperature, top_p, tokens = torch.tensor([0.5, 2.0]), torch.tensor([0.95, 0.97]), torch.tensor([0, 1])
    kept, weights = torch.tensor([False, True]), torch.tensor([0.3, 0.6])
    scaled = torch.softmax(logits / temperature[:, None], -1)
    soft = soft_top_p(scaled, top_p)
    soft_loss = [-math.log(soft[0, 0]), -math.log(soft[1, 1])]
    temp_loss = [-math.log(scaled[0, 0]), -math.log(scaled[1, 1])]
    given = (logits, temperature, top_p, tokens, kept, weights)
    assert objective("paper", *given).item() == pytest.approx(0.6 * soft_loss[1], rel=1e-4)
    both = (0.3 * soft_loss[0] + 0.6 * soft_loss[1]) / 2
    assert objective("code", *given).item() == pytest.approx(0.6 * temp_loss[1] + both, rel=1e-4)
    only = objective("code", *given, train=("temperature",)).item()
    assert only == pytest.approx(0.6 * temp_loss[1], rel=1e-4)
    plain = soft_top_p(torch.softmax(logits, -1), top_p)
    expected = (0.3 * -math.log(plain[0, 0]) + 0.6 * -math.log(plain[1, 1])) / 2
    assert objective("code", *given, train=("top_p",)).item() == pytest.approx(expected, rel=1e-4)


def states(n=4000, seed=0):
    """Positions whose best temperature depends on the first hidden number: sharp where it is large."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 32, generator=generator)
    unembedding = torch.nn.Linear(32, 12, bias=False)
    torch.manual_seed(1)
    torch.nn.init.normal_(unembedding.weight)
    unembedding.requires_grad_(False)
    scale = torch.where(hidden[:, :1] > 0, 3.0, 0.7)  # 1 / T of the law that the tokens follow
    tokens = torch.multinomial(torch.softmax(unembedding(hidden) * scale, -1), 1, generator=generator)[:, 0]
    return unembedding, States(hidden.half(), tokens)


def test_training_finds_the_temperatures_that_the_tokens_were_drawn_at(tmp_path):
    unembedding, data = states()
    recipe = Recipe(
        objective="paper",
        train=("temperature",),
        mask_easy=0.0,
        fine_tuning_weights=False,
        steps=400,
        batch=512,
        width=32,
    )
    trained, curve, _ = train_heads(unembedding, data, recipe, tmp_path)
    hidden = data.hidden.float()
    temperature = trained.temperature(hidden)
    sharp = hidden[:, 0] > 0.5
    blunt = hidden[:, 0] < -0.5
    assert temperature[sharp].mean() < 0.6 and temperature[blunt].mean() > 1.1
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize("name, other", [("temperature", "top_p_head"), ("top_p", "temp_head")])
def test_one_head_alone_leaves_the_other(tmp_path, name, other):
    unembedding, data = states(500)
    before, *_ = train_heads(unembedding, data, Recipe(train=(name,), steps=1, batch=64, width=16), tmp_path / "a")
    after, *_ = train_heads(unembedding, data, Recipe(train=(name,), steps=20, batch=64, width=16), tmp_path / "b")
    for key, value in after.state_dict().items():
        assert torch.equal(value, before.state_dict()[key]) == key.startswith(other), key
    hidden = data.hidden.float()
    found = dict(zip(("temperature", "top_p"), after(hidden, unembedding(hidden))[:2], strict=True))
    assert (found.pop(name) != 1).any() and (found.popitem()[1] == 1).all(), "without a head its setting is 1"


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    """What all trainings share: a random loss of the step, killed between two saved states."""

    class Killed(Exception):
        pass

    def run(name, kill_at=None, key="a"):
        torch.manual_seed(0)
        module = torch.nn.Linear(4, 1)
        module.bias.requires_grad_(False)

        def loss_at(step):
            if step == kill_at:
                raise Killed
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            return (module(x) - x.sum(-1, keepdim=True)).square().mean(), {"weight": module.weight.mean().item()}

        given = {"steps": 60, "learning_rate": 0.05, "path": tmp_path / name, "key": key, "every": 10}
        curve, _ = optimise(loss_at, {"module": module}, **given)
        return module, curve

    whole, curve = run("whole.pt")
    assert curve[-1]["loss"] < curve[0]["loss"] and [row["step"] for row in curve] == [10, 20, 30, 40, 50, 60]
    with pytest.raises(Killed):
        run("killed.pt", kill_at=45)
    resumed, same = run("killed.pt")
    assert torch.equal(whole.weight, resumed.weight) and curve == same
    with pytest.raises(UserError, match="another recipe"):
        run("killed.pt", key="b")


def test_a_finished_training_is_not_taken_for_another(tmp_path):
    unembedding, data = states(500)
    recipe = Recipe(steps=20, batch=64, width=16)
    first, curve, _ = train_heads(unembedding, data, recipe, tmp_path, held_out=data)
    again, same, _ = train_heads(unembedding, data, recipe, tmp_path, held_out=data)
    assert curve == same
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for other in ((data, Recipe(steps=21, batch=64, width=16)), (states(500, seed=1)[1], recipe)):
        with pytest.raises(UserError, match="another recipe or from other data"):
            train_heads(unembedding, *other, tmp_path)


def test_the_curve_has_the_loss_on_held_out_answers(tmp_path):
    unembedding, data = states(500)
    _, curve, _ = train_heads(unembedding, data, Recipe(steps=200, batch=64, width=16), tmp_path, held_out=data)
    assert [row["step"] for row in curve if "held_out" in row] == [100, 200]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Recipe(objective="both"), "paper, code"),
        (lambda: Recipe(train=("topp",)), "temperature, top_p"),
        (lambda: AutoDeco(temperature=-1), "0 or more"),
        (lambda: AutoDeco.of({"temprature": 1}), "no option 'temprature'"),
        (lambda: EntropyTemperature(base=1.0), r"in \(0, 1\)"),
    ],
)
def test_bad_options_name_their_range(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_the_ranking_loss_by_hand():
    plain, low, high = torch.tensor([0.5, 0.5]), torch.tensor([0.35, 0.48]), torch.tensor([0.7, 0.4])
    # First question: both beyond the margin. Second: 0.02 of 0.1 below, and 0.1 below where it should be 0.1 above.
    assert ranking_loss(plain, low, high, 0.1).item() == pytest.approx((0 + 0.08 + 0.2) / 2)


def test_teaching_moves_the_means_the_way_of_the_commands(tmp_path):
    """A command is a shift of one hidden number; after teaching new questions follow it by about the margin.

    The plain ones and those behind a neutral sentence, a shift of another number, stay where they were.
    """
    unembedding, data = states(600)
    lengths = [6] * 100

    def behind(shift, place=5):
        hidden = data.hidden.clone().float()
        hidden[:, place] += shift
        return States(hidden.half(), data.tokens)

    parts = {"plain": data, "low": behind(-2.0), "high": behind(2.0), "neutral": behind(2.0, place=6)}
    control = Control(steps=200, questions=32)
    whole = Commanded(parts, question_of([[0] * n for n in lengths]), count=70)
    torch.manual_seed(0)
    heads = Heads(CONFIG)
    before = copy.deepcopy(heads)
    curve, _ = train_control(heads, unembedding, whole, Recipe(), control, tmp_path, watched=whole)

    def means(by):  # of questions 70 to 99, which were never drawn
        found = {}
        for name, part in parts.items():
            hidden = part.hidden[420:].float()
            found[name] = [value.view(30, 6).mean(1) for value in by(hidden, unembedding(hidden))[:2]]
        return found

    was, now = means(before), means(heads)
    for setting, margin in ((0, control.temperature_margin), (1, control.top_p_margin)):
        assert (now["high"][setting] > now["plain"][setting]).float().mean() > 0.9
        assert (now["low"][setting] < now["plain"][setting]).float().mean() > 0.9
        for name in ("plain", "neutral"):
            assert (now[name][setting] - was["plain"][setting]).abs().mean() < margin, name
    assert curve[-1]["watched_low"] < 0 < curve[-1]["watched_high"]
    assert not any(p.requires_grad for p in heads.parameters())


def test_held_out_sentences_are_held_out():
    everything = LOW + HIGH + NONE + NEUTRAL + HELD_OUT_LOW + HELD_OUT_HIGH + HELD_OUT_NEUTRAL + (NO_RANDOMNESS,)
    assert len(set(everything)) == len(everything)
    learned, watched = commands_of(Control(none=1.0)), commands_of(Control(none=1.0), watched=True)
    assert set(learned) == set(watched) == {"plain", "low", "high", "neutral", "none"}
    assert not any(set(learned[name]) & set(watched[name]) for name in learned if name != "plain")
    assert "none" not in commands_of(Control())


def test_the_loss_of_commands_by_hand():
    ones = torch.ones(3)
    found = {
        "plain": (torch.tensor([0.5, 0.7, 0.6]), 0.9 * ones),
        "low": (torch.tensor([0.3, 0.5, 0.4]), 0.8 * ones),
        "high": (torch.tensor([0.7, 0.9, 0.8]), ones),
        "neutral": (torch.tensor([0.5, 0.7, 0.6]), 0.9 * ones),
    }
    places, control = torch.tensor([0, 0, 1]), Control(none=2.0, keep=3.0)

    def loss():
        return float(command_loss(found, found["plain"], places, 2, control))

    assert loss() == pytest.approx(0, abs=1e-6), "all beyond the margins, nothing moved"
    found["neutral"] = (torch.tensor([0.5, 0.7, 0.9]), 0.8 * ones)
    assert loss() == pytest.approx(3 * (0.3 / 2 + 0.1), abs=1e-6)
    found["none"] = (torch.tensor([0.1, 0.3, 0.4]), ones)
    assert loss() == pytest.approx(3 * (0.3 / 2 + 0.1) + 2 * (0.2 + 0.4) / 2, abs=1e-6)


ADAPTER = Adapter(rank=4, steps=120, questions=6, learning_rate=1e-2)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A tiny base with heads and an adapter that were trained together, and the folder of both."""
    folder, model = tmp_path_factory.mktemp("adapted"), Model("tiny", tiny(), Letters(), AR)
    rows = [(f"question {i}\n", [5 + i % 20, 6, 7, 0]) for i in range(12)]
    trained, control = heads(), Control(none=1.0)
    network, curve, _ = train_adapter(model, trained, rows, Recipe(), control, ADAPTER, folder / "work")
    AutoDecoForCausalLM.from_base(tiny(), trained).save_pretrained(folder / "heads")
    network.save_pretrained(folder / "heads")
    return SimpleNamespace(folder=folder, network=network, heads=trained, curve=curve, rows=rows)


class Letters:
    """A tokenizer of single letters for a vocabulary of 24."""

    def encode(self, text, add_special_tokens=False):
        return [1 + ord(letter) % 23 for letter in text]


def test_an_adapter_learns_what_no_randomness_means(adapted):
    assert adapted.curve[-1]["none"] < adapted.curve[0]["none"] - 0.1, adapted.curve
    assert not any("base_layer" in name and p.requires_grad for name, p in adapted.network.named_parameters())


def test_an_adapter_comes_back_merged(adapted, prompts):
    ids, mask = prompts
    loaded = AutoDecoForCausalLM.from_pretrained(adapted.folder / "heads", tiny())
    with torch.no_grad():
        ours = loaded(input_ids=ids, attention_mask=mask)
        trained = adapted.network(input_ids=ids, attention_mask=mask)
        plain = tiny()(input_ids=ids, attention_mask=mask)
    assert torch.allclose(ours.logits, trained.logits, atol=1e-4)
    assert not torch.allclose(ours.logits, plain.logits, atol=1e-2), "the adapter does nothing"
    with pytest.raises(UserError, match="adapter"):
        loaded.save_pretrained(adapted.folder / "again")
    with pytest.raises(UserError, match="another base"):
        AutoDecoForCausalLM.from_pretrained(adapted.folder / "heads", tiny(seed=1))


def test_adapter_training_goes_on_after_a_kill(adapted):
    """The saved state of a finished run is the run: nothing is trained again."""
    fresh = Model("tiny", tiny(), Letters(), AR)
    given = (adapted.rows, Recipe(), Control(none=1.0))
    again = heads(seed=9)
    network, curve, _ = train_adapter(fresh, again, *given, ADAPTER, adapted.folder / "work")
    assert curve == adapted.curve
    for key, value in again.state_dict().items():
        assert torch.equal(value, adapted.heads.state_dict()[key]), key
    with pytest.raises(UserError, match="another recipe"):
        train_adapter(fresh, again, *given, Adapter(rank=4, steps=31), adapted.folder / "work")
