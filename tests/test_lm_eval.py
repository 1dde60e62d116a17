"""lm-evaluation-harness asks our decoders: the same texts and scores as our own evaluation, and nothing unsaid."""

import gzip
import json
import time
import tomllib
from dataclasses import fields

import pytest
import torch
from conftest import AR, SHIFTED, heads, tiny

lm_eval = pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.model import CachingLM  # noqa: E402
from lm_eval.api.registry import get_model  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from lib.autodeco import AutoDecoForCausalLM  # noqa: E402
from lib.decoders import DECODERS, options_of  # noqa: E402
from lib.decoding.family import Family  # noqa: E402
from lib.errors import UserError  # noqa: E402
from lib.integrations.lm_eval import __main__ as command  # noqa: E402
from lib.integrations.lm_eval import model as own  # noqa: E402
from lib.integrations.lm_eval import networks  # noqa: E402
from lib.integrations.lm_eval.model import DecodingLM  # noqa: E402
from lib.integrations.lm_eval.requests import asked  # noqa: E402
from lib.models.registry import Model  # noqa: E402
from lib.models.study import build_tokenizer  # noqa: E402
from lib.paths import ROOT  # noqa: E402
from lib.running.respond import encoded, respond  # noqa: E402
from lib.tasks import get_task  # noqa: E402
from lib.tasks.base import Item  # noqa: E402

THEIRS = f"{lm_eval.__path__[0]}/tasks"
OURS = ROOT / "lib" / "integrations" / "lm_eval" / "tasks"
ROLES = ("user", "assistant")
FAST = {"num_fewshot": 0, "bootstrap_iters": 0}
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def rows(name: str, n: int, where=lambda row: True) -> list[dict]:
    """Committed rows of a benchmark."""
    with gzip.open(ROOT / "lib" / "tasks" / "data" / f"{name}.jsonl.gz", "rt") as file:
        return [row for row in map(json.loads, file) if where(row)][:n]


ROWS = {
    "gsm8k": rows("gsm8k_test", 4),
    "humaneval": rows("humaneval", 3),
    "ifeval": rows("ifeval", 3, lambda row: row["instruction_id_list"] == ["punctuation:no_comma"]),
}
FILES = {"gsm8k": "gsm8k/gsm8k.yaml", "humaneval": OURS / "humaneval_sandbox.yaml", "ifeval": "ifeval/ifeval.yaml"}


@pytest.fixture(scope="session")
def words():
    texts = [row.get("question", row.get("prompt")) for part in ROWS.values() for row in part]
    return build_tokenizer(texts)


@pytest.fixture
def models(words, monkeypatch):
    """Tiny models behind the names of the study's: a target, a draft, one with heads, one of diffusion, a chat."""

    def network(seed):
        found = tiny(vocabulary=len(words), seed=seed, scale=8.0)
        found.config.max_position_embeddings = 2048
        return found

    ar, dlm = network(4), network(5)
    chats = build_tokenizer(["user assistant system"] + [row["question"] for row in ROWS["gsm8k"]])
    chats.add_special_tokens({"bos_token": "<s>"})
    chats.chat_template = CHAT
    made = {
        "ar": Model("ar", ar, words, AR),
        "draft": Model("draft", network(6), words, AR),
        "heads": Model("heads", AutoDecoForCausalLM.from_base(ar, heads()), words, AR),
        "dlm": Model("dlm", dlm, words, SHIFTED),
        "chat": Model("chat", tiny(vocabulary=len(chats), seed=7), chats, Family("chat", eot_ids=(0,))),
    }
    monkeypatch.setattr(networks, "_model", lambda name, arguments: made[name])
    return made


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    """lm-eval's own tasks, asked on local rows."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, part in ROWS.items():
        lines = folder / f"{name}.jsonl"
        lines.write_text("".join(json.dumps(row) + "\n" for row in part))
        split = "train" if name == "ifeval" else "test"
        files = {split: str(lines)} | ({"train": str(lines)} if name == "gsm8k" else {})
        given = {"data_files": files, "cache_dir": str(folder / "cache")}
        task = {"include": f"{THEIRS}/{FILES[name]}" if name != "humaneval" else str(FILES[name]), "tag": None}
        task |= {"task": f"{name}_rows", "dataset_path": "json", "dataset_name": None, "dataset_kwargs": given}
        (folder / f"{name}_rows.yaml").write_text(json.dumps(task))  # JSON is YAML
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk, "download", lambda *_, **__: True)  # IFEval's checkers ask for it when imported
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")


def evaluate(harness, arguments, *tasks, **given):
    given = {"gen_kwargs": {"max_gen_toks": 16}, "batch_size": 8} | FAST | given
    names = [f"{task}_rows" for task in tasks]
    return lm_eval.simple_evaluate(
        model="decoding-study", model_args=arguments, tasks=names, task_manager=harness, **given
    )


def logged(found, task):
    """The logged samples of one filter, in order."""
    samples = found["samples"][f"{task}_rows"]
    return [sample for sample in samples if sample["filter"] == samples[0]["filter"]]


def items(samples) -> list[Item]:
    """The same questions as items of our own, of the same ids."""
    name = samples[0]["arguments"][0][1]["decoding_trace"][0]["task"]
    return [Item(f"{name}/{sample['doc_hash']}", sample["arguments"][0][0], "") for sample in samples]


def request(prompt="Question", doc=None, repeats=1, **given) -> Instance:
    return Instance("generate_until", doc or {"q": prompt}, (prompt, given), 0, metadata=("task", 0, repeats))


METHODS = {
    "autoregressive": ({"pretrained": "ar", "temperature": 1.0}, {"temperature": 1.0}),
    "mtad": ({"pretrained": "ar", "draft": "draft", "temperature": 0.8, "tau": 0.3}, None),
    "autodeco": ({"pretrained": "heads", "temperature": 1.0}, None),
    "vanilla": ({"pretrained": "dlm", "temperature": 0.5, "steps": 8, "canvas": 16}, None),
    "tolerator": ({"pretrained": "dlm", "temperature": 0.5, "canvas": 16}, {"forwards": 16}),
}


@pytest.mark.parametrize("method", METHODS)
def test_texts_are_those_of_our_own_evaluation_in_any_batch(models, harness, method):
    arguments, more = METHODS[method]
    given = {k: v for k, v in arguments.items() if k not in ("pretrained", "draft")} | (more or {})
    key = "canvas" if "canvas" in [field.name for field in fields(DECODERS[method].options)] else "max_new_tokens"
    options = options_of(method, {key: 16} | given)
    draft = {"draft": models["draft"].network} if "draft" in arguments else {}
    model, arguments = models[arguments["pretrained"]], arguments | {"method": method, "seed": 3}
    alone, found = (evaluate(harness, arguments | {"batch_size": size}, *ROWS) for size in (1, "auto"))
    for task in ROWS:
        samples = logged(found, task)
        texts = [sample["resps"][0][0] for sample in samples]
        assert texts == [sample["resps"][0][0] for sample in logged(alone, task)]
        out = respond(model, items(samples), options, seed=3, **draft)
        for i, sample in enumerate(samples):
            given = sample["arguments"][0][1]
            text = model.text(out.responses[i], int(out.lengths[i]))
            assert texts[i] == text[: min([text.find(stop) for stop in given["until"] if stop in text], default=None)]
            (trace,) = given["decoding_trace"]
            assert trace | out.trace.row(i) == trace and trace["seconds"] > 0
        assert len(set(texts)) > 1, "or the test compares nothing"


def test_a_subset_draws_what_the_whole_draws(models, harness):
    arguments = {"pretrained": "ar", "method": "autoregressive", "temperature": 1.0}
    whole = logged(evaluate(harness, arguments, "gsm8k"), "gsm8k")
    part = logged(evaluate(harness, arguments, "gsm8k", samples={"gsm8k_rows": [1, 3]}), "gsm8k")
    assert [s["resps"] for s in part] == [whole[1]["resps"], whole[3]["resps"]]
    other = logged(evaluate(harness, arguments | {"seed": 1}, "gsm8k"), "gsm8k")
    assert [s["resps"] for s in other] != [s["resps"] for s in whole]


def test_repeats_are_samples(models):
    model = DecodingLM(pretrained="ar", method="autoregressive", temperature=1.0, batch_size=2)
    one = request("How many?", repeats=3, until=[], max_gen_toks=12)
    texts = model.generate_until([one] * 3)
    item, options = (
        Item(own.Place.of(one, 0).item, "How many?", ""),
        options_of("autoregressive", {"max_new_tokens": 12, "temperature": 1.0}),
    )
    out = respond(models["ar"], [item] * 3, options, samples=[0, 1, 2])
    assert texts == [models["ar"].text(out.responses[i], int(out.lengths[i])) for i in range(3)]
    assert len(set(texts)) == 3
    assert [line["sample"] for line in one.args[1]["decoding_trace"]] == [0, 1, 2]


# What a request asks for


@pytest.mark.parametrize("method", DECODERS)
def test_greedy_is_honoured_by_every_method_or_refused(method):
    names = [field.name for field in fields(DECODERS[method].options)]
    if method in ("autodeco", "entropy"):
        with pytest.raises(UserError, match="greedy"):
            asked({"do_sample": False, "temperature": 0.0}, method, {})
        return
    for greedy in ({"do_sample": False}, {"temperature": 0.0}, {"do_sample": False, "temperature": 0.7}):
        found = asked(greedy | {"max_gen_toks": 48}, method, {}).options
        assert all(getattr(found, name) == 0 for name in names if name.endswith("temperature"))
        assert getattr(found, "canvas", None) or found.max_new_tokens == 48
        assert all(getattr(found, name) == 48 for name in ("canvas", "steps", "forwards") if name in names)


def test_model_args_before_the_request_before_the_default():
    sampled = {"do_sample": True, "temperature": 0.2, "top_p": 0.95, "max_gen_toks": 64, "until": "\n"}
    found = asked(sampled, "autoregressive", {})
    assert found.until == ("\n",)
    assert (
        found.options.to_dict() | {"max_new_tokens": 64, "temperature": 0.2, "top_p": 0.95} == found.options.to_dict()
    )
    own = asked(sampled, "autoregressive", {"temperature": 0.8, "max_new_tokens": 9}).options
    assert (own.temperature, own.top_p, own.max_new_tokens) == (0.8, 1.0, 9), "a draw mixes no two laws"
    assert asked({}, "tolerator", {}).options.temperature == options_of("tolerator", {}).temperature
    assert asked({"do_sample": True}, "autoregressive", {}).options.temperature == 1.0
    assert asked({"do_sample": True}, "tolerator", {}).options.temperature == 0.5
    assert asked({"max_tokens": 5}, "vanilla", {"steps": 2}).options.steps == 2
    assert asked({}, "autoregressive", {}, length=7).options.max_new_tokens == 7
    assert asked({"top_k": -1, "temperature": 0.5}, "mtad", {}).options.top_k == 0
    assert asked({"min_p": 0.0, "num_beams": 1, "repetition_penalty": 1.0, "x": None}, "beam", {}).options.width == 4
    assert asked({"do_sample": True, "temperature": 1.0}, "entropy", {}).options.highest == 1.0


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("autoregressive", {"min_p": 0.1}, "--gen_kwargs min_p=0.0"),
        ("autoregressive", {"repetition_penalty": 1.2}, "repetition_penalty"),
        ("autoregressive", {"num_return_sequences": 4}, "num_return_sequences"),
        ("autoregressive", {"stop": ["a"]}, "stop"),
        ("autoregressive", {"seed": 1}, "seed"),
        ("autoregressive", {"max_length": 100}, "max_gen_toks"),
        ("autoregressive", {"max_gen_toks": 3, "max_tokens": 4}, "several lengths"),
        ("autoregressive", {"do_sample": True, "temperature": 0.0}, "contradict"),
        ("autoregressive", {"do_sample": "yes"}, "do_sample"),
        ("autoregressive", {"until": [1]}, "until"),
        ("settle", {"temperature": 0.5, "top_p": 0.9}, "top_p"),
        ("beam", {"do_sample": True}, "no temperature"),
        ("entropy", {"do_sample": True, "temperature": 0.6}, "temperature=1"),
        ("autoregressive", {"temperature": -1.0}, "temperature"),
        ("autoregressive", {"max_gen_toks": 0}, "whole number, 1 or more"),
        ("autoregressive", {"max_gen_toks": 4.5}, "whole number, 1 or more"),
        ("autoregressive", {"max_gen_toks": "ten"}, "max_gen_toks of the request must be a number, not 'ten'"),
        ("vanilla", {"max_tokens": [8]}, "max_tokens of the request must be a number"),
        ("autoregressive", {"temperature": "hot"}, "temperature of the request must be a number, not 'hot'"),
        ("autoregressive", {"top_p": "x"}, "top_p of the request must be a number, not 'x'"),
        ("autoregressive", {"top_k": "x"}, "top_k of the request must be a number, not 'x'"),
        ("autoregressive", {"top_k": 2.5}, "top_k"),
        ("autoregressive", {"top_p": float("nan")}, "top_p"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(method, given, said):
    with pytest.raises(UserError, match=said):
        asked(given, method, {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pretrained": "ar"}, "lack method"),
        ({"pretrained": "ar", "method": "mtda"}, "mtad"),
        ({"pretrained": "ar", "method": "autoregressive", "temprature": 1}, "did you mean temperature"),
        ({"pretrained": "ar", "method": "autoregressive", "temperature": "warm"}, "type float"),
        ({"pretrained": "ar", "method": "autoregressive", "draft": "draft"}, "leave draft out"),
        ({"pretrained": "ar", "method": "mtad"}, "give draft"),
        ({"pretrained": "ar", "method": "autodeco"}, "heads"),
        ({"pretrained": "heads", "method": "autoregressive"}, "only autodeco"),
        ({"pretrained": "ar", "method": "vanilla"}, "MASK"),
        ({"pretrained": "dlm", "method": "autoregressive"}, "MASK"),
        ({"pretrained": "ar", "method": "autoregressive", "batch_size": "lots"}, "batch_size"),
        ({"pretrained": "ar", "method": "autoregressive", "dtype": "int4"}, "dtype"),
        ({"pretrained": "ar", "method": "autoregressive", "trace": "/nowhere/at/all"}, "folder"),
    ],
)
def test_arguments_are_refused_by_name(models, given, said):
    with pytest.raises(UserError, match=said):
        DecodingLM(**given)


def test_arguments_of_the_command_line_get_their_types(models):
    text = "pretrained=ar,method=mtad,draft=draft,tau=0,tree=True,width=2,batch_size=3"
    model = DecodingLM.create_from_arg_string(text, {"batch_size": "5", "device": None, "max_batch_size": None})
    assert model.arguments.options == {"tau": 0.0, "tree": True, "width": 2}
    assert model.arguments.batch_size == 3, "--model_args are before --batch_size, which lm-eval always gives"
    assert DecodingLM.create_from_arg_obj({"pretrained": "ar", "method": "beam"}, {"batch_size": "5"})._size(
        options_of("beam", {}), 9
    ) == 5  # fmt: skip


def saved(folder, words, seed=8):
    """A folder as a user has one."""
    tiny(vocabulary=len(words), seed=seed).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def test_a_folder_is_a_model(words, tmp_path):
    folder = saved(tmp_path / "own", words)
    asked_for = {"pretrained": folder, "method": "mtad", "draft": folder, "temperature": 0.0, "device": "cpu"}
    model = DecodingLM(**asked_for, dtype="float32")
    assert model.model.family == Family("llama", eot_ids=(0,), chat=False)
    (text,) = model.generate_until([request("How many?", until=[], max_gen_toks=6)])
    ids = torch.tensor([words.encode("How many?")])
    wanted = tiny(vocabulary=len(words), seed=8).generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    assert text == words.decode(wanted, skip_special_tokens=True) != ""
    assert DecodingLM(**asked_for, dtype="float16").draft.dtype == torch.float16
    with pytest.raises(UserError, match="is no folder here, no id of the hub"):
        DecodingLM(**asked_for | {"pretrained": "study-arr"})


def test_two_tokenizers_are_refused(words, tmp_path):
    other = build_tokenizer(["zebras and quarks"])
    folders = {"pretrained": saved(tmp_path / "a", words), "draft": saved(tmp_path / "b", other)}
    with pytest.raises(UserError, match="different tokenizers"):
        DecodingLM(method="mtad", **folders)


def test_stop_strings_cut_and_thoughts_go(models, monkeypatch):
    model = DecodingLM(pretrained="ar", method="autoregressive", think_end_token="</t>")
    monkeypatch.setattr(model.tokenizer, "decode", lambda *_, **__: "so ab </t> 12 b 3 a 4")
    asks = [request(until=["a", " 3"]), request(until=[]), request(until="b")]
    assert model.generate_until(asks) == ["12 b", "12 b 3 a 4", "12 "]


def test_a_long_prompt_is_refused_or_cut_at_its_beginning(models):
    ids = models["ar"].tokenizer.encode("How many eggs are sold every day at the market?")
    limit = len(ids) + 3
    given = {"pretrained": "ar", "method": "autoregressive", "max_length": limit}
    asks = [request("How many eggs are sold every day at the market?", until=[], max_gen_toks=8)]
    with pytest.raises(UserError, match="truncation=True"):
        DecodingLM(**given).generate_until(asks)
    (text,) = DecodingLM(**given, truncation=True).generate_until(asks)
    options = options_of("autoregressive", {"max_new_tokens": 8})
    out = own.decode(models["ar"].network, [ids[4:]], options, generator=0, family=AR)
    assert text == models["ar"].text(out.responses[0], int(out.lengths[0]))


# Chats


def test_chats_are_tokens_of_our_own_evaluation(models, harness):
    model = DecodingLM(pretrained="chat", method="autoregressive")
    chat = models["chat"]
    asked_before = [["1 + 1?", "2"], ["2 + 2?", "4"]]
    turns = [{"role": role, "content": text} for pair in asked_before for role, text in zip(ROLES, pair, strict=True)]
    item = Item("i", "3 + 3?", "", {"history": asked_before, "prefix": "The answer is\n"})
    ids, _ = encoded(chat, [item])
    history = [*turns, {"role": "user", "content": "3 + 3?"}, {"role": "assistant", "content": "The answer is\n"}]
    assert model.tok_encode(model.apply_chat_template(history, add_generation_prompt=False)) == ids[0].tolist()
    ids, _ = encoded(chat, [Item("i", "3 + 3?", "")], instruction="Add. ")
    text = model.apply_chat_template([{"role": "user", "content": "Add. 3 + 3?"}])
    assert model.tok_encode(text) == ids[0].tolist() and text.endswith("assistant: ")
    told = model.apply_chat_template([{"role": "system", "content": "Be short."}, *history[-2:-1]])
    assert told.startswith("<s>system: Be short.")

    given = {"apply_chat_template": True, "system_instruction": "Be short.", "num_fewshot": 2, "limit": 2}
    found = evaluate(
        harness,
        {"pretrained": "chat", "method": "autoregressive", "truncation": True},
        "gsm8k",
        fewshot_as_multiturn=True,
        **given,
    )
    prompt = logged(found, "gsm8k")[0]["arguments"][0][0]
    assert prompt.startswith("<s>system: Be short.\n<s>user: Question:") and prompt.count("<s>user") == 3
    with pytest.raises(UserError, match="leave --apply_chat_template out"):
        DecodingLM(pretrained="ar", method="autoregressive").apply_chat_template(history)
    models["thinking"] = Model("thinking", chat.network, chat.tokenizer, chat.family)
    chat.tokenizer.chat_template = CHAT + "<think>\n"
    with pytest.raises(UserError, match="begins every answer with a thought"):
        DecodingLM(pretrained="thinking", method="autoregressive").apply_chat_template(history, False)
    chat.tokenizer.chat_template = "{{ raise_exception('no system here') }}"
    with pytest.raises(UserError, match="no system here"):
        DecodingLM(pretrained="chat", method="autoregressive").apply_chat_template(history)


def test_the_beginning_of_a_text(models, words):
    base = Model("base", models["ar"].network, words, Family("base", eot_ids=(0,), chat=False, bos_id=5))
    bare = words.encode("ab")
    assert networks.prompt_ids(base, "ab") == [5, *bare] == encoded(base, [Item("i", "ab", "")])[0][0].tolist()
    assert networks.prompt_ids(models["ar"], "ab") == bare
    assert networks.prompt_ids(models["ar"], "<|eot|>ab"[: len(words.eos_token)] + "ab")[-len(bare) :] == bare


# Cache, counters


@pytest.mark.parametrize("sampled", [False, True])
def test_a_killed_run_goes_on(models, harness, tmp_path, monkeypatch, sampled):
    arguments = {"pretrained": "ar", "method": "autoregressive", "temperature": float(sampled), "batch_size": 1}
    arguments |= {"trace": str(tmp_path / "trace.jsonl")}
    given = {"use_cache": str(tmp_path / "cache"), "gen_kwargs": {"max_gen_toks": 16, "do_sample": sampled}}
    if sampled:
        given["gen_kwargs"]["temperature"] = 1.0
    whole = evaluate(harness, arguments | {"trace": ""}, "gsm8k", **given | {"use_cache": None})
    calls, decode = [], own.decode

    def killed(*asked, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(*asked, **more)

    monkeypatch.setattr(own, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(harness, arguments, "gsm8k", **given)
    again = evaluate(harness, arguments, "gsm8k", **given)
    assert len(calls) == 3 + 2, "two answers were kept"
    assert [s["resps"] for s in logged(again, "gsm8k")] == [s["resps"] for s in logged(whole, "gsm8k")]
    evaluate(harness, arguments, "gsm8k", **given)
    assert len(calls) == 5
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert {line["doc_hash"] for line in lines} == {s["doc_hash"] for s in logged(whole, "gsm8k")}
    assert len(lines) == 4 and all(line["target_forwards"] > 0 for line in lines)
    with pytest.raises(UserError, match="other --model_args"):
        evaluate(harness, arguments | {"seed": 9}, "gsm8k", **given)
    evaluate(harness, arguments | {"batch_size": 4}, "gsm8k", **given)


def test_repeats_with_a_cache_stay_samples(models, tmp_path):
    given = {"pretrained": "ar", "method": "autoregressive", "temperature": 1.0}
    asks = [request("How many?", repeats=2, until=[], max_gen_toks=12)] * 2
    kept = CachingLM(DecodingLM(**given), str(tmp_path / "a.db"))
    with pytest.raises(UserError, match="do_sample=True"):
        kept.generate_until(asks)
    asks = [request("How many?", repeats=2, until=[], max_gen_toks=12, do_sample=True)] * 2
    first = kept.generate_until(asks)
    asks = [request("How many?", repeats=2, until=[], max_gen_toks=12, do_sample=True)] * 2
    kept.dbdict.close()
    assert CachingLM(DecodingLM(**given), str(tmp_path / "a.db")).generate_until(asks) == first
    assert first[0] != first[1]


@pytest.mark.parametrize("method", ["autoregressive", "entropy", "tolerator"])
def test_one_prompt_of_several_documents_is_drawn_for_each_with_a_cache(models, tmp_path, method):
    more = {"canvas": 12, "temperature": 0.0, "refine_temperature": 0.0} if method == "tolerator" else {}
    more |= {"temperature": 1.0} if method == "autoregressive" else {}
    given = {"pretrained": "dlm" if method == "tolerator" else "ar", "method": method} | more

    def answers(**said):
        kept = CachingLM(DecodingLM(**given), str(tmp_path / "a.db"))
        asks = [request("How many?", {"q": i}, until=[], max_gen_toks=12, **said) for i in range(3)]
        found = kept.generate_until(asks)
        kept.dbdict.close()
        return found

    with pytest.raises(UserError, match="do_sample=True"):
        answers()
    first = answers(do_sample=True)
    assert first == answers(do_sample=True) and len(set(first)) > 1


# Likelihoods


def test_likelihood_is_the_log_softmax(models):
    model = DecodingLM(pretrained="ar", method="autoregressive", batch_size=2)
    network, words = models["ar"].network, models["ar"].tokenizer
    pairs = [("How many eggs", " are sold"), ("She sells", " 3"), ("A", " market every day")]
    asks = [Instance("loglikelihood", {}, pair, i, metadata=("t", i, 1)) for i, pair in enumerate(pairs)]
    for (before, behind), (found, greedy) in zip(pairs, model.loglikelihood(asks), strict=True):
        start, ids = len(words.encode(before)), torch.tensor([words.encode(before + behind)])
        logp = network(ids).logits[0].log_softmax(-1)[start - 1 : -1]
        target = ids[0, start:, None]
        assert found == pytest.approx(float(logp.gather(1, target).sum()), abs=1e-4)
        assert greedy == bool((logp.argmax(-1) == target[:, 0]).all())
    text = "She sells 3 eggs"
    (found,) = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0, metadata=("t", 0, 1))])
    ids = torch.tensor([[words.eos_token_id, *words.encode(text)]])
    logp = network(ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None]).sum()
    assert found == pytest.approx(float(logp), abs=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        {"pretrained": "ar", "method": "mtad", "draft": "draft"},
        {"pretrained": "dlm", "method": "vanilla"},
        {"pretrained": "heads", "method": "autodeco"},
        {"pretrained": "ar", "method": "autoregressive", "temperature": 0.7},
        {"pretrained": "ar", "method": "autoregressive", "top_k": 5},
    ],
)
def test_likelihood_is_refused_where_it_is_another_law(models, given):
    with pytest.raises(UserError, match="likelihood"):
        DecodingLM(**given).loglikelihood([Instance("loglikelihood", {}, ("a", "b"), 0, metadata=("t", 0, 1))])
    with pytest.raises(UserError, match="likelihood"):
        DecodingLM(**given).loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("a",), 0)])


# Scores, by texts that are written here


def scored(harness, monkeypatch, task, texts, **given):
    """Samples of a task whose i-th response is the i-th text, cut as theirs are."""

    def answer(self, requests, **_):
        return [
            own.postprocess_generated_text(text, r.args[1]["until"], None)
            for text, r in zip(texts, requests, strict=True)
        ]

    monkeypatch.setattr(DecodingLM, "generate_until", answer)
    return evaluate(harness, {"pretrained": "ar", "method": "autoregressive"}, task, limit=len(texts), **given)


def test_gsm8k_scores(models, harness, monkeypatch):
    """Row 0's answer is 18. Ours reads what stands after the last ####, else the last number, as a number; theirs
    compares strings: strict after the first ####, flexible the last number-like string."""
    said = {
        "16 - 3 - 4 = 9, 9 * 2 = 18\n#### 18": (1, 1, 1),
        "#### 19": (0, 0, 0),
        "So it is 18 dollars.": (0, 1, 1),
        "#### 18.0": (0, 0, 1),  # the same number in other letters
        "#### $18": (0, 1, 1),  # their strict pattern takes no sign of a currency
        "#### 18\nor\n#### 19": (1, 0, 0),  # first or last
        "#### 9 * 2 = 18": (0, 1, 1),  # strict takes the 9
        "#### 18 after 3 days": (1, 0, 1),  # flexible takes the 3
    }
    item = get_task("gsm8k").items("test", 1)[0]
    for text, expected in said.items():
        samples = scored(harness, monkeypatch, "gsm8k", [text], predict_only=False)["samples"]["gsm8k_rows"]
        theirs = {sample["filter"]: sample["exact_match"] for sample in samples}
        ours = get_task("gsm8k").score(item, text).correct
        assert (theirs["strict-match"], theirs["flexible-extract"], ours) == expected, text


def test_ifeval_scores(models, harness, monkeypatch):
    pytest.importorskip("if_verifiable")
    texts = ["no commas here", "one, two", ""]
    samples = scored(harness, monkeypatch, "ifeval", texts)["samples"]["ifeval_rows"]
    asked_so = [
        i for i in get_task("ifeval").items("test") if i.reference["instructions"] == ["punctuation:no_comma"]
    ]
    ours = [get_task("ifeval").score(item, text).correct for text, item in zip(texts, asked_so, strict=False)]
    assert [sample["prompt_level_strict_acc"] for sample in samples] == ours == [1, 0, 0]


def test_ifeval_asks_for_a_random_letter_where_theirs_knows_none(nothing_is_fetched):
    pytest.importorskip("if_verifiable")
    from lm_eval.tasks.ifeval.utils import process_results

    (row,) = rows("ifeval", 1, lambda row: row["key"] == 1122)
    at = row["instruction_id_list"].index("keywords:letter_frequency")
    row |= {name: [row[name][at]] for name in ("instruction_id_list", "kwargs")}
    (item,) = [item for item in get_task("ifeval").items("test") if item.id == "ifeval/1122"]
    item.reference.update({name: [item.reference[name][at]] for name in ("instructions", "kwargs")})
    assert get_task("ifeval").score(item, "####").correct == 1
    assert not process_results(row, ["####"])["prompt_level_strict_acc"], "they count a letter of a to z"


def test_humaneval_scores(models, harness, monkeypatch):
    right = [row["canonical_solution"] for row in ROWS["humaneval"]]
    fenced = f"```python\n{ROWS['humaneval'][1]['prompt']}{right[1]}```"
    texts = [right[0] + "\nprint('and more')", fenced, "    return 0\n"]
    found = scored(harness, monkeypatch, "humaneval", texts)
    samples = found["samples"]["humaneval_rows"]
    pairs = list(zip(get_task("humaneval").items("test", 3), texts, strict=True))
    ours = [score.correct for score in get_task("humaneval").score_all(pairs)]
    assert [sample["pass@1"] for sample in samples] == [1.0, 0.0, 0.0]
    assert ours == [1, 1, 0], "ours takes the function out of a block of code; theirs goes on from the prompt"
    assert found["results"]["humaneval_rows"]["pass@1,sandbox"] == pytest.approx(1 / 3)


# The way in


def test_the_entry_point_names_the_class():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    module, _, name = groups["lm_eval.models"]["decoding-study"].partition(":")
    assert (module, name) == (DecodingLM.__module__, DecodingLM.__name__)
    assert get_model("decoding-study") is DecodingLM


def test_the_command_is_lm_eval_s_own(models, harness, tmp_path, monkeypatch, capsys):
    folder = str(harness.include_path)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **_: harness)
    arguments = "--model decoding-study --model_args pretrained=ar method=autoregressive --tasks gsm8k_rows --limit 2"
    arguments += f" --num_fewshot 0 --gen_kwargs max_gen_toks=8 --include_path {folder} --log_samples --output_path"
    monkeypatch.setattr("sys.argv", ["lm_eval", *arguments.split(), str(tmp_path)])
    command.hand_over()
    assert "|gsm8k_rows|" in capsys.readouterr().out
    (log,) = tmp_path.glob("*/samples_*.jsonl")
    sample = json.loads(log.read_text().splitlines()[0])
    (trace,) = sample["arguments"]["gen_args_0"]["arg_1"]["decoding_trace"]
    assert trace["target_forwards"] > 0 and trace["doc_hash"] == sample["doc_hash"]
    (results,) = tmp_path.glob("*/results_*.json")
    assert json.loads(results.read_text())["config"]["decoding_options"][0]["max_new_tokens"] == 8


def test_a_batch_costs_what_decoding_it_costs(models, monkeypatch):
    """Eight responses are one call of `decode`, and what is around it takes less than a twentieth of its time."""
    model = DecodingLM(pretrained="ar", method="autoregressive", batch_size=8)
    calls, decode = [], own.decode

    def timed(*asked, **more):
        start = time.process_time()
        out = decode(*asked, **more)
        calls.append(time.process_time() - start)
        return out

    monkeypatch.setattr(own, "decode", timed)
    asks = [request(row["question"], until=["\n\n"], max_gen_toks=96) for row in ROWS["gsm8k"] * 2]
    model.generate_until(asks[:1])  # first use of what is loaded lazily
    calls.clear()
    start = time.process_time()
    model.generate_until(asks)
    assert len(calls) == 1 and time.process_time() - start < 1.05 * calls[0] + 0.01
