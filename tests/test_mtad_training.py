"""The distilled draft: it is a part of its target, learns from the target's own text, and drafts for it; timing."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import AR, tiny
from safetensors.torch import load_file
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from lib.analysis import forward_times as timing
from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.errors import UserError
from lib.models.distilled import DistilledDraft
from lib.models.registry import Model
from lib.models.study import build_tokenizer
from lib.mtad import Bild, Mtad, Speculative, Threshold, TreeSpeculative, Typical
from lib.tasks import get_task
from lib.training.mtad import __main__ as training
from lib.training.mtad import text as texts
from lib.training.mtad.__main__ import Distil, distil, divergence, likeliest, split, train
from lib.training.mtad.text import Text, Written, write

SIZE = 50  # tokens of the tiny targets
EVERY = torch.arange(SIZE)
SOME = torch.tensor([0, 3, 4, 7, 11, 12, 20, 21, 30, 31, 33, 48])
IDS = torch.tensor([[5, 7, 30, 11, 3, 42]])


def tied(seed=0):
    """Three layers whose head is the embeddings, as of SmolLM2; all are scaled up so that choices differ."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=SIZE, tie_word_embeddings=True, eos_token_id=0, pad_token_id=0, **shape)
    model = LlamaForCausalLM(config).eval()
    model.get_input_embeddings().weight.data *= 15
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data *= 12
        layer.self_attn.o_proj.weight.data *= 12
    return model


@pytest.fixture(scope="module", params=["tied", "untied"])
def target(request):
    """Its norms are not those of a new model, which are all ones."""
    model = tied() if request.param == "tied" else tiny(SIZE)
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data += 0.5 * torch.rand(p.shape, generator=torch.Generator().manual_seed(1))
    return model


def whole(target, vocabulary=EVERY):
    """A draft of all the target's layers."""
    return DistilledDraft.cut(target, tuple(range(target.config.num_hidden_layers)), vocabulary).eval()


def model_of(network):
    return Model("tiny", network, None, AR)


@torch.no_grad()
def written(network, prompts, kept, length=5, seed=0):
    """Answers drawn from the network itself, with its `kept` likeliest tokens in float32, a forward each."""
    random, found = torch.Generator().manual_seed(seed), []
    for i, prompt in enumerate(prompts):
        ids, rows = list(prompt), []
        for _ in range(length - i % 2):
            logp = network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            ids.append(int(torch.multinomial(logp.exp(), 1, generator=random)))
            rows.append(logp.topk(kept))
        stored = [torch.stack([getattr(row, part) for row in rows]) for part in ("indices", "values")]
        found.append(Written(list(prompt), torch.tensor(ids[len(prompt) :]), *stored))
    return found


PROMPTS = [(5, 9), (7,), (11, 3, 30, 2), (48, 20, 6)]


# The draft


@torch.no_grad()
def test_a_draft_of_all_layers_and_tokens_is_the_target(target):
    draft, logits = whole(target), target(IDS).logits
    assert torch.equal(draft(IDS).logits, logits)
    assert torch.allclose(draft(IDS, logits_to_keep=2).logits, logits[:, -2:], atol=1e-5)


@torch.no_grad()
def test_tokens_outside_the_vocabulary_are_impossible_and_the_others_as_they_were(target):
    logits, small = target(IDS).logits, whole(target, SOME)(IDS).logits
    outside = torch.ones(SIZE, dtype=torch.bool).scatter(0, SOME, False)
    assert (small[..., outside] == -torch.inf).all()
    assert torch.allclose(small[..., SOME], logits[..., SOME], atol=1e-5)


@torch.no_grad()
def test_small_logits_are_those_of_the_vocabulary_in_its_order(target):
    draft = whole(target, SOME)
    assert torch.equal(draft(IDS, whole=False).logits, draft(IDS).logits[..., SOME])
    assert draft(IDS, logits_to_keep=1, whole=False).logits.shape == (1, 1, len(SOME))


@torch.no_grad()
def test_a_draft_begins_as_the_layers_it_names(target):
    """Layers 1 and 0, in that order: those blocks run by hand between the target's embeddings and its norm."""
    draft = DistilledDraft.cut(target, (1, 0), EVERY)
    states, positions = target.model.embed_tokens(IDS), torch.arange(IDS.shape[1])[None]
    angles = target.model.rotary_emb(states, positions)
    causal = torch.full((6, 6), torch.finfo(torch.float32).min).triu(1)[None, None]
    for place in (1, 0):
        given = {"attention_mask": causal, "position_ids": positions, "position_embeddings": angles}
        states = target.model.layers[place](states, **given)
    expected = target.get_output_embeddings()(target.model.norm(states))
    assert torch.allclose(draft(IDS).logits, expected, atol=1e-4)
    assert not torch.allclose(expected, target(IDS).logits, atol=0.1)


def test_embeddings_are_shared_with_the_target_and_not_saved(target, tmp_path):
    draft = DistilledDraft.cut(target, (0,), SOME)
    draft.save(tmp_path)
    for one in (draft, DistilledDraft.load(tmp_path, target)):
        assert one.model.embed_tokens.weight.data_ptr() == target.model.embed_tokens.weight.data_ptr()
        assert torch.equal(one.lm_head.weight, target.get_output_embeddings().weight[SOME])
    layers = {key for key in target.state_dict() if key.startswith(("model.layers.0.", "model.norm"))}
    assert set(load_file(tmp_path / "model.safetensors")) == layers | {"vocabulary"}


@torch.no_grad()
def test_a_saved_draft_comes_back_in_bfloat16(target, tmp_path):
    draft = DistilledDraft.cut(target, (0, 1), SOME)
    for p in draft.model.layers.parameters():
        p += 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    draft.save(tmp_path)
    back = DistilledDraft.load(tmp_path, target)
    for (name, a), b in zip(draft.named_parameters(), back.parameters(), strict=True):
        shared = name.startswith(("model.embed_tokens", "lm_head"))
        assert torch.equal(b, a if shared else a.bfloat16().float()), name
    assert torch.equal(back.vocabulary, SOME) and back.dtype == torch.float32
    assert torch.allclose(back(IDS).logits[..., SOME], draft(IDS).logits[..., SOME], atol=0.1)
    back.save(tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_a_draft_of_another_shape_is_refused(target, tmp_path):
    DistilledDraft.cut(target, (0, 1), SOME).save(tmp_path)
    (tmp_path / "config.json").write_text('{"layers": 1}')
    with pytest.raises(UserError, match="does not hold the 1 layers"):
        DistilledDraft.load(tmp_path, target)


@torch.no_grad()
def test_a_cached_forward_is_a_whole_one(target):
    draft, cache = DistilledDraft.cut(target, (0, 1), SOME).eval(), DynamicCache()
    parts = [draft(part, past_key_values=cache, use_cache=True).logits for part in IDS.split((3, 1, 2), 1)]
    together = draft(IDS).logits
    assert torch.allclose(torch.cat(parts, 1)[..., SOME], together[..., SOME], atol=1e-5)
    assert cache.get_seq_length() == draft(IDS, use_cache=True).past_key_values.get_seq_length() == 6


def test_greedy_drafting_by_transformers_and_here_is_the_targets_greedy_text(target):
    tokens = {"max_new_tokens": 12, "do_sample": False}
    expected = target.generate(IDS, **tokens)
    said = expected[0, 6:15].unique()  # not all that the target will say
    draft = DistilledDraft.cut(target, (0, 1), torch.cat([said, SOME]).unique()).eval()
    assert torch.equal(target.generate(IDS, assistant_model=draft, **tokens), expected)
    given = {"generator": 0, "family": AR}
    plain = decode(target, IDS, Autoregressive(12), **given)
    ours = decode(target, IDS, Speculative(12, temperature=0.0), draft=draft, **given)
    assert torch.equal(ours.responses, plain.responses)
    length = expected.shape[1] - IDS.shape[1]
    assert plain.responses[0, :length].tolist() == expected[0, IDS.shape[1] :].tolist()
    assert ours.trace.target_forwards < plain.trace.target_forwards, "some of its tokens are taken"


RULES = [Speculative, TreeSpeculative, Threshold, Typical, Bild, Mtad]


@pytest.mark.parametrize("top_k", [0, 10])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_drafts_a_token_outside_the_vocabulary(target, rule, top_k):
    """Four tokens, fewer than top_k and than beams drawn apart: what has no probability is not drafted."""
    few, given = SOME[:4], {"max_new_tokens": 10, "top_k": top_k, "top_p": 1.0}
    options = [rule(**given)] + ([rule(width=5, replacement=False, tree=True, **given)] if rule is Mtad else [])
    for each in options:
        ids = torch.tensor([[5, 9, 4], [7, 7, 7]])
        out = decode(target, ids, each, draft=whole(target, few), generator=3, family=AR, record=True)
        drafted = torch.cat([event["drafted"].flatten() for event in out.trace.events])
        assert len(drafted) and torch.isin(drafted, few).all(), each


# What it learns from


def test_the_vocabulary_is_the_tokens_with_most_probability():
    def row(tokens, chances):
        return Written([1], torch.zeros(len(tokens)), torch.tensor(tokens), torch.tensor(chances).log())

    rows = [row([[9, 4], [4, 7]], [[0.6, 0.3], [0.5, 0.45]]), row([[7, 2]], [[0.9, 0.05]])]
    # 7: 1.35, 4: 0.8, 9: 0.6, 2: 0.05, the others 0
    assert [likeliest(rows, n, 10).tolist() for n in (1, 2, 3)] == [[7], [4, 7], [4, 7, 9]]
    assert likeliest(rows, 7, 10).tolist() == [0, 1, 2, 3, 4, 7, 9]
    assert likeliest(rows, 20, 10).tolist() == list(range(10))


@pytest.mark.parametrize("kept", [SIZE, 6])
def test_a_draft_that_is_its_teacher_has_no_divergence(target, kept):
    """With all tokens stored every draft is accepted; with a few, the share of probability that they have."""
    rows = written(target, PROMPTS, kept)
    loss, accepted = divergence(whole(target), rows, model_of(target), EVERY)
    p = torch.cat([row.logprobs for row in rows]).exp()
    mass = p.sum(-1)
    assert accepted.item() == pytest.approx(mass.mean().item(), abs=1e-5)
    # KL(p / mass, p) = -log mass
    assert loss.item() == pytest.approx(-mass.log().mean().item(), abs=1e-5)
    if kept == SIZE:
        assert accepted.item() == pytest.approx(1, abs=1e-5) and loss.item() == pytest.approx(0, abs=1e-5)


def test_divergence_and_acceptance_are_those_of_each_position_by_hand(target):
    rows, draft = written(target, PROMPTS, 8), DistilledDraft.cut(target, (0,), SOME).eval()
    place = torch.full((SIZE,), -1)
    place[SOME] = torch.arange(len(SOME))
    losses, shares, left_out = [], [], 0
    for row in rows:
        ids = row.prompt + row.response.tolist()
        for g in range(len(row.response)):
            with torch.no_grad():
                q = draft(torch.tensor([ids[: len(row.prompt) + g]])).logits[0, -1].softmax(-1)
            p = {t: math.exp(v) for t, v in zip(row.tokens[g].tolist(), row.logprobs[g].tolist(), strict=True)}
            can = {t: v for t, v in p.items() if t in SOME.tolist()}
            left_out += len(p) - len(can)
            total = sum(can.values())
            losses.append(sum(v / total * math.log(v / total / q[t].item()) for t, v in can.items()))
            shares.append(sum(min(v, q[t].item()) for t, v in can.items()))
    loss, accepted = divergence(draft, rows, model_of(target), place)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert accepted.item() == pytest.approx(sum(shares) / len(shares), rel=1e-4)
    assert left_out > 20 and len(losses) == 5 + 4 + 5 + 4


def test_answers_to_one_question_are_held_out_together():
    rows = [
        Written([i, 2], torch.tensor([n]), torch.zeros(1, 1), torch.zeros(1, 1)) for n in (0, 1) for i in range(400)
    ]
    learned, unseen = split(rows)
    questions = [{tuple(row.prompt) for row in side} for side in (learned, unseen)]
    assert not questions[0] & questions[1] and len(learned) + len(unseen) == 800
    assert [len(side) for side in (learned, unseen)] == [2 * len(side) for side in questions]
    assert 10 <= len(questions[1]) <= 32, "one in twenty: 400 / 20, and 2.7 standard deviations"
    assert split(rows[::-1])[1] == unseen[::-1]


TEXT = Text((("country_facts", 5), ("gsm_symbolic", 3)), max_new_tokens=6, kept=12, batch=2)


@pytest.fixture(scope="module")
def writer():
    """A tiny target with a tokenizer of its own."""
    items = [item for name, n in TEXT.questions for item in get_task(name).items("train", n)]
    tokenizer = build_tokenizer([text for item in items for text in (item.prompt, item.target)])
    network = tiny(len(tokenizer), seed=4)
    network.lm_head.weight.data[0] *= 3  # so that some answers end
    return Model("tiny", network, tokenizer, AR)


def test_batches_are_of_one_task_and_tasks_take_turns():
    found = [(task.name, [item.id for item in items]) for task, items in TEXT.batches()]
    facts, sums = ([item.id for item in get_task(name).items("train", n)] for name, n in TEXT.questions)
    qa, math_ = "country_facts", "gsm_symbolic"
    turns = [(qa, facts[:2]), (math_, sums[:2]), (qa, facts[2:4]), (math_, sums[2:]), (qa, facts[4:])]
    assert found == turns


def test_what_is_written_is_what_the_target_says(writer, tmp_path):
    """Prompts without padding, the target's likeliest tokens at each place, and an answer drawn from them."""
    rows = write(writer, TEXT, tmp_path)
    items = [item for _, items in TEXT.batches() for item in items]
    assert [row.prompt for row in rows] == [writer.tokenizer.encode(item.prompt) for item in items]
    for row in rows:
        response = row.response.tolist()
        assert len(response) == 6 or response[-1] == 0, "the end is there, or the limit"
        assert 0 not in response[:-1] and row.tokens.shape == row.logprobs.shape == (len(response), 12)
        with torch.inference_mode():
            logits = writer.network(torch.tensor([row.prompt + response])).logits[0, len(row.prompt) - 1 : -1]
        logp = logits.log_softmax(-1)
        assert torch.allclose(row.logprobs.float(), logp.topk(12).values, atol=5e-3)
        assert torch.allclose(row.logprobs.float(), logp.gather(-1, row.tokens.long()), atol=5e-3)
        assert all(token in best[:10] for token, best in zip(response, row.tokens.tolist(), strict=True)), "top_k"
    drawn = [token != best[0] for row in rows for token, best in zip(row.response, row.tokens, strict=True)]
    assert any(drawn) and len({len(row.response) for row in rows} | {6}) > 1, "it samples, and some end"


def same(a, b):
    return all(
        x.prompt == y.prompt
        and all(torch.equal(getattr(x, k), getattr(y, k)) for k in ("response", "tokens", "logprobs"))
        for x, y in zip(a, b, strict=True)
    )


def test_a_killed_writer_goes_on_where_it_was(writer, tmp_path, monkeypatch):
    real, calls = texts._write, []

    def killed_at_the_third(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(texts, "_write", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write(writer, TEXT, tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 2
    resumed = write(writer, TEXT, tmp_path / "a")
    assert len(calls) == 3 + 3, "of five batches, two were there"
    write(writer, TEXT, tmp_path / "a")
    assert len(calls) == 6
    assert same(resumed, write(writer, TEXT, tmp_path / "b"))


def test_an_answer_depends_on_its_question_and_seed_alone(writer, tmp_path):
    rows = write(writer, TEXT, tmp_path / "a")
    other = write(writer, replace(TEXT, seed=1), tmp_path / "b")
    assert not same(rows, other)
    alone = write(writer, replace(TEXT, questions=TEXT.questions[:1]), tmp_path / "c")
    names = [task.name for task, items in TEXT.batches() for _ in items]
    assert same([row for row, name in zip(rows, names, strict=True) if name == "country_facts"], alone)


# Distilling


def test_distilling_raises_the_acceptance_and_leaves_the_target_alone(tmp_path):
    network = tiny(SIZE, seed=2)
    target, before = model_of(network), {k: v.clone() for k, v in network.state_dict().items()}
    prompts = [(3 + i, 3 + i * i % 40) for i in range(24)]
    rows = written(network, prompts, SIZE, length=6)
    vocabulary = likeliest(rows, 30, SIZE)
    draft = DistilledDraft.cut(network, (0,), vocabulary)
    place = torch.full((SIZE,), -1)
    place[vocabulary] = torch.arange(30)
    first = divergence(draft, rows, target, place)
    recipe = Distil(layers=(0,), vocabulary=30, steps=40, answers=8, learning_rate=1e-2)
    curve, _ = distil(draft, rows[:20], rows[20:], target, recipe, tmp_path, "cpu")
    last = divergence(draft, rows, target, place)
    assert last[1] > first[1] + 0.05 and last[0] < first[0], (first, last)
    assert [row["step"] for row in curve] == [10, 20, 30, 40] and curve[-1]["loss"] < curve[0]["loss"]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(draft.lm_head.weight, network.get_output_embeddings().weight[vocabulary])
    again = DistilledDraft.cut(network, (0,), vocabulary)
    assert distil(again, rows[:20], rows[20:], target, recipe, tmp_path, "cpu")[0] == curve
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), draft.parameters(), strict=True)), "read back"
    with pytest.raises(UserError, match="another recipe"):
        state = tmp_path / next(tmp_path.glob("draft-*.pt"))
        torch.save(torch.load(state, weights_only=True) | {"key": ""}, state)
        distil(again, rows, rows, target, recipe, tmp_path, "cpu")


def test_the_curve_tells_the_acceptance_of_answers_held_out(tmp_path):
    network = tiny(SIZE)
    rows, target = written(network, PROMPTS, SIZE), model_of(network)
    recipe = Distil(layers=(0,), vocabulary=SIZE, steps=100, answers=1, learning_rate=1e-9)
    draft = DistilledDraft.cut(network, (0,), EVERY)
    curve, _ = distil(draft, rows[:2], rows[2:], target, recipe, tmp_path, "cpu")
    expected = divergence(draft, rows[2:], target, EVERY)[1].item()
    assert curve[-1]["held_out_acceptance"] == pytest.approx(expected, abs=1e-4)
    assert all("held_out_acceptance" not in row for row in curve[:-1])


def test_a_text_without_answers_held_out_can_be_learned_from(tmp_path):
    """One question in twenty is held out: of a short text perhaps none."""
    network = tiny(SIZE)
    recipe = Distil(layers=(0,), vocabulary=SIZE, steps=100, answers=1)
    draft = DistilledDraft.cut(network, (0,), EVERY)
    curve, _ = distil(draft, written(network, PROMPTS, 8), [], model_of(network), recipe, tmp_path, "cpu")
    assert len(curve) == 10


def test_the_command_leaves_a_draft_that_its_target_can_load(writer, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(training, "load", lambda *given: loaded.append(given) or writer)
    monkeypatch.setattr(training, "HELD_OUT", 2)
    monkeypatch.setattr(training, "BUILD", tmp_path / "build")
    monkeypatch.setattr(training, "CHECKPOINTS", tmp_path / "checkpoints")
    recipe = Distil(TEXT, layers=(1,), vocabulary=20, steps=10, answers=2)
    train("smollm2-draft", recipe)
    folder = tmp_path / "checkpoints" / "smollm2-draft"
    draft = DistilledDraft.load(folder, writer.network)
    assert loaded == [("smollm2-135m", "cpu", torch.float32)] and len(draft.model.layers) == 1
    rows = write(writer, TEXT, next((tmp_path / "build/mtad").iterdir()))
    learned, everything = (likeliest(part, 20, writer.network.config.vocab_size) for part in (split(rows)[0], rows))
    assert torch.equal(draft.vocabulary, learned) and not torch.equal(learned, everything)
    measured = json.loads((folder / "measured.json").read_text())
    assert (measured["answers"], measured["tokens"]) == (8, sum(len(row.response) for row in rows))
    assert json.loads((folder / "recipe.json").read_text())["text"]["kept"] == 12
    with pytest.raises(UserError, match="smollm2-draft"):
        training.train_all(["smollm3-draft"])
    with pytest.raises(UserError, match="answers must be 4 or less, half of the questions"):
        replace(recipe, answers=5)


# Timing


class Slow(torch.nn.Module):
    """A network whose forward takes two seconds of a clock made for the purpose."""

    def __init__(self, clock):
        super().__init__()
        self.weight, self.clock = torch.nn.Parameter(torch.zeros(1)), clock

    def forward(self, x):
        self.clock[0] += 2.0
        return x


def test_a_clock_counts_forwards_of_its_network_alone(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    network, other = Slow(now), Slow(now)
    with timing.Clock(network) as clock:
        for _ in range(3):
            network(1)
            other(1)
            now[0] += 0.5
    network(1)
    assert clock.seconds == 6.0 and now[0] == 100 + 7 * 2 + 1.5


@pytest.mark.parametrize("tokens", [1, 5])
def test_one_forward_leaves_the_cache_as_long_as_it_was(tokens, monkeypatch):
    network, caches, seen = tiny(SIZE), [], []
    monkeypatch.setattr(timing, "DynamicCache", lambda: caches.append(DynamicCache()) or caches[0])
    run = timing.one_forward(network, tokens, prefix=9, repeats=3)
    keys = caches[0].layers[0].keys.clone()
    network.register_forward_hook(lambda _, args, given, out: seen.append((given, out.logits)), with_kwargs=True)
    assert run() == run() == 3 and len(seen) == 6
    assert caches[0].get_seq_length() == 9 and torch.equal(caches[0].layers[0].keys, keys)
    with torch.inference_mode():
        expected = network(torch.arange(3, 3 + 9 + tokens)[None]).logits[:, -tokens:]
    for given, logits in seen[:6]:
        assert given["input_ids"].shape == (1, tokens) and torch.allclose(logits, expected, atol=1e-4)


def test_the_expected_speedup_is_tokens_over_time():
    # A block of 3.2 tokens takes 4 s of drafting and a verification of 12 s; alone a token takes 10 s.
    assert timing.expected_speedup(3.2, 4.0, 12.0, 10.0) == pytest.approx(3.2 / 16 * 10)
    assert timing.expected_speedup(1.0, 0.0, 10.0, 10.0) == 1, "without a draft it is one token a forward"
