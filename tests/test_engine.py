"""The engine: a Llama-class forward in few operations, one cache, prompts read once, compiled steps."""

import shutil
from dataclasses import replace

import pytest
import torch
from conftest import AR, SHIFTED, tiny
from enumeration import FIVE, TableModel
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from lib.analysis.stats import Estimate
from lib.bench import page
from lib.bench.engine import Row
from lib.decoders import decode
from lib.decoding import compiled, llama, session
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.bidirectional import bidirectional_mask, canvas_logits, position_ids
from lib.decoding.distributions import categorical, draw, warp
from lib.decoding.llama import Llama
from lib.decoding.session import Session, watching
from lib.errors import UserError
from lib.mtad import Speculative
from lib.running import memory
from lib.tolerator import Rcr, Remdm, Settle, Tolerator, Vanilla

SHAPE = {"vocab_size": 24, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 6, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
ROPE = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE["original_max_position_embeddings"] = 16
FAST = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama-biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "llama-3": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=ROPE, tie_word_embeddings=True)),
    "qwen-2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
}


@pytest.fixture
def own_forward(monkeypatch):
    """Called: from then on every network goes by its own forward."""
    return lambda: monkeypatch.setattr(Llama, "of", classmethod(lambda cls, network: None))


def network_of(name: str):
    torch.manual_seed(2)
    network = FAST[name]().eval()
    for parameter in network.parameters():  # biases and norms begin as zeros and ones
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network.requires_grad_(False)


@pytest.mark.parametrize("small", [0, 2**40], ids=["oneDNN", "torch"])
@pytest.mark.parametrize("name", FAST)
@torch.inference_mode()
def test_the_fast_forward_is_the_networks_own(name, small, prompts, monkeypatch):
    monkeypatch.setattr(llama, "SMALL", small)
    network, (ids, mask) = network_of(name), prompts
    assert Llama.of(network) is not None
    here = Session(network, 4, 10)
    logits = here.prefill(ids, mask)
    own = network(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask)).logits[:, -1:]
    torch.testing.assert_close(logits, own, atol=2e-5, rtol=1e-4)
    for token in range(5, 9):
        tokens = torch.full((4,), token)
        ids, mask = torch.cat([ids, tokens[:, None]], 1), torch.cat([mask, mask.new_ones(4, 1)], 1)
        own = network(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask)).logits[:, -1:]
        torch.testing.assert_close(here.step(tokens), own, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_fast_canvas_is_the_networks_own(prompts, own_forward):
    network, (ids, mask) = network_of("llama"), prompts
    ids = torch.cat([ids, torch.ones(4, 6, dtype=torch.long)], 1)
    mask = torch.cat([mask, torch.ones(4, 6, dtype=torch.long)], 1)
    needed = torch.rand(4, 6) < 0.5
    fast = canvas_logits(network, ids, mask, needed, SHIFTED)
    own_forward()
    torch.testing.assert_close(fast, canvas_logits(network, ids, mask, needed, SHIFTED), atol=2e-5, rtol=1e-4)
    whole = network(input_ids=ids, attention_mask=bidirectional_mask(mask), position_ids=position_ids(mask)).logits
    torch.testing.assert_close(fast, whole[:, 6:12][needed], atol=2e-5, rtol=1e-4)  # shifted: position 7 at 6


@torch.inference_mode()
def test_what_is_not_plain_goes_by_its_own_forward():
    network = network_of("llama")
    assert Llama.of(network)
    handle = network.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert Llama.of(network) is None, "a hook would not be called"
    handle.remove()
    network.model.layers[0].self_attn.q_proj = torch.nn.Sequential(network.model.layers[0].self_attn.q_proj)
    assert Llama.of(network) is None, "an adapter would be passed over"
    assert Llama.of(Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8))) is None, "it has norms that are not here"
    assert Llama.of(network_of("llama")) and not Llama.of(LlamaForCausalLM(LlamaConfig(**SHAPE, hidden_act="gelu")))


def test_a_prompt_is_read_once_for_all_its_samples(prompts):
    """Rows of equal prompts have the tokens and counters of rows alone; each different prompt is read once."""
    ids, mask = (x.repeat_interleave(3, 0)[torch.tensor([0, 3, 1, 9, 4, 2, 6, 5])] for x in prompts)
    read = []

    class Watched(Session):
        def forward(self, tokens, *given, **more):
            read.append(tuple(tokens.shape))
            return super().forward(tokens, *given, **more)

    options = Autoregressive(6, temperature=1.0)
    model, old = tiny(), session.Session
    try:
        import lib.decoding.autoregressive as loop

        loop.Session = Watched
        out = decode(model, ids, options, generator=3, family=AR, attention_mask=mask)
    finally:
        loop.Session = old
    assert read[0] == (4, 7), "four different prompts"
    for row in range(8):
        from lib.decoding.randomness import RowGenerator

        alone = decode(
            model, ids[row : row + 1], options, generator=RowGenerator.of(3, [str(row)]), family=AR,
            attention_mask=mask[row : row + 1],
        )  # fmt: skip
        assert torch.equal(alone.responses[0], out.responses[row]) and alone.trace.row(0) == out.trace.row(row)


def test_equal_prompts_of_a_network_without_an_output_head():
    """It has no states to hand on; its tokens are those of each row alone."""
    model, ids = TableModel.pair()[0], torch.tensor([[1, 2], [3, 1], [1, 2], [1, 2]])
    out = decode(model, ids, Autoregressive(6), generator=0, family=FIVE).responses
    alone = [decode(model, ids[i : i + 1], Autoregressive(6), generator=0, family=FIVE).responses for i in range(4)]
    assert torch.equal(out, torch.cat(alone)) and not torch.equal(out[0], out[1])


def test_a_long_prompt_is_read_in_pieces(prompts, monkeypatch):
    whole = decode(tiny(), prompts[0], Autoregressive(6), generator=0, family=AR, attention_mask=prompts[1])
    monkeypatch.setattr(session, "PREFILL", 3)
    pieces = decode(tiny(), prompts[0], Autoregressive(6), generator=0, family=AR, attention_mask=prompts[1])
    assert torch.equal(whole.responses, pieces.responses)


def test_a_cache_that_outgrows_its_room_loses_nothing(prompts):
    network, (ids, mask) = tiny(), prompts
    with torch.inference_mode():
        small, large = (Session(network, 4, room) for room in (0, 400))
        steps = [
            (here.prefill(ids, mask), [here.step(torch.full((4,), 3 + i % 9)) for i in range(90)])
            for here in (small, large)
        ]
    assert small._room() > 64, "it grew"
    torch.testing.assert_close(*steps, atol=1e-5, rtol=1e-5)


def test_forwards_are_watched(prompts):
    network, seen = tiny(), []
    with watching(lambda which, begins: seen.append((which is network, begins))):
        decode(network, prompts[0], Autoregressive(3), generator=0, family=AR, attention_mask=prompts[1])
    assert len(seen) >= 4 and seen[::2] == [(True, True)] * (len(seen) // 2) and not any(b for _, b in seen[1::2])


@pytest.mark.parametrize("setting", [(0.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 0.6, 0), (1.3, 0.95, 5), (1.0, 0.3, 0)])
@pytest.mark.parametrize("size", [7, 400])
def test_a_draw_is_that_from_the_whole_distribution(setting, size):
    random = torch.Generator().manual_seed(size)
    logits = 3 * torch.randn(500, size, generator=random)
    logits[::5] = logits[::5].round()  # many of equal probability
    uniform = torch.rand(500, generator=random, dtype=torch.float64)
    assert torch.equal(draw(logits, uniform, *setting), categorical(warp(logits, *setting), uniform))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_a_compiled_step_gives_the_same_tokens_and_knows_of_changed_weights(prompts, monkeypatch):
    network = tiny()

    def run(word: str) -> torch.Tensor:
        monkeypatch.setenv("DECODING_COMPILE", word)
        options = Autoregressive(8)
        return decode(
            network, prompts[0][:1], options, generator=1, family=AR, attention_mask=prompts[1][:1]
        ).responses

    before = run("on")
    assert network in compiled._STEPS and not compiled._FAILED
    assert torch.equal(before, run("off"))
    with torch.no_grad():
        network.model.layers[0].mlp.down_proj.weight.mul_(-20)
        network.lm_head.weight.copy_(network.lm_head.weight.roll(3, 0))
    after = run("on")
    assert torch.equal(after, run("off")) and not torch.equal(after, before)


def test_compiled_batches_shrink_by_halves(monkeypatch):
    sizes, step = [], compiled.CompiledStep.__call__
    monkeypatch.setenv("DECODING_COMPILE", "off")
    ids = torch.arange(9).expand(2, 9).T.reshape(9, 2) + 3
    options, given = Autoregressive(12, temperature=3.0), {"generator": 1, "family": AR}
    plain = decode(tiny(), ids, options, **given)
    assert len(set(plain.lengths.tolist())) > 3, "rows end at different steps"
    monkeypatch.setenv("DECODING_COMPILE", "on")
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)  # the sizes are the matter here

    def watched(self, tokens, *others):
        sizes.append(len(tokens))
        return step(self, tokens, *others)

    monkeypatch.setattr(compiled.CompiledStep, "__call__", watched)
    out = decode(tiny(), ids, options, **given)
    assert torch.equal(out.responses, plain.responses)
    assert torch.equal(out.trace.target_forwards, plain.trace.target_forwards)
    assert set(sizes) <= {9, 8, 4, 2, 1} and len(set(sizes)) > 1


def test_drafts_that_run_past_a_compiled_room_go_by_the_plain_step(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)
    options, given = Speculative(100, gamma=3, temperature=1.0), {"generator": 3, "family": AR}
    texts = []
    for word in ("on", "off"):
        monkeypatch.setenv("DECODING_COMPILE", word)
        texts.append(decode(tiny(seed=3), torch.tensor([[3, 4, 5]]), options, draft=tiny(seed=12), **given))
    assert texts[0].lengths.item() == 100, "long enough to pass the room"
    assert torch.equal(texts[0].responses, texts[1].responses) and not compiled._FAILED


def test_what_cannot_be_compiled_is_said_and_goes_on(prompts, monkeypatch, capsys):
    monkeypatch.setenv("DECODING_COMPILE", "on")
    monkeypatch.setattr(compiled, "_FAILED", [])

    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    out = decode(tiny(), prompts[0], Autoregressive(5), generator=0, family=AR, attention_mask=prompts[1])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no C++ compiler" in said and "going on" in said
    monkeypatch.setenv("DECODING_COMPILE", "off")
    plain = decode(tiny(), prompts[0], Autoregressive(5), generator=0, family=AR, attention_mask=prompts[1])
    assert torch.equal(out.responses, plain.responses)
    monkeypatch.setenv("DECODING_COMPILE", "yes")
    with pytest.raises(UserError, match="auto, on, off"):
        decode(tiny(), prompts[0], Autoregressive(5), generator=0, family=AR)


CACHED = [
    Vanilla(canvas=8, steps=4),
    Rcr(canvas=8, steps=4),
    Remdm(canvas=8, steps=5),
    Tolerator(canvas=8, forwards=9, lock_after=2),
    Settle(canvas=8, forwards=9),
]


@pytest.mark.parametrize("options", CACHED, ids=lambda options: type(options).__name__)
def test_prompt_keys_of_the_first_forward(options, prompts):
    """An approximation: the first forward is exact, later ones read the canvas and the place of its shift alone."""
    ids, mask = prompts
    given = {"generator": 0, "family": SHIFTED, "attention_mask": mask, "record": True}
    exact, cached = (decode(tiny(), ids, replace(options, prompt_cache=on), **given) for on in (False, True))
    assert torch.equal(exact.trace.events[0]["tokens"], cached.trace.events[0]["tokens"])
    forwards, prompt = cached.trace.target_forwards, mask.sum(-1)
    assert torch.equal(cached.trace.positions, prompt + 8 + (forwards - 1) * 9)
    assert torch.equal(exact.trace.positions, exact.trace.target_forwards * (prompt + 8))


@torch.inference_mode()
def test_prompt_keys_are_those_that_were_read(prompts):
    """Where the canvas is again what it was, the approximation is exact."""
    from lib.decoding.bidirectional import PromptKeys

    network, (ids, mask) = network_of("llama"), prompts
    ids = torch.cat([ids, torch.ones(4, 6, dtype=torch.long)], 1)
    mask = torch.cat([mask, torch.ones(4, 6, dtype=torch.long)], 1)
    needed, keys = torch.ones(4, 6, dtype=torch.bool), PromptKeys(network)
    first = canvas_logits(network, ids, mask, needed, SHIFTED, keys)
    torch.testing.assert_close(canvas_logits(network, ids, mask, needed, SHIFTED, keys), first, atol=2e-5, rtol=1e-4)
    some = torch.tensor([2, 0])
    part = canvas_logits(network, ids[some], mask[some], needed[some], SHIFTED, keys, some)
    torch.testing.assert_close(part, first.view(4, 6, -1)[some].flatten(0, 1), atol=2e-5, rtol=1e-4)
    with pytest.raises(UserError, match="prompt_cache needs a Llama-class network"):
        PromptKeys(Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)))


def test_batches_follow_memory(monkeypatch):
    config = LlamaConfig(**SHAPE)
    one = memory.bytes_a_row(config, False, 100, 50)
    assert memory.bytes_a_row(config, False, 100, 60) - one == 4 * 2 * 2 * 2 * 8 * 10, "ten more slots of the cache"
    assert memory.bytes_a_row(config, True, 100, 50) > one, "logits of every open position"

    class Loaded:
        network, family = type("Network", (), {"config": config}), AR

    for free, size in ((0, 1), (10 * one / memory.SHARE + 1, 10), (1e15, memory.MOST)):
        monkeypatch.setattr(memory, "free", lambda device, free=free: free)
        assert memory.batch_size(Loaded, 100, 50) == size
        assert (
            memory.batch_size(Loaded, 100, 50, workers=2) == max(1, min(memory.MOST, int(size / 2) or 1))
            or free > 1e9
        )
    diffusion = type("Loaded", (Loaded,), {"family": SHIFTED})
    assert memory.batch_size(diffusion, 100, 50) == memory.CANVASES, "a CPU's cache, whatever its memory holds"
    monkeypatch.setattr(memory, "devices_of", lambda network, device: ["cuda:0"])
    assert memory.batch_size(diffusion, 100, 50, "cuda") == 4 * memory.MOST


def test_the_bench_page_says_what_was_reached():
    def row(case, value):
        return Row(case, Estimate(value, value - 0.1, value + 0.1, 9), 2.0, 1.0, "tokens/s", "a peer")

    rows = [row("smollm2-b1", 1.3), row("study-ar-b1", 2.0), row("mtad-outside", 4.0), row("memory-over", 11.0)]
    stored = page.as_json(rows)
    assert set(stored) == {"device", "threads", "rows"} and stored["rows"][0]["case"] == "smollm2-b1"
    assert {"case", "ratio", "low", "high", "ours", "peer", "unit"} <= set(stored["rows"][0])
    said = [page.reached(row)[:3].strip() for row in rows]
    assert said == ["yes", "no", "yes", "no"]
    text = page.page(rows)
    assert "1.30 [1.20, 1.40]" in text and "4.00 [3.90, 4.10] %" in text
