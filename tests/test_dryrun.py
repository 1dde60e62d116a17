"""The dry run: stand-ins with the real ids and shapes, rows that a task can judge, and a verdict on each section."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from lib.decoders import decode, options_of
from lib.dryrun.__main__ import chosen, dry_run
from lib.dryrun.cover import cover, touched
from lib.dryrun.cut import FEW, LENGTH, cut, defaults
from lib.dryrun.hub import fill, hub_entries, revision_of, stand_in_of
from lib.dryrun.networks import shapes_of, weights_of
from lib.dryrun.rows import ROWS_OF, without_rows, write_rows
from lib.dryrun.run import OK, faults, reason, report, run, run_all
from lib.dryrun.stand_ins import LEAKING, STAND_INS
from lib.dryrun.tokenizers import learned
from lib.dryrun.tree import Tree, plant
from lib.dryrun.vocabularies import VOCABULARIES
from lib.errors import UserError
from lib.models.registry import MODELS, describe, load
from lib.models.vocabulary import paired
from lib.paths import NOTEBOOKS, ROOT
from lib.reporting.profiles import Read, Section, read
from lib.reporting.render import parameters
from lib.studies import study_of
from lib.tasks import TASKS

MODELS_OF_THE_HUB = [entry.name for entry in hub_entries()]
TEXT = "Ann has 12 apples\n and finds é 3 more. def f(a): return \\boxed{7}"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The stand-in of every model of the registry, in an offline cache; and what each was called before."""
    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
        patch.setenv("HF_HUB_CACHE", str(folder))
        before = {name: describe(name)[1] for name in MODELS_OF_THE_HUB}
        fill(folder)
        yield folder, before


@pytest.fixture
def rows(tmp_path, monkeypatch):
    write_rows(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")


@pytest.mark.parametrize("name", MODELS_OF_THE_HUB)
def test_every_model_of_the_hub_is_loaded_from_its_stand_in_and_decodes(cache, name):
    model = load(name)
    prompts = model.encode([TEXT, "Hello"], "Answer. ")
    begins = [ids[mask.bool()].tolist() for ids, mask in zip(*prompts, strict=True)]
    vocabulary = VOCABULARIES[stand_in_of(MODELS[MODELS[name].base or name]).vocabulary]
    for ids in begins:  # one beginning of a text where there is one, and no second by a tokenizer behind a template
        if vocabulary.begins and vocabulary.bos not in vocabulary.ends:
            assert ids.count(vocabulary.bos) == 1 and ids[0] == vocabulary.bos
    heads, masked = hasattr(model.network, "heads"), model.family.mask_id is not None
    method, size = ("autodeco" if heads else "autoregressive"), {"max_new_tokens": 4}
    if masked:
        method, size = "vanilla", {"canvas": 4, "steps": 4}
    ids, mask = prompts
    out = decode(model.network, ids, options_of(method, size), generator=0, family=model.family, attention_mask=mask)
    assert out.responses.shape[0] == 2
    assert int(out.responses.max()) < vocabulary.size, "a padded row of the head was drawn"


def test_no_default_of_a_checkpoint_is_taken_over(cache):
    folder, _ = cache
    written = json.loads(
        next(folder.glob("models--Qwen--Qwen2.5-7B*/snapshots/*/generation_config.json")).read_text()
    )
    assert LEAKING.items() <= written.items()
    config = load("qwen2.5-7b").network.generation_config
    assert not {key: value for key, value in LEAKING.items() if getattr(config, key, None) == value}


def test_greedy_generate_is_argmax_whatever_the_checkpoint_advises(cache):
    model = load("llama-3.1-8b")
    ids, mask = model.encode([TEXT])
    with torch.inference_mode():
        out = model.network.generate(ids, attention_mask=mask, max_new_tokens=24, do_sample=False)
        for at in range(ids.shape[1], out.shape[1]):
            assert int(model.network(input_ids=out[:, :at]).logits[0, -1].argmax()) == int(out[0, at])


@pytest.mark.parametrize("method", ["speculative", "mtad"])
def test_a_pair_whose_vocabularies_are_padded_differently_decodes(cache, method):
    target, draft = load("qwen2.5-7b"), load("qwen2.5-0.5b")
    assert target.network.config.vocab_size != draft.network.config.vocab_size
    ids, mask = target.encode([TEXT, "Hello"])
    network, small = paired(target.network, draft.network, target.tokenizer)
    given = {"generator": 0, "family": target.family, "attention_mask": mask, "draft": small}
    out = decode(network, ids, options_of(method, {"max_new_tokens": 8}), **given)
    assert int(out.responses.max()) < VOCABULARIES["qwen-2"].size


def test_a_model_is_called_the_same_before_and_after_its_download(cache):
    _, before = cache
    assert {name: describe(name)[1] for name in MODELS_OF_THE_HUB} == before


@pytest.mark.parametrize("name", VOCABULARIES)
def test_tokenizers_have_the_real_special_tokens_and_lose_no_text(cache, name):
    entry = next(e for e in hub_entries() if not e.base and stand_in_of(e).vocabulary == name)
    tokenizer, vocabulary = load(entry.name).tokenizer, VOCABULARIES[name]
    for token, text in vocabulary.special.items():
        assert tokenizer.convert_tokens_to_ids(text) == token
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    assert tokenizer.decode(ids) == TEXT
    assert set(ids) <= {*learned(vocabulary), *range(vocabulary.first, vocabulary.first + 512)}
    assert tokenizer.eos_token_id == vocabulary.eos


def test_weights_have_padded_rows_that_are_never_liked_and_ends_that_are():
    stand_in = STAND_INS["Qwen/Qwen2.5-7B-Instruct"]
    vocabulary = VOCABULARIES[stand_in.vocabulary]
    head = weights_of(stand_in.config, vocabulary, "any")["lm_head.weight"].float()[:, 0]
    assert len(head) == 152064 > vocabulary.size
    assert head[vocabulary.size :].max() < head[: vocabulary.size].mean() < head[list(vocabulary.ends)].min()


def test_draft_and_target_like_the_same_tokens_and_are_not_the_same():
    pair = [STAND_INS[name] for name in ("facebook/opt-13b", "facebook/opt-125m")]
    one, two = (weights_of(s.config, VOCABULARIES["opt"], str(i)) for i, s in enumerate(pair))
    same = {key for key in one if torch.equal(one[key], two[key])}
    assert "model.decoder.embed_tokens.weight" in same and "model.decoder.layers.0.fc1.weight" not in same


def test_gpt_oss_has_its_experts_in_four_bits():
    shapes = shapes_of(STAND_INS["openai/gpt-oss-20b"].config)
    assert shapes["model.layers.0.mlp.experts.gate_up_proj_blocks"] == (4, 64, 1, 16)


def test_a_model_without_a_stand_in_is_named():
    with pytest.raises(UserError, match="someone/else has no stand-in"):
        stand_in_of(replace(MODELS["llada-8b"], source="someone/else"))


def test_snapshots_lie_at_the_pinned_commit(cache):
    folder, _ = cache
    for entry in hub_entries():
        repository = folder / f"models--{entry.source.replace('/', '--')}"
        assert (repository / "refs" / "main").read_text() == revision_of(entry)
        assert (repository / "snapshots" / revision_of(entry) / "config.json").is_file()


def test_every_benchmark_has_rows_and_judges_its_own_answers(rows):
    assert not without_rows()
    read_from_files = {"gsm8k", "humaneval", "math500", "mbpp", "triviaqa", "spider", "spider_execution"}
    for name in read_from_files & TASKS.keys():
        task = TASKS[name]
        items = task.items("test", 2)
        assert {score.correct for score in task.score_all([(item, item.target) for item in items])} == {1}, name
    sizes = {task.name: len(task.items("test", 2)) for task in TASKS.values()}
    fewer = {name for name, size in sizes.items() if size == 1}
    assert fewer == {name for name in sizes if name.startswith("humaneval")}, "one has fewer items than are asked for"
    assert {sizes[name] for name in sizes.keys() - fewer} == {2}


def test_rows_of_a_file_are_those_of_any_other_call():
    assert all(rows() == rows() for rows in ROWS_OF.values())


def test_sizes_are_cut_by_name_and_words_are_kept():
    numbers = {"items": 500, "samples": 128, "tokens": 32768, "forwards": 256, "gamma": 4}
    words = {"tasks": ["aime24", "gsm8k"], "model": "llada-8b", "flag": True}
    values = numbers | words | {"gammas": [1, 2, 3], "rhos": [0.1], "device": "cuda"}
    found = cut(values)
    small = {"items": 2, "samples": 2, "tokens": LENGTH, "forwards": 8, "gamma": 4}
    assert found == small | words | {"gammas": [1, 2], "rhos": [0.1]}
    assert cut({"tokens": 0})["tokens"] == LENGTH and cut({"tokens": 4})["tokens"] == 4 and FEW == 2
    assert [cut(values, turn)["tasks"] for turn in range(3)] == [["aime24"], ["gsm8k"], ["aime24"]]


def test_every_section_can_be_cut_and_has_a_length():
    profile = read("paper")
    notebooks = {section.notebook for section in profile.sections.values()}
    for notebook in notebooks:
        declared = defaults(NOTEBOOKS / f"{notebook}.ipynb")
        assert cut(declared)["items"] <= 2
        assert "tokens" in declared, f"{notebook} cannot be cut in length"


def test_a_few_sections_touch_all_that_the_profile_touches():
    profile = read("paper")
    few = cover(profile)
    everything = set().union(*(touched(profile, name) for name in profile.sections))
    assert set().union(*(touched(profile, name) for name in few)) == everything
    assert len(few) < len(profile.sections) / 2
    assert len({profile.sections[name].notebook for name in few}) >= 8
    assert {"llada llada", "Dream dream", "gpt_oss gpt-oss", "qwen3_moe qwen-3", "opt opt"} <= everything


def test_thinking_models_may_think_to_the_end():
    """At 256 tokens a model that begins inside a thought answers nothing."""
    found = []
    for section in read("paper").sections.values():
        if section.notebook[:2] not in ("10", "11", "12", "13"):
            continue
        values = parameters(NOTEBOOKS / f"{section.notebook}.ipynb", "paper", section=section.name)
        for asked in study_of(section.notebook).of(values).runs().values():
            base = MODELS[MODELS[asked.model].base or asked.model]
            if base.remote and stand_in_of(base).vocabulary == "r1":
                found.append(dict(asked.options)["max_new_tokens"])
    assert found and min(found) >= 32768


def small_tree(root, body: str) -> Tree:
    """A copy of the study whose command is `body`."""
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "__init__.py").touch()
    (root / "lib" / "__main__.py").write_text(body)
    return Tree(root)


PAGE = """
import json, pathlib, sys
section = sys.argv[-1]
folder = pathlib.Path("results/paper") / section
folder.mkdir(parents=True)
(folder / f"{section}.html").write_text("page")
(folder / "manifest.json").write_text("{}")
output = {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": []}
cell = {"cell_type": "code", "id": "a", "execution_count": 1, "metadata": {}, "source": "1",
        "outputs": [output] if section == "broken" else []}
(folder / f"{section}.ipynb").write_text(
    json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
"""
FAILING = {
    "silent": ("raise SystemExit(0)", "no page silent.html came of it"),
    "user": ("import sys; print('error: no rows: fetch them', file=sys.stderr); sys.exit(1)", "no rows: fetch them"),
    "crash": ("raise RuntimeError('shapes differ')", "RuntimeError: shapes differ"),
    "broken": (PAGE, "cell 0: ValueError: bad"),
    "slow": ("import time; time.sleep(60)", "took more than 1 s: its last words are in slow.log"),
}


@pytest.mark.parametrize("section", FAILING)
def test_a_section_that_fails_says_why_in_one_line(tmp_path, section):
    body, said = FAILING[section]
    tree, profile = small_tree(tmp_path / "tree", body), Read(tmp_path / "paper", {}, {})
    assert run(tree, profile, section, tmp_path / f"{section}.log", seconds=1 if section == "slow" else 60) == said


def test_sections_run_apart_from_each_other_and_the_last_line_counts_them(tmp_path):
    body = f"import sys\nif sys.argv[-1] == 'bad':\n    sys.exit('error: no such thing')\n{PAGE}"
    tree, profile = small_tree(tmp_path / "tree", body), Read(tmp_path / "paper", {}, {})
    found = run_all(tree, profile, ["bad", "good", "broken"], 1, tmp_path / "logs")
    assert found == {"bad": "no such thing", "good": OK, "broken": "cell 0: ValueError: bad"}
    lines = []
    assert report(found, tmp_path / "build" / "dryrun.json", lines.append) == 2
    assert lines[-1] == "3 sections, 1 rendered, 2 failed"
    assert json.loads((tmp_path / "build" / "dryrun.json").read_text()) == found


@pytest.mark.slow
def test_what_was_started_ends_with_the_dry_run(tmp_path):
    body = "import os, pathlib, time\npathlib.Path('id').write_text(str(os.getpid()))\ntime.sleep(60)"
    tree = small_tree(tmp_path / "tree", body)
    (tmp_path / "paper").mkdir()
    command = f"""
import pathlib
from lib.dryrun.run import run_all
from lib.dryrun.tree import Tree
from lib.errors import exit_status
from lib.reporting.profiles import Read
folder = pathlib.Path({str(tmp_path)!r})
profile = Read(folder / "paper", {{}}, {{}})
raise SystemExit(exit_status(lambda: run_all(Tree(folder / "tree"), profile, ["a", "b"], 1, folder / "logs")))
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", command], cwd=ROOT, stderr=subprocess.DEVNULL)
    file = tree.root / "id"
    while not (file.exists() and file.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(20) == 143
    assert not Path(f"/proc/{file.read_text()}").exists()


def test_processes_are_offline_and_see_nothing_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HUB_REVISION", "llada-8b=main")
    found = Tree(tmp_path).environment()
    assert found["HF_HUB_OFFLINE"] == "1" and found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["HF_HUB_CACHE"].startswith(str(tmp_path)) and found["DATA_DIR"].startswith(str(tmp_path))
    assert not {"HF_TOKEN", "HUB_REVISION", "ENGINE", "SHARD"} & found.keys()


def test_whatever_the_library_reads_of_the_environment_is_unset(tmp_path, monkeypatch):
    """Else a dry run would ask a judge, quantise stand-ins, or open the user's databases."""
    reads = re.compile(r"""environ(?:\.get\(|\[)\s*["']([A-Z_]+)["']""")
    files = [path for path in (ROOT / "lib").rglob("*.py") if not {"bench", "dryrun"} & set(path.parts)]
    asked = {name for path in files for name in reads.findall(path.read_text(encoding="utf-8"))}
    assert {"SPIDER_DATABASES", "JUDGE_API_KEY", "MODEL_PLACE", "ENGINE", "VLLM_OPTIONS", "DATA_DIR"} <= asked
    for name in asked | {"JUDGE_URL", "HF_TOKEN", "HF_DATASETS_CACHE"}:
        monkeypatch.setenv(name, "of the user")
    assert not [name for name, value in Tree(tmp_path).environment().items() if value == "of the user"]


def test_the_copy_has_the_profile_cut_and_heads_for_models_that_a_user_would_train(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.dryrun.tree.fill", lambda cache: None)
    profile = read("paper")
    name = next(name for name, section in profile.sections.items() if section.notebook == "10_autodeco_scores")
    tree = plant(tmp_path, profile, [name])
    [file] = (path for path in (tmp_path / "notebooks/params/paper").glob("*.yaml") if path.stem != "common")
    values = yaml.safe_load(file.read_text())
    assert file.stem == name and values["notebook"] == "10_autodeco_scores" and values["items"] == 2
    assert yaml.safe_load((tmp_path / "notebooks/params/paper/common.yaml").read_text()) == {"device": "cpu"}
    assert (tmp_path / "results/checkpoints/r1-qwen-7b-autodeco/autodeco_heads.safetensors").is_file()
    assert not (ROOT / "results/checkpoints/r1-qwen-7b-autodeco").exists()
    assert tree.data.is_dir()


def test_sections_are_named_by_themselves_their_file_or_their_notebook(tmp_path):
    sections = {
        f"table-{key}": Section(f"table-{key}", "10_autodeco_scores", tmp_path / "table.yaml", {}) for key in "ab"
    }
    profile = Read(tmp_path, {}, sections)
    assert chosen(profile, ["table-b"], False) == ["table-b"]
    assert chosen(profile, ["table"], False) == chosen(profile, ["10_autodeco_scores"], False) == list(sections)
    assert chosen(profile, [], False) == list(sections)
    with pytest.raises(UserError, match="no section 'tabel'"):
        chosen(profile, ["tabel"], False)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        dry_run([], keep=tmp_path)


def test_reasons_keep_no_secret_and_no_page_is_no_page(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 30)
    assert "aaaa" not in reason(f"error: token hf_{'a' * 30} was refused", 1)
    assert reason("", 137) == "ended with status 137 without a word"
    assert faults(tmp_path / "x.html") == "no page x.html came of it"
