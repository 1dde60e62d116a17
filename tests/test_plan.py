"""What a profile would take, counted from the runs themselves, refused where a size is unknown; and its sections."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import SHIFTED, tiny
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    LlamaConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from lib.__main__ import chosen, main
from lib.decoders import decode, options_of
from lib.errors import UserError
from lib.models.registry import MODELS
from lib.models.study import build_tokenizer
from lib.paths import NOTEBOOKS, PARAMS
from lib.reporting import effort, plan
from lib.reporting.profiles import profiles_in, read, sections
from lib.reporting.render import parameters
from lib.running import index
from lib.running.run import Run
from lib.studies import STUDIES, study_of
from lib.studies.base import Timed
from lib.studies.mtad import base as mtad_base
from lib.studies.mtad import rounds as mtad_rounds
from lib.studies.mtad import speed as mtad_speed

# Sizes


def shape(model, **config):
    """The configuration of a model's public config.json, as far as its size needs it."""
    kinds = {"llama": LlamaConfig, "qwen2": Qwen2Config, "opt": OPTConfig, "qwen3_moe": Qwen3MoeConfig}
    return (kinds | {"gpt_oss": GptOssConfig})[config.pop("kind")](**config)


CAUSAL = replace(SHIFTED, name="tiny", mask_id=None, wide_mask=False)
SHAPES = {
    "llama-3.1-8b": {"kind": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
                     "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
    "llama-3.2-1b": {"kind": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
                     "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
                     "tie_word_embeddings": True},
    "llama-2-13b": {"kind": "llama", "vocab_size": 32000, "hidden_size": 5120, "intermediate_size": 13824,
                    "num_hidden_layers": 40, "num_attention_heads": 40},
    "llama-68m": {"kind": "llama", "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072,
                  "num_hidden_layers": 2, "num_attention_heads": 12},
    "r1-qwen-7b": {"kind": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
                   "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4},
    "qwen2.5-0.5b": {"kind": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
                     "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
                     "tie_word_embeddings": True},
    "opt-13b": {"kind": "opt", "vocab_size": 50272, "hidden_size": 5120, "ffn_dim": 20480, "num_hidden_layers": 40,
                "num_attention_heads": 40, "word_embed_proj_dim": 5120, "max_position_embeddings": 2048},
    "opt-125m": {"kind": "opt", "vocab_size": 50272, "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
                 "num_attention_heads": 12, "word_embed_proj_dim": 768, "max_position_embeddings": 2048},
    "qwen3-30b": {"kind": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
                  "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
                  "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    "gpt-oss-20b": {"kind": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
                    "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
                    "num_local_experts": 32, "num_experts_per_tok": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_are_those_of_the_architectures(name):
    """Built without memory from the shape that each model is published with."""
    config = shape(name, **SHAPES[name])
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    size = effort.size_of(name)
    assert size.parameters == sum(p.numel() for p in network.parameters())
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert (size.layers, size.kv_heads, size.head_dim) == (config.num_hidden_layers, heads, width)
    assert (size.hidden, size.vocabulary) == (config.hidden_size, config.vocab_size)
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", 0)
    if experts:
        of_experts = sum(p.numel() for key, p in network.named_parameters() if ".experts." in key)
        idle = of_experts * (experts - config.num_experts_per_tok) // experts
        assert size.active == size.parameters - idle
    else:
        assert size.active == size.parameters


def test_every_model_has_a_size_and_heads_have_their_bases(monkeypatch):
    for name in MODELS:
        assert effort.size_of(name).parameters > 0 and effort.size_of(name).source
    base, heads = effort.size_of("r1-qwen-7b"), effort.size_of("r1-qwen-7b-authors")
    assert heads.parameters - base.parameters == 1_837_314, "as the authors count their heads"
    monkeypatch.setattr(effort, "_sizes", dict)
    with pytest.raises(
        UserError, match=r"lib/reporting/sizes.csv has no size of llada-8b: add a row with its source"
    ):
        effort.size_of("llada-8b")


# Counts


@pytest.mark.parametrize(
    "method, options",
    [
        ("vanilla", {"steps": 6}),
        ("rcr", {"steps": 6}),
        ("remdm", {"steps": 6}),
        ("remdm_port", {"steps": 6}),
        ("tolerator", {"forwards": 6, "lock_after": 0}),
    ],
)
def test_forwards_of_a_diffusion_method_are_those_it_takes(method, options, prompts):
    run = Run.of("study-dlm", "country_facts", method, items=1, canvas=12, **options)
    ids, mask = prompts
    out = decode(tiny(), ids, run.resolved(), generator=0, family=SHIFTED, attention_mask=mask)
    work = effort.work_of(run)
    assert out.trace.target_forwards.tolist() == [work.forwards] * 4 and work.tokens == 12
    assert work.wide == effort.PROMPT + 12


@pytest.mark.parametrize(
    "method", ["autoregressive", "speculative", "mtad", "threshold", "tree_speculative", "typical"]
)
def test_forwards_of_other_methods_are_at_most_those_counted(method, prompts):
    draft = {} if method == "autoregressive" else {"draft": "study-draft"}
    run = Run.of("study-ar", "country_facts", method, items=1, max_new_tokens=12, **draft)
    ids, mask = prompts
    given = {"draft": tiny(seed=3)} if draft else {}
    out = decode(tiny(), ids, run.resolved(), generator=0, family=CAUSAL, attention_mask=mask, **given)
    work = effort.work_of(run)
    assert 0 < out.trace.target_forwards.max() <= work.forwards == 12
    if draft:
        assert 0 < out.trace.draft_forwards.max() <= work.draft_forwards
        assert (out.trace.positions <= mask.sum(1) + work.wide * work.forwards).all()


def test_a_benchmark_has_no_more_rows_than_it_has():
    run = Run.of("llada-8b", "gpqa_main", "vanilla", items=17944, samples=3, canvas=256, steps=4)
    assert effort.rows_of(run) == 448 * 3
    assert effort.rows_of(replace(run, items=256)) == 256 * 3
    assert effort.rows_of(Run.of("study-ar", "worded_math", "autoregressive", items=9, samples=2)) == 18


@pytest.mark.parametrize("stem", STUDIES)
def test_what_follows_from_responses_is_counted_without_any(stem, monkeypatch):
    """`later_runs` of every study takes responses that say nothing."""
    study = study_of(stem).of(parameters(NOTEBOOKS / f"{stem}.ipynb", "smoke"))
    monkeypatch.setattr("lib.studies.base.run_all", lambda *_, **__: pytest.fail("decoded"))
    first, runs = study.runs(), plan.runs_of(study)
    assert set(first.values()) <= set(runs)
    later = {"10_autodeco_scores": 3, "11_autodeco_pass_at_k": 3, "17_autodeco_real": 1, "19_autodeco_rivals": 10,
             "36_mtad_tau": 2, "37_mtad_tau_real": 2, "39_composition": 3, "40_fill_up_heads": 2,
             "50_advice": 2}  # fmt: skip
    extra = len(runs) - len(set(first.values()))
    assert extra == (later.get(stem, 0) if stem != "12_autodeco_sweep" else 2 * 9)
    alone, both = ("16_autodeco_overhead", "34_mtad_speed"), ("38_mtad_lossless", "39_composition")
    assert bool(study.timed()) == (stem in alone + both), "what decodes by the clock, with runs or without"
    assert bool(runs) == (stem not in alone)


def test_by_the_clock_costs_what_the_same_run_costs():
    """It had neither the draft's forwards nor the prompts."""
    run = Run.of("llama-3.1-8b", "humaneval", "speculative", 1, draft="llama-3.2-1b", max_new_tokens=128, gamma=4)
    at_once = effort.responses_at_once(run)
    same = Timed("llama-3.1-8b", 3, at_once, 128, "llama-3.2-1b", draft_steps=4)
    assert effort.seconds_by_clock(same) == pytest.approx(effort.seconds_of(run, 3 * at_once))
    alone = replace(same, draft="", draft_steps=0)
    assert effort.seconds_by_clock(alone) < 0.8 * effort.seconds_by_clock(same)
    assert effort.seconds_by_clock(replace(alone, prompt=4096)) > 1.1 * effort.seconds_by_clock(alone)
    section = plan._section([], [same])
    assert section["draft_forwards"] == 3 * at_once * 128 * 4
    study = study_of("34_mtad_speed").of(parameters(NOTEBOOKS / "34_mtad_speed.ipynb", "smoke"))
    ways = study.timed()
    assert {bool(one.draft) for one in ways} == {True, False} and all(
        bool(t.draft) == (t.draft_steps > 0) for t in ways
    )
    assert max(one.draft_steps for one in ways) == 20, "assisted, its defaults"
    overhead = study_of("16_autodeco_overhead")(prompts=(8, 256), batches=(1, 2))
    assert [(one.batch, one.prompt) for one in overhead.timed()] == [(1, 8), (1, 256), (2, 8)]


def test_responses_that_sections_share_are_counted_once(monkeypatch):
    found = plan.plan_of("paper", {name: section.notebook for name, section in read("paper").sections.items()
                                   if name in ("autodeco_table_1-r1-qwen-7b-authors",
                                               "autodeco_tables_5_to_7-r1-qwen-7b-authors")})  # fmt: skip
    table_1, tables_5_to_7 = found["sections"].values()
    assert (table_1["rows"], tables_5_to_7["rows"]) == (220 * (1 + 3 * 128), 220 * 2 * 128 + 220 * 128)
    assert found["total"]["rows"] == table_1["rows"], "Tables 5 to 7 are of the responses of Table 1"
    assert table_1["tokens"] == table_1["rows"] * 32768 == table_1["forwards"]
    assert found["models"]["r1-qwen-7b"]["licence"] == "MIT" and not found["gated"]
    assert table_1["memory_gb"] > 2 * 7.6 and table_1["hours"] > 1
    assert table_1["kwh"] == pytest.approx(0.7 * table_1["hours"], rel=1e-3)
    monkeypatch.setattr(effort, "BANDWIDTH", effort.BANDWIDTH / 2)
    half = plan.plan_of("paper", {"autodeco_table_1-r1-qwen-7b-authors": "10_autodeco_scores"})
    assert half["total"]["hours"] == pytest.approx(2 * table_1["hours"], rel=0.1), "a token waits for the weights"


def test_make_plan_writes_and_prints_and_loads_nothing(tmp_path, monkeypatch, capsys):
    for name in ("load", "_fingerprint"):
        monkeypatch.setattr(f"lib.models.registry.{name}", lambda *_: pytest.fail("a model was touched"))
    monkeypatch.setattr("lib.running.identity.items_of", lambda *_: pytest.fail("rows were loaded"))
    monkeypatch.setattr(plan.write, "__defaults__", (tmp_path,))
    (tmp_path / "index.json").write_text(json.dumps({"files": {}, "readme": {}, "packages": {}}))
    assert main(["plan", "--profile", "paper", "--section", "tolerator_table_3"]) == 0
    found, said = json.loads((tmp_path / "plan.json").read_text()), capsys.readouterr().out
    assert list(found["sections"]) == [f"tolerator_table_3-{model}-{budget}" for model in ("llada-8b", "dream-7b")
                                       for budget in ("middle", "full")]  # fmt: skip
    assert found["gated"] == ["gpqa_main"] and set(found["models"]) == {"llada-8b", "dream-7b"}
    full = found["sections"]["tolerator_table_3-llada-8b-full"]
    rows = (4 * 256 + 164) * 3 * 4 * 3  # items of five tasks, samples, methods, forms of the penalty with none
    drafts = rows // 4  # what TOLERATOR's fill-up gives, in half of its forwards
    whole = rows + drafts
    assert (full["rows"], full["forwards"], full["tokens"]) == (whole, rows * 256 + drafts * 128, whole * 256)
    assert "tolerator_table_3-dream-7b-middle" in said and "H100" in said and "Dream-org" in said
    assert index.read(tmp_path)["files"].keys() == {"plan.json"}, "the index of results knows it"


# Sections


@pytest.fixture
def folder(tmp_path):
    """Profiles: one file, and a folder of two files with three sections."""
    params = tmp_path / "params"
    shutil.copytree(PARAMS, params)
    shutil.rmtree(params / "paper")
    (params / "mine").mkdir()
    (params / "mine" / "common.yaml").write_text("samples: 2\n")
    (params / "mine" / "one.yaml").write_text("notebook: 20_tolerator_scores\nitems: 3\n")
    text = "notebook: 10_autodeco_scores\nitems: 4\neach:\n  a: {samples: 5}\n  b:\n"
    (params / "mine" / "two.yaml").write_text(text)
    return params


def test_a_folder_is_a_profile_of_sections(folder):
    assert [(s.name, s.notebook) for s in sections("mine", folder)] == [
        ("one", "20_tolerator_scores"), ("two-a", "10_autodeco_scores"), ("two-b", "10_autodeco_scores")
    ]  # fmt: skip
    given = (NOTEBOOKS / "10_autodeco_scores.ipynb", "mine", folder)
    assert parameters(*given, section="two-a") == {"samples": 5, "items": 4, "profile": "mine"}
    assert parameters(*given, section="two-b") == {"samples": 2, "items": 4, "profile": "mine"}
    assert {*profiles_in(folder)} == {"gpu", "laptop", "mine", "night", "smoke"}
    assert [s.name for s in sections("smoke", folder)] == list(STUDIES), "a file has a section a notebook"


@pytest.mark.parametrize(
    "file, text, words",
    [
        ("x", "items: 3\n", "x.yaml names no notebook: write `notebook: 10_autodeco_scores`"),
        ("x", "notebook: 3\n", "x.yaml names no notebook"),
        ("x", "- items\n", "x.yaml must be a mapping"),
        ("x", "notebook: [\n", "x.yaml is not YAML"),
        ("x", "notebook: 20_tolerator_scores\nitems: {a: 1}\n", "x.yaml: items must be a word, a number"),
        ("x", "notebook: 20_tolerator_scores\neach: 3\n", "x.yaml: `each` must be a mapping"),
        ("x", "notebook: 20_tolerator_scores\neach: {a: 3}\n", "x.yaml: `each` must be a mapping"),
        ("x", "notebook: 20_tolerator_scores\neach: {a: {items: [[1]]}}\n", "x.yaml: a.items"),
        ("two-a", "notebook: 20_tolerator_scores\n", "the section 'two-a' is in"),
    ],
)
def test_a_section_that_is_none_is_one_line_with_the_cure(folder, file, text, words):
    (folder / "mine" / f"{file}.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        sections("mine", folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_section_without_its_notebook_or_with_another_parameter(folder):
    scores = NOTEBOOKS / "10_autodeco_scores.ipynb"
    with pytest.raises(UserError, match="mine has no section 'three'; it has: one, two-a, two-b"):
        parameters(scores, "mine", folder, section="three")
    with pytest.raises(UserError, match="the section 'one' is of the notebook 20_tolerator_scores"):
        parameters(scores, "mine", folder, section="one")
    (folder / "mine" / "one.yaml").write_text("notebook: 20_tolerator_score\n")
    with pytest.raises(UserError, match="one.yaml: no notebook '20_tolerator_score'; there are: 00_study_models"):
        parameters(scores, "mine", folder, section="two-a")
    (folder / "mine" / "one.yaml").write_text("notebook: 10_autodeco_scores\nitms: 3\n")
    with pytest.raises(UserError, match="one.yaml: 10_autodeco_scores.ipynb has no parameter 'itms'; it has: items"):
        parameters(scores, "mine", folder, section="one")
    (folder / "mine" / "common.yaml").write_text("smples: 2\n")
    with pytest.raises(UserError, match="no notebook has the common parameter smples"):
        parameters(scores, "mine", folder, section="two-a")


def test_a_name_is_one_profile(folder):
    (folder / "mine.yaml").write_text("")
    with pytest.raises(UserError, match="'mine' is a file and a folder"):
        read("mine", folder)
    (folder / "mine.yaml").unlink()
    for file in (folder / "mine").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="'mine' has no sections: put a file"):
        read("mine", folder)


@pytest.mark.parametrize("name", ["mine.yml", "two.yaml.txt", "notes.md", "more.d/"])
def test_no_file_of_a_folder_is_passed_over_in_silence(folder, name):
    path = folder / "mine" / name
    path.mkdir() if name.endswith("/") else path.write_text("notebook: 20_tolerator_scores\n")
    with pytest.raises(UserError, match=rf"{path.name} is no section: call it <section>.yaml, or move it"):
        sections("mine", folder)


def test_hidden_files_of_a_folder_are_left_alone(folder):
    (folder / "mine" / ".one.yaml.swp").write_text("x")
    assert len(sections("mine", folder)) == 3


def test_sections_are_chosen_by_notebook_by_file_and_by_name():
    everything = chosen("paper", "")
    assert chosen("paper", "all") == everything and len(everything) > 90
    assert set(chosen("paper", "34_mtad_speed").values()) == {"34_mtad_speed"}
    of_file = chosen("paper", "", "autodeco_table_1")
    assert len(of_file) == 8 and set(of_file.values()) == {"10_autodeco_scores"}
    one = "autodeco_table_1-r1-qwen-7b-authors"
    assert chosen("paper", "", one) == chosen("paper", "10_autodeco_scores", one) == {one: "10_autodeco_scores"}
    for wrong, words in (
        (("paper", "", "autodeco_table_9"), "there is no section 'autodeco_table_9'; known: autodeco_figure_3"),
        (("paper", "34_mtad_speed", "autodeco_table_1"), "no notebook 34_mtad_speed in the section autodeco_table_1"),
        (("laptop", "", "autodeco_table_1"), "laptop has no sections: name a notebook by NB"),
        (("paper", "34_mtad"), "there is no notebook '34_mtad'"),
    ):
        with pytest.raises(UserError, match=words):
            chosen(*wrong)


def test_of_a_folder_what_was_rendered_is_rendered_again(tmp_path):
    (tmp_path / "mtad_spider-opt").mkdir()
    assert chosen("paper", "", "", tmp_path) == {"mtad_spider-opt": "35_mtad_real"}
    assert chosen("paper", "", "", tmp_path / "none") == {}


# Notebook 34 where no task has validation items, as HumanEval and Spider


def test_speed_is_measured_on_benchmarks_that_have_test_items_alone(tmp_path, monkeypatch):
    """It failed after all its rounds, for draft lengths are tried on validation items of the first task."""
    monkeypatch.delenv("DATA_DIR", raising=False)
    tokenizer = build_tokenizer(["a b"])
    network = tiny(vocabulary=len(tokenizer))
    network.config.max_position_embeddings = 4096
    model = mtad_rounds.model_of.__wrapped__.__globals__["Model"]("tiny", network, tokenizer, CAUSAL)
    for module in (mtad_rounds, mtad_base):
        monkeypatch.setattr(module, "model_of", lambda name, device: model)
    monkeypatch.setattr(mtad_base, "drafts", list)
    given = {"tasks": ("humaneval",), "elsewhere": (), "items": 1, "tokens": 2, "prompts": 1, "batches": (1,)}
    s = mtad_speed.Study(**given, reuse=False, out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="humaneval has the split test only"):
        mtad_rounds.items_of("humaneval", "validation", 1)
    assert s.held_out == []
    assert s.attempts.empty and s.tried.empty
    assert replace(s, tasks=("humaneval", "qa")).held_out == ["qa"]
    monkeypatch.setattr(mtad_speed.Study, "sources", classmethod(lambda cls: ""))
    monkeypatch.setattr(mtad_speed.Study, "measures", classmethod(lambda cls: ""))
    s.save()
    assert {path.stem for path in (tmp_path / "out").glob("*.csv")} >= {"tried", "speed", "rounds", "elsewhere"}
    assert s.claims() and s.reading() and s.away().empty
    assert options_of("mtad", s.ways()["MTAD"][1])
