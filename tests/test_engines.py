"""Engines: AutoDeco's law inside vLLM's classes, what goes to which engine, and, where vLLM is, its very draws."""

import json
import sys
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from conftest import AR
from scipy.stats import chisquare
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
from lib.decoders import decode, options_of
from lib.decoding.distributions import warp
from lib.engines import vllm, vllm_plugin
from lib.engines.choice import Choice, chosen
from lib.engines.files import Source, Weightless, source_of
from lib.engines.heads import load_heads
from lib.engines.vllm_plugin import Recorder, Worker, decided, with_heads
from lib.errors import UserError
from lib.models.registry import CHECKPOINTS, Model
from lib.running import cost, evaluation, one_batch, respond
from lib.running.evaluation import run_all
from lib.running.identity import file_id, identity, run_id
from lib.running.run import Run, run_of
from lib.tasks.base import Item

TASK = "country_facts"
SIZE, WIDTH = 24, 64  # of the vocabulary, and a hidden size whose two heads vLLM's attention on a CPU takes
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm")
needs_study = pytest.mark.skipif(
    not (CHECKPOINTS / "study-ar" / "model.safetensors").exists(), reason="no committed checkpoint"
)


def network() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=SIZE, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        pad_token_id=0, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    made = LlamaForCausalLM(config).eval()
    made.lm_head.weight.data *= 8
    return made


def heads() -> Heads:
    torch.manual_seed(4)
    made = Heads(HeadsConfig(WIDTH, width=16))
    with torch.no_grad():
        for head in (made.temp_head, made.top_p_head):
            head.mlp[-1].weight *= 8
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model and heads for it, as they are published."""
    root, base = tmp_path_factory.mktemp("engines"), network()
    base.save_pretrained(root / "base")
    AutoDecoForCausalLM.from_base(base, heads()).save_pretrained(root / "heads")
    return root


@pytest.mark.parametrize(
    "said, choice",
    [
        ("", Choice(False, "local")),
        ("local", Choice(False, "local")),
        ("ray", Choice(False, "ray")),
        ("vllm", Choice(True, None)),
        ("vllm,local", Choice(True, "local")),
        ("vllm,ray", Choice(True, "ray")),
    ],
)
def test_engine_is_read_as_said(monkeypatch, said, choice):
    monkeypatch.setenv("ENGINE", said)
    assert chosen() == choice


@pytest.mark.parametrize("said", ["vLLM", "ray,vllm", "vllm,dask", "vllm,vllm", ","])
def test_another_engine_is_refused_with_those_there_are(monkeypatch, said):
    monkeypatch.setenv("ENGINE", said)
    with pytest.raises(UserError, match=f"local or ray, or vllm .*vllm,local.*{said!r}"):
        chosen()


@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 0.9), (2.0, 1.0)], ids=str)
def test_the_logits_are_autodecos_law(factors):
    torch.manual_seed(1)
    hidden, logits = torch.randn(40, WIDTH), 6 * torch.randn(40, SIZE)
    temperature, top_p, _ = heads()(hidden, logits)
    law = warp(logits, temperature * factors[0], top_p * factors[1])
    found, said = decided(heads(), hidden, logits, *factors)
    torch.testing.assert_close(found.softmax(-1), law)
    assert torch.equal(found.isinf(), law == 0) and 0.2 < found.isinf().float().mean() < 0.99
    torch.testing.assert_close(said, torch.stack([temperature * factors[0], top_p * factors[1]]))


class Base(nn.Module):
    """In the form of vLLM's causal classes; its hidden states are their own logits."""

    def __init__(self, *, vllm_config, prefix=""):
        super().__init__()
        self.body = nn.Linear(WIDTH, SIZE)
        self.samples = True

    def compute_logits(self, hidden_states):
        return self.body(hidden_states) if self.samples else None

    def compute_logits_local(self, hidden_states):
        return self.compute_logits(hidden_states)

    def load_weights(self, weights):
        return {"body.weight", "body.bias"}


def config_for(base, heads):
    config = network().config if base is None else base
    config.autodeco_heads = str(heads) if heads else None
    return SimpleNamespace(model_config=SimpleNamespace(hf_config=config, dtype=torch.float32))


def test_a_class_with_heads_gives_their_logits_and_says_that_they_are_loaded(folder):
    kind = with_heads(Base)
    model = kind(vllm_config=config_for(None, folder / "heads"))
    assert kind.__name__ == "AutoDecoBase" and isinstance(model, Base)
    hidden = torch.randn(5, WIDTH)
    logits, said = decided(heads(), hidden, model.body(hidden))
    assert torch.equal(model.compute_logits(hidden), logits) and torch.equal(Recorder.said, said)
    assert model.load_weights([]) == {name for name, _ in model.named_parameters()}
    assert not hasattr(model, "compute_logits_local"), "part of a vocabulary would be sampled without the heads"
    model.samples = False
    assert model.compute_logits(hidden) is None


def test_heads_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="no heads are named.*autodeco_heads"):
        vllm_plugin.heads_for(config_for(None, None).model_config.hf_config)
    with pytest.raises(UserError, match="hidden size of 64, not 65: take their base"):
        load_heads(folder / "heads", 65, "llama")
    with pytest.raises(UserError, match="family llama, this base is qwen2"):
        load_heads(folder / "heads", WIDTH, "qwen2")
    for path in (folder / "heads").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="adapter|adapter_model"):
        load_heads(tmp_path, WIDTH, "llama")


def update(removed=(), added=(), moved=()):
    added = [(index, SimpleNamespace(extra_args=row and {"row": row}), None, out) for index, row, out in added]
    moved = [(a, b, SimpleNamespace(name=kind)) for a, b, kind in moved]
    return SimpleNamespace(removed=removed, added=added, moved=moved)


def test_settings_are_kept_by_request_through_moves_and_repeats(monkeypatch):
    monkeypatch.setattr(Recorder, "settings", {})
    recorder, a, b = Recorder(None, None, False), [], []

    def step(*temperatures):
        Recorder.said = torch.tensor([temperatures, [t / 10 for t in temperatures]], dtype=torch.float64)
        logits = torch.zeros(len(temperatures), 3)
        assert recorder.apply(logits) is logits

    recorder.update_state(update(added=[(0, "a", a), (1, "b", b), (2, None, [])]))
    step(9.0, 5.0, 7.0)  # a piece of a's prompt, whose token does not count
    b.append(1)
    recorder.update_state(None)
    step(1.0, 6.0, 7.0)
    a.append(1), b.append(1)
    recorder.update_state(update(removed=[2], moved=[(0, 1, "SWAP")]))
    step(7.0, 2.0)
    a.append(1), b.append(1)
    recorder.update_state(update(removed=[0], moved=[(1, 0, "UNIDIRECTIONAL")]))
    step(3.0)
    found = Worker().autodeco_means({"a": 2, "b": 3, "c": 1})
    assert found == {"a": pytest.approx([1.5, 0.15]), "b": pytest.approx([6.0, 0.6])} and not Recorder.settings


@pytest.mark.parametrize(
    "model, method, options, words",
    [
        ("study-dlm", "tolerator", {"forwards": 4}, "vLLM runs autoregressive and autodeco, not tolerator"),
        ("study-ar-autodeco", "autodeco", {"shuffled": True}, "cannot run autodeco with shuffled=True"),
        ("study-ar", "autoregressive", {"use_cache": False}, "cannot run autoregressive with use_cache=False"),
        ("study-ar-adapter", "autodeco", {}, "does not merge the adapter of study-ar-adapter"),
        ("smollm2-draft", "autoregressive", {}, "no class for smollm2-draft"),
    ],
)
def test_what_vllm_cannot_run_is_refused_or_goes_elsewhere(monkeypatch, model, method, options, words):
    if words.endswith("adapter") and not (CHECKPOINTS / model / "adapter_config.json").exists():
        pytest.skip("no committed checkpoint")
    monkeypatch.setenv("ENGINE", "vllm")
    with pytest.raises(UserError, match=f"{words}.*ENGINE=vllm,local"):
        Run.of(model, TASK, method, items=1, **options)
    for engine in ("vllm,local", "vllm,ray", "local"):
        monkeypatch.setenv("ENGINE", engine)
        assert Run.of(model, TASK, method, items=1, **options).engine == ""


@needs_study
def test_a_run_says_its_engine_and_has_a_file_of_its_own(monkeypatch):
    plain = Run.of("study-ar", TASK, "autoregressive", items=2)
    monkeypatch.setenv("ENGINE", "vllm")
    run = Run.of("study-ar", TASK, "autoregressive", items=2)
    assert run == replace(plain, engine="vllm") and "engine" not in identity(plain)["run"]
    stored = json.loads(json.dumps(identity(run)))
    assert stored["run"]["engine"] == "vllm" and run_of(stored["run"]) == run
    assert run_id(run) != run_id(plain) and file_id(run) != file_id(plain)


@needs_study
def test_a_missing_vllm_names_its_cure_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE", "vllm")
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    monkeypatch.setattr(vllm, "_ENGINE", [])
    run = Run.of("study-ar", TASK, "autoregressive", items=2)
    with pytest.raises(UserError, match="ENGINE=vllm needs vLLM.*make env-vllm"):
        run_all([run], tmp_path)


def test_options_for_vllm_must_be_json(monkeypatch):
    for said in ("tensor_parallel_size=2", "[2]"):
        monkeypatch.setenv("VLLM_OPTIONS", said)
        with pytest.raises(UserError, match="VLLM_OPTIONS must be JSON"):
            vllm._asked()


class Numbers:
    """A tokenizer of texts such as `3 17 4`."""

    def encode(self, text, add_special_tokens=False):
        return [int(word) for word in text.split()]

    def decode(self, ids, skip_special_tokens=True):
        return " ".join(map(str, ids))


class Requests:
    """In the form of vLLM's engine: a step ends the request that has waited longest, with tokens 5 and 0."""

    def __init__(self):
        self.llm_engine, self.asked, self.waiting, self.seen = self, {}, [], []

    def add_request(self, row, prompt, params):
        assert row not in self.asked, "an id is used again"
        self.asked[row] = prompt["prompt_token_ids"]
        self.waiting.append(row)
        self.seen.append(params)

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def step(self):
        return [SimpleNamespace(finished=True, request_id=self.waiting.pop(0), outputs=[self])]

    token_ids = (5, 0)

    def abort_request(self, rows):
        self.waiting = [row for row in self.waiting if row not in rows]

    def collective_rpc(self, name, args):
        return [{row: [0.5, 0.9] for row in args[0]}] if name == "autodeco_means" else [None]


@pytest.fixture
def requests(monkeypatch):
    """What vLLM is asked for, without vLLM."""
    engine, model = Requests(), Model("tiny", Weightless(network().config), Numbers(), AR)
    monkeypatch.setattr(vllm, "source_of", lambda name: Source(name, "", None, "LlamaForCausalLM", "", model))
    monkeypatch.setattr(vllm, "_loaded", lambda source, room, device: engine)
    monkeypatch.setattr(vllm, "_params", lambda options, model, key, row: key)
    return engine


def test_an_engine_is_asked_what_this_machine_would_be(requests, monkeypatch):
    """The prefix of an answer, what was said before, the instruction, the command and the seed among it."""
    asked = {"prefix": " 7 8", "history": [["1 2", "3"]]}
    items = [Item("a", "4 5", "", asked), Item("b", "6", ""), Item("c", "6", "", {"prefix": " 9"})]
    given = {"command": "11", "seed": 3, "samples": [0, 1, 2]}
    seen = {}

    def decode(network, ids, options, *, generator, attention_mask, **_):
        seen["ids"] = [row[mask.bool()].tolist() for row, mask in zip(ids, attention_mask, strict=True)]
        seen["keys"] = generator.keys.tolist()

    monkeypatch.setattr(respond, "decode", decode)
    options = options_of("autoregressive", {"max_new_tokens": 4})
    respond.respond(Model("tiny", network(), Numbers(), AR), items, options, **given)
    answers = [answer for group in vllm.answers("tiny", items, options, **given) for answer in group]
    assert list(requests.asked.values()) == seen["ids"] == [[1, 2, 3, 4, 5, 11, 7, 8], [6, 11], [6, 11, 9]]
    assert requests.seen == seen["keys"]
    assert [(answer.place, answer.text, answer.counters["positions"]) for answer in answers] == [
        (0, "5", 9), (1, "5", 3), (2, "5", 4)
    ]  # fmt: skip


def test_answers_that_are_given_up_leave_nothing_in_the_engine(requests):
    items, options = [Item("a", "4", ""), Item("b", "5", "")], options_of("autoregressive", {"max_new_tokens": 4})
    with closing(vllm.answers("tiny", items, options, samples=[0, 0])) as answers:
        next(answers)
    assert not requests.waiting
    again = [answer.place for group in vllm.answers("tiny", items, options, samples=[0, 0]) for answer in group]
    assert again == [0, 1]


@pytest.mark.parametrize("temperature, kept", [(0.0, 0.0), (1.0, 0.5)])
def test_a_greedy_response_keeps_no_temperature(requests, temperature, kept):
    options = options_of("autodeco", {"max_new_tokens": 4, "temperature": temperature})
    ((answer,),) = vllm.answers("tiny", [Item("a", "4", "")], options, samples=[0])
    assert (answer.counters["temperature"], answer.counters["top_p"]) == (kept, 0.9)


def test_the_context_is_the_one_of_the_other_loop(requests):
    """The last token of a text need not be read: 128 positions hold 129 tokens."""

    def ask(prompt, limit):
        options = options_of("autoregressive", {"max_new_tokens": limit})
        return list(vllm.answers("tiny", [Item("a", " ".join(["4"] * prompt), "")], options, samples=[0]))

    assert ask(3, 126) and ask(128, 1)
    with pytest.raises(UserError, match="give max_new_tokens=126 at most, or shorten the prompt"):
        ask(3, 127)
    with pytest.raises(UserError, match="has 129 tokens, and the model has 128 positions: shorten it"):
        ask(129, 1)


def test_another_revision_or_setting_is_another_engine(monkeypatch):
    made = []

    class LLM:
        llm_engine = None

        def __init__(self, **options):
            made.append(options)

    monkeypatch.setattr(vllm, "_ENGINE", [])
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    monkeypatch.setattr(vllm, "autodeco_name", lambda name: f"AutoDeco{name}")
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM))
    for name in vllm.SETTINGS:
        monkeypatch.setenv(name, "0")
    source = Source("tiny", "", "main", "LlamaForCausalLM", "", Model("tiny", Weightless(network().config), None, AR))
    first = vllm._loaded(source, 50, "cpu")
    assert vllm._loaded(source, 40, "cpu") is first
    for change in ({"revision": "other"}, {"heads": "folder"}, {"path": "elsewhere"}):
        assert vllm._loaded(replace(source, **change), 40, "cpu") is not first
    for room, device in ((60, "cpu"), (60, "cuda")):
        vllm._loaded(source, room, device)
    monkeypatch.setenv("VLLM_OPTIONS", '{"seed": 1}')
    vllm._loaded(source, 50, "cuda")
    assert len(made) == 7


@needs_study
def test_the_engine_has_the_gpu_to_itself_and_gives_it_back(monkeypatch):
    """With the order of an accelerator, on a CPU."""
    here = Run.of("study-ar", TASK, "autoregressive", items=1, max_new_tokens=2)
    there, order = replace(here, engine="vllm"), []
    real = one_batch.model_of

    def answers(*_, **__):
        order.append(real.cache_info().currsize)
        yield [vllm.Answer(0, "x", {"tokens_kept": 1})]

    monkeypatch.setattr(vllm, "answers", answers)
    monkeypatch.setattr(vllm, "release", lambda: order.append("released"))
    monkeypatch.setattr(evaluation, "measured", lambda device: nullcontext(cost.Cost()))
    monkeypatch.setattr(evaluation, "_work", lambda unit: (unit[0], real("study-ar", "cpu") and [], None))
    found = evaluation._decoded([(there, [(0, 0)]), (here, [(0, 0)])], {here: 1}, "cuda", 0, 1)
    assert [(run, len(lines)) for run, lines in found] == [(here, 0), (there, 1)]
    assert order == [0, "released"]


# What follows needs vLLM, in an environment of its own: `make test-vllm`.


@pytest.fixture(scope="module")
def stock(folder):
    """Points vLLM's engine, in this process, at the tiny model: with or without heads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setattr(vllm, "_ENGINE", [])
        base = network()
        model = Model("tiny", Weightless(base.config), Numbers(), AR)

        def source(name):
            path = str(folder / "heads") if name == "tiny-heads" else ""
            return Source(name, str(folder / "base"), None, "LlamaForCausalLM", path, model)

        patch.setattr(vllm, "source_of", source)
        yield AutoDecoForCausalLM.from_base(base, heads())
        vllm.release()


PROMPTS = ("3 17 4", "5", "9 9 9 21 8 2 11")


def drawn(method, count, **options):
    """`count` answers to each prompt, by prompt."""
    name = "tiny-heads" if method == "autodeco" else "tiny"
    items = [Item(prompt, prompt, "") for prompt in PROMPTS for _ in range(count)]
    samples = [i for _ in PROMPTS for i in range(count)]
    found = {}
    for group in vllm.answers(name, items, options_of(method, options), samples=samples):
        for answer in group:
            found.setdefault(items[answer.place].prompt, []).append(answer)
    assert all(len(found[prompt]) == count for prompt in PROMPTS)
    return found


@torch.inference_mode()
def law_of(model, prompt: str, temperature, top_p, top_k=0, heads=False) -> dict[str, float]:
    """The exact probability of every response of two tokens, as text; 0 ends one."""
    law = {}

    def step(text):
        out = model(input_ids=torch.tensor([text]))
        t, p = temperature, top_p
        if heads:
            t, p = out.temperature[:, -1] * t, out.top_p[:, -1] * p
        return warp(out.logits[:, -1], t, p, top_k)[0].tolist()

    ids = [int(word) for word in prompt.split()]
    for first, p in enumerate(step(ids)):
        if p and first == 0:
            law[""] = law.get("", 0) + p
        elif p:
            for second, q in enumerate(step([*ids, first])):
                text = str(first) if second == 0 else f"{first} {second}"
                law[text] = law.get(text, 0) + p * q
    return {text: p for text, p in law.items() if p}


@needs_vllm
@pytest.mark.vllm
@pytest.mark.parametrize(
    "method, options",
    [
        ("autodeco", {}),
        ("autodeco", {"temperature": 0.5, "top_p": 0.9}),
        ("autoregressive", {"temperature": 0.7, "top_p": 0.8, "top_k": 6}),
    ],
    ids=str,
)
def test_vllm_draws_from_the_exact_law(stock, method, options):
    count = 1500
    found, sizes = drawn(method, count, max_new_tokens=2, **options), []
    for prompt in PROMPTS:
        given = [options.get("temperature", 1.0), options.get("top_p", 1.0), options.get("top_k", 0)]
        law = law_of(stock, prompt, *given, heads=method == "autodeco")
        seen = Counter(answer.text for answer in found[prompt])
        assert set(seen) <= set(law), "nothing outside of the nucleus"
        sizes.append(len(law))
        often = [text for text, p in law.items() if p * count >= 5]
        expected = [law[text] * count for text in often]
        observed = [seen[text] for text in often]
        rest = count - sum(expected)
        if rest > 1e-6:
            expected, observed = [*expected, rest], [*observed, count - sum(observed)]
        assert chisquare(observed, [e * count / sum(expected) for e in expected]).pvalue > 1e-3
        variation = sum(abs(seen[text] / count - p) for text, p in law.items()) / 2
        assert variation < (len(law) / count) ** 0.5 / 2 + 0.05, "what the law itself varies by, and chance"
    assert min(sizes) > 2 and sum(sizes) > 25, "laws that could fail"


@needs_vllm
@pytest.mark.vllm
@pytest.mark.parametrize("method", ["autoregressive", "autodeco"])
def test_vllm_without_draws_makes_our_tokens_counters_and_means(stock, method):
    options = {"max_new_tokens": 20, "temperature": 0.0}
    found = drawn(method, 1, **options)
    for prompt in PROMPTS:
        (answer,) = found[prompt]
        ids = torch.tensor([[int(word) for word in prompt.split()]])
        out = decode(stock, ids, options_of(method, options), generator=0, family=AR)
        row = out.trace.row(0)
        assert answer.text == " ".join(map(str, out.responses[0, : int(out.lengths[0])].tolist()))
        assert list(answer.counters) == list(row)
        for key, value in row.items():
            if key != "top_p":
                assert answer.counters[key] == value, key
        if method == "autodeco":
            assert answer.counters["top_p"] == pytest.approx(row["top_p"], abs=2e-3)


@needs_vllm
@pytest.mark.vllm
def test_vllm_fills_the_context_as_the_other_loop_does(stock):
    options = {"max_new_tokens": 122, "temperature": 0.0}  # with 7 tokens one more than there are positions
    ids = torch.tensor([[int(word) for word in PROMPTS[2].split()]])
    for end in range(SIZE):  # one that this text has not
        stops = replace(AR, eot_ids=(end,))
        out = decode(stock, ids, options_of("autoregressive", options), generator=0, family=stops)
        if int(out.lengths[0]) == 122:
            break
    with pytest.MonkeyPatch.context() as patch:
        of = vllm.source_of
        patch.setattr(vllm, "source_of", lambda name: replace(of(name), model=replace(of(name).model, family=stops)))
        (answer,) = drawn("autoregressive", 1, **options)[PROMPTS[2]]
    assert answer.counters == out.trace.row(0) and answer.counters["tokens_kept"] == 122


@needs_vllm
@needs_study
@pytest.mark.vllm
def test_a_run_goes_through_vllm_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setattr(vllm, "source_of", source_of)
    vllm.release()
    own = {"max_new_tokens": 12}
    run = Run.of("study-ar-autodeco", TASK, "autodeco", items=6, samples=2, **own)
    here = run_all([run], tmp_path / "here", workers=0)[run]
    monkeypatch.setenv("ENGINE", "vllm,local")
    by_vllm = Run.of("study-ar-autodeco", TASK, "autodeco", items=6, samples=2, **own)
    lines = run_all([by_vllm], tmp_path / "vllm")[by_vllm]
    assert [list(line) for line in lines] == [list(line) for line in here]
    assert len(lines) == 12 and all(0 < line["temperature"] < 2 and 0 < line["top_p"] <= 1 for line in lines)
    path = next((tmp_path / "vllm").glob("*.jsonl"))
    text = path.read_text()
    path.write_text(text[: int(len(text) * 0.6)])
    again = run_all([by_vllm], tmp_path / "vllm")[by_vllm]
    assert [line["text"] for line in again] == [line["text"] for line in lines], "a row has a seed of its own"
    monkeypatch.setattr(evaluation, "_by_engine", lambda *_: pytest.fail("decoded again"))
    assert run_all([by_vllm], tmp_path / "vllm")[by_vllm] == again
    vllm.release()


@needs_vllm
@pytest.mark.vllm
def test_a_class_that_vllm_has_not_is_refused_in_a_line():
    with pytest.raises(UserError, match="vLLM has no causal class MarsForCausalLM: leave ENGINE unset"):
        vllm_plugin.autodeco_name("MarsForCausalLM")
    assert vllm_plugin.autodeco_name("LlamaForCausalLM") == "AutoDecoLlamaForCausalLM"
    assert {"Qwen2ForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM"} <= set(vllm_plugin.causal_names())
