"""A model of one's own is what its files say, or what is said of it; the page's example runs as it stands."""

import copy
import json
import re
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertForMaskedLM,
    LlamaForCausalLM,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
)

from lib.decoders import decode
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.family import Family
from lib.dryrun.stand_ins import STAND_INS
from lib.dryrun.tokenizers import write_tokenizer
from lib.dryrun.vocabularies import VOCABULARIES
from lib.errors import UserError
from lib.models import look, own, reading
from lib.models.families import FAMILIES
from lib.models.masked import NATIVE
from lib.models.registry import CHECKPOINTS, MODELS, Entry, Model
from lib.mtad import Mtad, Speculative
from lib.paths import ROOT
from lib.tolerator import Vanilla

PAGE = ROOT / "docs" / "own_model.md"
TEXTS = ["Name three uses of salt.", "Salt keeps food, melts ice and cleans pans.", "What is 12 + 30?"]
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = SIZE | {"intermediate_size": 48, "num_key_value_heads": 1, "max_position_embeddings": 512}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(*special, begins=(), texts=TEXTS, template=None, **named):
    """A byte-level BPE that is trained on the spot; `special` have the first ids, `begins` stand before each text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=list(special), initial_alphabet=alphabet,
                                  show_progress=False)  # fmt: skip
    inner.train_from_iterator(texts, trainer)
    if begins:
        ids = [(token, inner.token_to_id(token)) for token in begins]
        inner.post_processor = processors.TemplateProcessing(single=" ".join([*begins, "$A"]), special_tokens=ids)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    made.chat_template = template
    return made


def saved(folder, network, words, ends=None, seed=0, **config):
    """A tiny random network and its tokenizer in a folder; its choices differ by position and context."""
    kind, given = network
    torch.manual_seed(seed)
    made = kind(kind.config_class(**{"vocab_size": len(words)} | given | config)).eval()
    made.get_input_embeddings().weight.data *= 20
    if kind is not BertForMaskedLM:  # which is tied, and does not generate
        made.get_output_embeddings().weight.data *= 20
        made.generation_config.eos_token_id = ends
        made.generation_config.do_sample, made.generation_config.top_k = True, 3  # which no decoder may take over
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


LLAMA = (LlamaForCausalLM, WIDE | {"tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2})
QWEN = (Qwen2ForCausalLM, WIDE | {"tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 0})
OPT = (OPTForCausalLM, SIZE | {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 512,
                               "tie_word_embeddings": False, "bos_token_id": 2, "eos_token_id": 2,
                               "pad_token_id": 1})  # fmt: skip


def llama_words():
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return tokenizer("<unk>", "<s>", "</s>", begins=["<s>"], **names)


def qwen_words():
    names = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    return tokenizer("<|endoftext|>", "<|im_start|>", "<|im_end|>", template=CHATML, **names)


def opt_words():
    return tokenizer("<s>", "<pad>", "</s>", begins=["</s>"], bos_token="</s>", eos_token="</s>", pad_token="<pad>")


def mask_words():
    return tokenizer("<eot>", "<mask>", eos_token="<eot>", pad_token="<eot>", mask_token="<mask>")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An offline cache of the hub; gives the folder of a model's files at a commit."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HUB_REVISION", raising=False)

    def folder(source, commit, branch):
        place = tmp_path / f"models--{source.replace('/', '--')}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / branch).write_text(commit)
        return place / "snapshots" / commit

    return folder


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_page(block, folders):
    """The names that a block of the page leaves behind, with folders for its ids."""
    for name, folder in folders.items():
        assert f'"{name}"' in block
        block = block.replace(f'"{name}"', repr(folder))
    names = {}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize(
    "network, words, family",
    [
        (LLAMA, llama_words, Family("llama", eot_ids=(2,), chat=False, bos_id=1)),
        (QWEN, qwen_words, Family("qwen2", eot_ids=(0, 2), chat=True)),
        (OPT, opt_words, Family("opt", eot_ids=(2,), chat=False, bos_id=2)),
    ],
    ids=["llama", "qwen2", "opt"],
)
def test_the_page_decodes_a_pair_as_the_target_alone_does(tmp_path, capsys, network, words, family):
    """Qwen2's two vocabularies are padded to different sizes, as those of the hub are."""
    made = words()
    padded = 11 if network is QWEN else 0
    target = saved(tmp_path / "target", network, made, seed=1, vocab_size=len(made) + padded)
    draft = saved(tmp_path / "draft", network, made, seed=1, num_hidden_layers=1)
    block, _ = blocks()
    names = run_page(block, {"my/target": target, "my/draft": draft})
    alone = Model.from_pretrained(target)
    assert alone.family == names["target"].family == family
    ids, mask, out = names["ids"], names["mask"], names["out"]
    told = {"attention_mask": mask, "max_new_tokens": 64, "do_sample": False}
    wanted = names["target"].network.generate(ids, **told)[0, ids.shape[1] :]
    length = int(out.lengths[0])
    assert length > 1 and torch.equal(out.responses[0, :length], wanted[:length])
    assert length == 64 or int(wanted[length]) in family.eot_ids
    assert int(out.trace.target_forwards) < length + 1, "no drafted token was ever taken"
    begins = [] if family.bos_id is None else [family.bos_id]
    asked = made.apply_chat_template([{"role": "user", "content": TEXTS[0]}], tokenize=False,
                                     add_generation_prompt=True) if family.chat else TEXTS[0]  # fmt: skip
    assert ids[0].tolist() == begins + made.encode(asked, add_special_tokens=False)
    assert capsys.readouterr().out.startswith(made.decode(out.responses[0, :length], skip_special_tokens=True))
    if padded:
        assert alone.network.config.vocab_size == len(made) + padded
        assert names["target"].network.config.vocab_size == len(made)


def test_the_page_decodes_a_mask_model_and_says_what_it_assumed(tmp_path, caplog):
    words = mask_words()
    folder = saved(tmp_path / "mask", LLAMA, words, eos_token_id=0, mask_token_id=1)
    names = run_page(blocks()[1], {"my/mask-model": folder})
    model, out = names["model"], names["out"]
    assert model.family == Family("llama", eot_ids=(0,), mask_id=1, shift=True, wide_mask=True, chat=False)
    assert set(model.assumed) == {"mask_id", "wide_mask", "chat", "bos_id", "eot_ids", "dtype"}
    assert (out.responses != 1).all() and out.trace.target_forwards.tolist() == [32]
    lines = [record.message for record in caplog.records if record.name == "lib.models.own"]
    assert lines == [f"{folder}: {name}={words}" for name, words in model.assumed.items()]
    assert f"{folder}: mask_id=1, <mask> (1), which config.json names" in lines
    ids, mask = model.encode(["Salt"])
    plain = Family("llama", eot_ids=(0,), mask_id=1, wide_mask=True)
    wanted = decode(model.network, ids, Vanilla(canvas=8, steps=4), generator=0, family=plain)
    found = decode(model.network, ids, Vanilla(canvas=8, steps=4), generator=0, family=model.family)
    assert torch.equal(found.responses, wanted.responses)


def test_every_part_can_be_said(tmp_path):
    words = qwen_words()
    folder = saved(tmp_path / "own", QWEN, words, ends=[0])
    found = Model.from_pretrained(folder)
    assert (
        found.family.eot_ids == (0, 2)
        and found.family.chat
        and found.assumed["eot_ids"]
        == (
            "(0, 2), <|endoftext|> (0) of generation_config.json and config.json and the tokenizer; "
            "<|im_end|> (2) of the chat template"
        )
    )
    said = {"eot_ids": (5,), "chat": False, "bos_id": 7, "mask_id": 1, "shift": False, "wide_mask": True,
            "rule": "entropy"}  # fmt: skip
    model = Model.from_pretrained(folder, dtype="float64", tokenizer=words, **said)
    assert model.family == Family("qwen2", **said)
    assert model.tokenizer is words and next(model.network.parameters()).dtype == torch.float64
    assert not model.assumed, "nothing was left to guess"
    assert Model.from_pretrained(folder, bos_id=None, chat=False).family.bos_id is None
    assert not Model.from_pretrained(folder, mask_id=None).family.wide_mask
    assert Model.from_pretrained(folder, dtype=torch.bfloat16).network.dtype == torch.bfloat16
    other = saved(tmp_path / "other", LLAMA, llama_words())
    assert Model.from_pretrained(folder, tokenizer=other).family.bos_id == 1


def test_its_own_generate_ends_where_decode_does_and_samples_no_more_than_told(tmp_path):
    model = Model.from_pretrained(saved(tmp_path / "own", QWEN, qwen_words(), ends=[0]))
    config = model.network.generation_config
    assert config.eos_token_id == [0, 2] and not config.do_sample and config.top_k in (None, 50)


PUBLISHED = ("GSAI-ML/LLaDA-8B-Instruct", "Dream-org/Dream-v0-Instruct-7B", "meta-llama/Llama-3.1-8B-Instruct",
             "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B-Instruct", "facebook/opt-125m")  # fmt: skip


@pytest.mark.parametrize("source", PUBLISHED)
def test_what_is_found_in_the_papers_models_is_what_the_registry_says(tmp_path, source):
    """By their special tokens, configs and chat templates as the stand-ins have them, without their names."""
    stand_in = STAND_INS[source]
    vocabulary, config = VOCABULARIES[stand_in.vocabulary], stand_in.config
    write_tokenizer(vocabulary, tmp_path)
    # The hub's files name all ends of the autoregressive ones; the diffusion models' second is in the template alone.
    ends = {"eos_token_id": stand_in.generation.get("eos_token_id", list(vocabulary.ends))}
    (tmp_path / "generation_config.json").write_text(json.dumps(ends))
    opened = reading.Opened(Entry("x", "own", "", str(tmp_path), ""), "main", None, config,
                            NATIVE.get(config["model_type"].lower()))  # fmt: skip
    family = look.family_of(opened, reading.tokenizer_of(opened), {}, look.Notes())
    known = {entry.source: FAMILIES[entry.family] for entry in MODELS.values()}[source]
    assert set(family.eot_ids) == set(vocabulary.ends) == set(known.eot_ids)
    assert family.eot_ids[0] == known.eot_ids[0] or family.mask_id is None
    parts = ("mask_id", "shift", "wide_mask", "chat", "rule", "bos_id")
    assert [getattr(family, part) for part in parts] == [getattr(known, part) for part in parts]
    if family.mask_id is not None:
        said = {"shift": not known.shift, "rule": "margin", "mask_id": 5, "eot_ids": (7,)}
        other = look.family_of(opened, reading.tokenizer_of(opened), said, look.Notes())
        assert {name: getattr(other, name) for name in said} == said and other.chat


def test_a_registry_name_and_a_published_id_are_the_registrys(cache, tmp_path):
    if (CHECKPOINTS / "study-dlm" / "model.safetensors").exists():
        model = Model.from_pretrained("study-dlm")
        assert model.family == FAMILIES["study-dlm"] and not model.assumed
    with pytest.raises(UserError, match="no model of the registry that takes these keywords"):
        Model.from_pretrained("study-dlm", chat=False)


def test_a_revision_is_asked_for_and_the_commit_is_said(cache, monkeypatch):
    words = llama_words()
    first, second = "1" * 40, "2" * 40
    for commit, branch, seed in ((first, "v1", 1), (second, "main", 2)):
        saved(cache("user/own", commit, branch), LLAMA, words, seed=seed)
    newest, pinned = Model.from_pretrained("user/own"), Model.from_pretrained("user/own", revision=first)
    assert newest.assumed["revision"] == f"'main', commit {second}" and "revision" not in pinned.assumed
    assert Model.from_pretrained("user/own", revision="v1").network.config._commit_hash == first
    a, b = (model.network.lm_head.weight for model in (newest, pinned))
    assert not torch.equal(a, b)
    monkeypatch.setenv("HUB_REVISION", "v1")
    assert torch.equal(Model.from_pretrained("user/own").network.lm_head.weight, b)
    assert torch.equal(Model.from_pretrained("user/own", revision="main").network.lm_head.weight, a)
    with pytest.raises(UserError, match="user/own@v9 cannot be loaded"):
        Model.from_pretrained("user/own", revision="v9")
    monkeypatch.setattr(
        own, "load_looked", lambda *_: (_ for _ in ()).throw(UserError("name another in HUB_REVISION"))
    )
    with pytest.raises(UserError, match="name another by revision="):
        Model.from_pretrained("user/own")


def test_a_class_that_fills_in_masks_is_a_diffusion_model_without_shift(tmp_path):
    """Its positions are learned, so that padding moves them: the 4D mask and position ids are what passes."""
    words = mask_words()
    network = (BertForMaskedLM, SIZE | {"intermediate_size": 48, "max_position_embeddings": 64})
    model = Model.from_pretrained(saved(tmp_path / "bert", network, words))
    assert type(model.network) is BertForMaskedLM
    assert model.family == Family("bert", eot_ids=(0,), mask_id=1, shift=False, wide_mask=True, chat=False)
    ids = torch.randint(2, len(words), (1, 5))
    out = decode(model.network, ids, Vanilla(canvas=6, steps=3), generator=0, family=model.family)
    text = torch.cat([ids, torch.full((1, 6), 1)], 1)
    first = model.network(input_ids=text).logits[0, 5:].index_fill(1, torch.tensor([1]), -torch.inf)
    best = first.softmax(-1).amax(-1).topk(2).indices  # Vanilla draws nothing at temperature 0
    greedy = decode(model.network, ids, Vanilla(canvas=6, steps=3, temperature=0.0), generator=0,
                    family=model.family, record=True)  # fmt: skip
    kept = greedy.trace.events[0]["tokens"][0]
    assert kept[best].tolist() == first.argmax(-1)[best].tolist() and (kept == 1).sum() == 4 and out.lengths <= 6


def folder_of(tmp_path, **config):
    """The folder of a model that is refused before its weights are read."""
    llama_words().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    return str(tmp_path)


REFUSED = {
    "an unknown keyword": ({}, {"eot_id": 2}, "takes no 'eot_id': did you mean eot_ids"),
    "a keyword of nothing": ({}, {"zzz": 2}, "takes no 'zzz': it takes device, dtype, .*eot_ids"),
    "a revision of a folder": (
        {},
        {"revision": "main"},
        "folder, which has no revision main: leave revision out",
    ),
    "a dtype of whole numbers": ({}, {"dtype": torch.int8}, "dtype must be one of torch"),
    "a dtype that there is not": ({}, {"dtype": "float17"}, "dtype must be one of torch.*'float17'"),
    "no GPU": ({}, {"device": "cuda"}, "no GPU here|cannot be loaded"),
    "a shift that nobody knows": ({"mask_token_id": 5}, {}, "say shift=True .*Dream, shift=False as in LLaDA"),
    "code of its own": ({"model_type": "mine", "auto_map": {"AutoModel": "x.Y"}}, {}, r"code of its own \(mine\)"),
    "no language model": ({"model_type": "vit"}, {}, "is of type vit, which is no causal or masked language model"),
    "an encoder": ({"model_type": "t5", "is_encoder_decoder": True}, {}, "is of type t5"),
    "a rule that there is not": ({}, {"rule": "luck"}, "rule must be one of confidence, .*, not 'luck'"),
    "a schedule that there is not": ({}, {"schedule": ""}, "schedule must be one of even, dream, not ''"),
    "an end that is no id": ({}, {"eot_ids": ("x",)}, "eot_ids must be token ids"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_a_line(tmp_path, case):
    config, given, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as error:
        Model.from_pretrained(folder_of(tmp_path, **config), **given)
    assert "\n" not in str(error.value)


def test_folders_that_are_no_model_are_a_line(tmp_path):
    with pytest.raises(UserError, match="is no folder here, no id of the hub"):
        Model.from_pretrained(tmp_path / "none")
    with pytest.raises(UserError, match="no config.json: save_pretrained"):
        Model.from_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an adapter: merge it into its base with peft"):
        Model.from_pretrained(tmp_path)
    (tmp_path / "autodeco_heads.safetensors").write_text("")
    with pytest.raises(UserError, match="AutoDeco's heads: AutoDecoForCausalLM.from_pretrained"):
        Model.from_pretrained(tmp_path)


def test_ids_that_are_nowhere_or_beyond_the_vocabulary_are_a_line(tmp_path):
    words = tokenizer("<x>", "<y>")
    folder = saved(tmp_path / "endless", LLAMA, words, eos_token_id=None)
    with pytest.raises(UserError, match=r"names no end of text anywhere: give eot_ids=\(ID,\)"):
        Model.from_pretrained(folder)
    assert Model.from_pretrained(folder, eot_ids=3).family.eot_ids == (3,)
    for name, value in (("eot_ids", 999), ("bos_id", 999), ("mask_id", 999)):
        with pytest.raises(UserError, match=f"{name} of .* is 999, and the model knows 0 to .*give {name}="):
            Model.from_pretrained(folder, **{"eot_ids": 3, "shift": True} | {name: value})
    small = saved(tmp_path / "small", LLAMA, words, vocab_size=100)
    with pytest.raises(UserError, match="has a token .*give tokenizer= its own"):
        Model.from_pretrained(small)
    two = tokenizer("<a>", "<b>", "</s>", begins=["<a>", "<b>"], eos_token="</s>")
    folder = saved(tmp_path / "two", LLAMA, two)
    with pytest.raises(UserError, match=r"begins a text with <a> \(0\), <b> \(1\): say which"):
        Model.from_pretrained(folder)
    assert Model.from_pretrained(folder, bos_id=1).family.bos_id == 1


def test_a_template_for_other_chats_gives_no_end(tmp_path):
    words = qwen_words()
    assert look.end_of_turn(words) == 2
    for template in ("{{ raise_exception('no roles') }}", "{{ messages[0]['content'] }}", "ANSWER and more"):
        words.chat_template = template
        assert look.end_of_turn(words) is None
    words.chat_template = "{{ messages[-1]['content'] }}  <|im_end|> and <|endoftext|>"
    assert look.end_of_turn(words) == 2
    words.add_tokens(["<|im"])
    assert look.end_of_turn(words) == 2, "the longest that stands there"


def test_a_diffusion_model_must_pass_its_self_test(tmp_path, monkeypatch):
    folder = saved(tmp_path / "mask", LLAMA, mask_words(), eos_token_id=0, mask_token_id=1)
    with pytest.raises(UserError, match="does not see the tokens behind it: .*; or mask_id=None where it is"):
        Model.from_pretrained(folder, shift=True, wide_mask=False)
    tried = []

    def failing(network, family):
        tried.append(family.wide_mask)
        if family.wide_mask:
            raise TypeError("no such argument")

    monkeypatch.setattr(own, "check_diffusion", failing)
    model = Model.from_pretrained(folder, shift=False)
    assert tried == [True, False] and not model.family.wide_mask and model.assumed["wide_mask"].startswith("False")
    with pytest.raises(UserError, match=r"takes no 4D mask \(no such argument\): give wide_mask=False"):
        Model.from_pretrained(folder, shift=False, wide_mask=True)


def test_each_kind_of_model_is_refused_by_the_other_kinds_decoders(tmp_path):
    causal = Model.from_pretrained(saved(tmp_path / "own", LLAMA, llama_words()))
    masked = Model.from_pretrained(saved(tmp_path / "mask", LLAMA, mask_words(), eos_token_id=0, mask_token_id=1),
                                   shift=True)  # fmt: skip
    ids, mask = causal.encode(["Salt"])
    with pytest.raises(UserError, match="llama is autoregressive: a diffusion decoder needs a model with a mask"):
        decode(causal.network, ids, Vanilla(canvas=8, steps=4), generator=0, family=causal.family)
    for options, more in ((Autoregressive(4), {}), (Speculative(4), {"draft": masked.network})):
        with pytest.raises(UserError, match="llama is a diffusion model.*take a decoder with a canvas"):
            decode(masked.network, ids, options, generator=0, family=masked.family, **more)
    free = replace(masked.family, mask_id=None, wide_mask=False)
    decode(masked.network, ids, Autoregressive(4), generator=0, family=free)
    for pair in ((causal, masked), (masked, causal)):
        with pytest.raises(UserError, match="is a diffusion model: target and draft go on token by token"):
            Model.pair(*pair)


def test_two_tokenizers_are_refused_with_where_to_go(tmp_path):
    target = saved(tmp_path / "a", LLAMA, llama_words())
    other = tokenizer("<unk>", "<s>", "</s>", begins=["<s>"], texts=["zebras and quarks"] * 9, eos_token="</s>")
    draft = saved(tmp_path / "b", LLAMA, other)
    with pytest.raises(UserError, match=r"different tokenizers \(token \d+ is .*assistant_model=, tokenizer="):
        Model.pair(target, draft)
    with pytest.raises(UserError, match="takes no 'eot'"):
        Model.pair(target, target, eot=1)
    loaded = Model.from_pretrained(target)
    assert Model.pair(loaded, loaded)[1].network is loaded.network


def test_a_draft_with_a_token_more_is_cut_and_the_law_is_the_targets(tmp_path):
    words = llama_words()
    target = Model.from_pretrained(saved(tmp_path / "a", LLAMA, words, seed=1))
    more = copy.deepcopy(words)
    more.add_special_tokens({"pad_token": "<pad>"})
    draft = Model.from_pretrained(saved(tmp_path / "b", LLAMA, more, seed=2))
    large, small = Model.pair(target, draft)
    assert large.network is target.network and small.network.config.vocab_size == len(words)
    assert small.assumed == draft.assumed and draft.network.config.vocab_size == len(more)
    ids, mask = target.encode(TEXTS)
    given = {"generator": 0, "family": target.family, "attention_mask": mask}
    found = decode(large.network, ids, Speculative(16, temperature=0.0), draft=small.network, **given)
    wanted = decode(target.network, ids, Autoregressive(16, temperature=0.0), **given)
    assert torch.equal(found.responses, wanted.responses)
    decode(large.network, ids, Mtad(8), draft=small.network, **given)


def test_a_folder_that_lacks_a_part_is_a_line_with_its_own_cure(tmp_path):
    words = llama_words()
    folder = saved(tmp_path / "own", LLAMA, words)
    bare = tmp_path / "bare"
    LlamaForCausalLM.from_pretrained(folder).save_pretrained(bare)
    cases = {
        "save the tokenizer there too, or give tokenizer=": (bare, {}),
        "tokenizer='/nope' cannot be loaded .*give a folder, a hub id or a loaded tokenizer": (folder, "/nope"),
        "tokenizer must be a loaded one, a hub id or a folder, not 3": (folder, 3),
    }
    for line, (source, other) in cases.items():
        with pytest.raises(UserError, match=line) as error:
            Model.from_pretrained(source, **{"tokenizer": other} if other else {})
        assert "\n" not in str(error.value) and "hf auth" not in str(error.value)
    assert Model.from_pretrained(bare, tokenizer=words).tokenizer is words
    weights = tmp_path / "own" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged .*copy it again, or save_pretrained there") as error:
        Model.from_pretrained(folder)
    assert "cache" not in str(error.value)
    weights.unlink()
    with pytest.raises(UserError, match="cannot be loaded .*save_pretrained network and tokenizer there"):
        Model.from_pretrained(folder)


def test_dtypes_and_devices_of_the_registry_are_read_as_those_of_folders(tmp_path):
    folder = saved(tmp_path / "own", LLAMA, llama_words())
    sources = [folder]
    if (CHECKPOINTS / "study-ar" / "model.safetensors").exists():
        sources.append("study-ar")
    for source in sources:
        for dtype in ("bfloat16", "torch.bfloat16", torch.bfloat16):
            model = Model.from_pretrained(source, dtype=dtype, device=torch.device("cpu"))
            assert model.network.dtype == torch.bfloat16
        for given, line in (({"dtype": "float17"}, "dtype must be one of torch"),
                            ({"dtype": "load"}, "dtype must be one of torch.*'load'"),
                            ({"device": "gpu"}, "'gpu', which is no device: use cpu"),
                            ({"device": "cuda:x"}, "which is no device|no GPU here"),
                            ({"device": "xpu"}, "cannot be put on xpu .*use cpu")):  # fmt: skip
            with pytest.raises(UserError, match=line) as error:
                Model.from_pretrained(source, **given)
            assert "\n" not in str(error.value)
