"""AutoDeco in `transformers`: the drop-in `generate`, and the files of heads."""

import json

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from conftest import AR, CONFIG, heads, tiny
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.autodeco.decode import AutoDeco, decode
from lib.autodeco.model import fingerprint
from lib.decoders import custom_generate
from lib.decoding.distributions import categorical, warp
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.models.distilled import DistilledDraft


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


def test_save_and_load_give_the_same_output(decoder, prompts, tmp_path):
    decoder.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "autodeco_heads.safetensors", "README.md"}
    again = AutoDecoForCausalLM.from_pretrained(tmp_path, base=tiny())
    ours, theirs = again(input_ids=prompts[0]), decoder(input_ids=prompts[0])
    for name in ("logits", "temperature", "top_p", "probs"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    other = AutoDecoForCausalLM.from_base(tiny(), heads(seed=5))(input_ids=prompts[0])
    assert not torch.equal(other.temperature, theirs.temperature), "other heads say something else"


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
    for name, value in decoder.heads.state_dict().items():
        assert torch.equal(again.heads.state_dict()[name], value)


def test_top_k_filters_between_temperature_and_top_p(prompts):
    """As lib.decoding.distributions.warp does: rows that would draw more tokens without it."""
    decoder = AutoDecoForCausalLM.from_base(tiny(scale=2.0), Heads.saying(CONFIG, 1.0, 0.95))
    ids = prompts[0][:1, -4:].expand(200, -1)
    torch.manual_seed(0)
    out = decoder.generate(ids, max_new_tokens=1, do_sample=True, temperature=1.9, top_k=2)[:, -1]
    said = decoder(input_ids=ids[:1])
    distribution = warp(said.logits[0, -1], float(said.temperature[0, -1]) * 1.9, float(said.top_p[0, -1]), 2)
    assert set(out.tolist()) <= set(distribution.nonzero().flatten().tolist())
    free = decoder.generate(ids, max_new_tokens=1, do_sample=True, temperature=1.9)[:, -1]
    assert len(set(free.tolist())) > 2


def test_other_filters_are_refused_and_the_bases_do_not_count(decoder, prompts):
    ids, mask = prompts
    with pytest.raises(UserError, match="min_p does not go with"):
        decoder.generate(ids, attention_mask=mask, max_new_tokens=2, do_sample=True, min_p=0.1)
    torch.manual_seed(0)
    plain = decoder.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=True)
    decoder.generation_config.min_p, decoder.generation_config.top_k = 0.5, 1
    torch.manual_seed(0)
    assert torch.equal(decoder.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=True), plain)


@pytest.mark.parametrize(
    "given",
    [{"assistant_model": tiny()}, {"prompt_lookup_num_tokens": 2}, {"guidance_scale": 1.5}, {"top_h": 0.4}],
    ids=lambda given: next(iter(given)),
)
def test_ways_in_which_the_heads_speak_of_other_tokens_are_refused(decoder, prompts, given):
    ids, mask = prompts
    with pytest.raises(UserError, match=f"{next(iter(given))} does not go with"):
        decoder.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=True, **given)


def test_settings_are_those_of_the_forward_that_made_the_scores(decoder, prompts):
    """A user's processor may ask the model about another text, after which its last words are of that."""
    ids, mask = prompts

    class Peeking(LogitsProcessor):
        def __call__(self, input_ids, scores):
            decoder(input_ids=input_ids[:, -1:] * 0 + 3)
            return scores

    def draw(**more):
        torch.manual_seed(0)
        given = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": True, "return_settings": True}
        return decoder.generate(ids, **given, **more)

    for one, other in zip(draw(), draw(logits_processor=LogitsProcessorList([Peeking()])), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_greedy_with_an_assistant_is_greedy(decoder, prompts):
    ids = prompts[0][:1]
    given = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(decoder.generate(ids, assistant_model=tiny(seed=1), **given), tiny().generate(ids, **given))


def test_a_decoder_of_ours_is_called_as_it_is(decoder, prompts):
    ids, mask = prompts
    options = AutoDeco(max_new_tokens=6, temperature=0.8)
    out = decoder.generate(
        ids, attention_mask=mask, do_sample=True, temperature=0.8, custom_generate=custom_generate(options, AR, 4)
    )
    own = decode(decoder, ids, options, generator=4, family=AR, attention_mask=mask)
    assert torch.equal(out[:, ids.shape[1] :], own.responses)


def test_the_callers_heads_stay_as_they_are():
    own = heads().requires_grad_(True)
    model = AutoDecoForCausalLM.from_base(tiny().bfloat16(), own)
    assert {p.dtype for p in own.parameters()} == {torch.float32} and all(p.requires_grad for p in own.parameters())
    assert {p.dtype for p in model.heads.parameters()} == {torch.bfloat16}


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


@pytest.mark.parametrize("kind", ["heads", "draft"])
def test_the_folder_of_the_base_is_not_overwritten(tmp_path, kind):
    base = tiny()
    base.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    made = AutoDecoForCausalLM.from_base(base, heads())
    if kind == "draft":
        made = DistilledDraft.cut(base, (0,), torch.arange(9))
    with pytest.raises(UserError, match="holds another model, of type llama: save into a folder of its own"):
        made.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for _ in range(2):
        made.save_pretrained(tmp_path / "own")


def test_options_that_nobody_reads_and_a_base_that_is_none_are_refused(tmp_path):
    AutoDecoForCausalLM.from_base(tiny(), heads()).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="dtype, bananas would do nothing"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, tiny(), dtype=torch.bfloat16, bananas=3)
    for base in ("study-ar", 3):
        with pytest.raises(UserError, match="base must be a loaded model"):
            AutoDecoForCausalLM.from_pretrained(tmp_path, base)
    tiny().save_pretrained(tmp_path / "base")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(tmp_path / "base")}))
    assert AutoDecoForCausalLM.from_pretrained(tmp_path, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UserError, match="did not load .*bananas"):
        AutoDecoForCausalLM.from_pretrained(tmp_path, bananas=3)
