"""The committed notebooks: short, without outputs, and each the same study as the command line computes."""

import ast
import builtins
import io
import json
import re
import tokenize
import warnings
from dataclasses import fields, replace
from functools import cache

import nbformat
import pytest
import torch

from lib.errors import UserError
from lib.models.registry import entry_of
from lib.paths import NOTEBOOKS, PARAMS, RESULTS
from lib.reporting.profiles import profiles_in, sections
from lib.reporting.render import parameters
from lib.studies import STUDIES, study_of
from lib.studies.base import SHORT
from lib.tasks import TASKS, get_task

STEMS = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
PROFILES = sorted(path.stem for path in PARAMS.glob("*.yaml"))
SECTIONS = {section.name: section for section in sections("paper")}
MOST_CELLS, MOST_LINES, MOST_PARAMETERS = 12, 15, 18
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)

every_notebook = pytest.mark.parametrize("stem", STEMS)


@cache
def raw(stem: str) -> dict:
    """The file's JSON as it is: nbformat would add what is missing."""
    return json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8"))


def code(stem: str) -> list[str]:
    return ["".join(cell["source"]) for cell in raw(stem)["cells"] if cell["cell_type"] == "code"]


def declaration(stem: str) -> str:
    """The source of the one cell tagged parameters, which is the first code cell."""
    cells = [cell for cell in raw(stem)["cells"] if cell["cell_type"] == "code"]
    (index,) = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    assert index == 0, "papermill puts its values after this cell, so nothing may be computed before it"
    return code(stem)[0]


def declared(stem: str) -> dict[str, object]:
    """Name to default of each parameter; every line is `name: type = literal  # comment`."""
    values = {}
    for line in declaration(stem).splitlines():
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name), line
        value = ast.literal_eval(statement.value)
        assert type(value) is getattr(builtins, ast.unparse(statement.annotation)), line
        comments = [t for t in tokenize.generate_tokens(io.StringIO(line).readline) if t.type == tokenize.COMMENT]
        assert comments and comments[0].string.strip("# "), f"no comment: {line}"
        assert statement.target.id not in values, f"declared twice: {line}"
        values[statement.target.id] = value
    return values


def test_notebooks_and_studies_are_the_same_set():
    assert STEMS == sorted(STUDIES)
    assert {study_of(stem).notebook for stem in STEMS} == set(STEMS)


def test_the_profiles():
    assert {"smoke", "laptop", "night", "gpu", "paper"} <= set(profiles_in()) == {*PROFILES, "paper"}


@every_notebook
def test_format(stem):
    with warnings.catch_warnings(action="error"):
        nbformat.validate(raw(stem))
    assert (raw(stem)["nbformat"], raw(stem)["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in raw(stem)["cells"]]
    assert len(set(ids)) == len(ids)
    assert raw(stem)["metadata"]["kernelspec"]["name"] == "python3"


@every_notebook
def test_no_outputs(stem):
    for cell in raw(stem)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]


@every_notebook
def test_title_and_claim_come_first(stem):
    first = raw(stem)["cells"][0]
    text = "".join(first["source"])
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", text) and "**Claim" in text


@every_notebook
def test_parameters(stem):
    values = declared(stem)
    assert {"profile", "out"} <= set(values)
    assert values["out"] == f"build/notebook/{stem}", "a notebook run by hand leaves results/ alone"
    assert values["profile"] in profiles_in()
    assert set(values) == {field.name for field in fields(study_of(stem))}, "all of the study's, and none beside them"


@every_notebook
def test_cells_are_few_short_and_define_nothing(stem):
    sources = code(stem)
    assert len(sources) <= MOST_CELLS
    for source in sources:
        most = MOST_PARAMETERS if source is sources[0] else MOST_LINES
        assert len(source.splitlines()) <= most, source
        tree = ast.parse(source)  # a magic or a shell command is no Python
        assert not [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS)], source
    assert sources[1].endswith("\n\nstudy = Study.of_cell(globals())"), "a parameter is written once"
    assert sources[-1] == "study.save()"


@every_notebook
def test_what_a_notebook_asks_of_its_study_is_there(stem):
    asked = {name for source in code(stem) for name in re.findall(r"\bstudy\.(\w+)", source)}
    assert {"reading", "save"} <= asked <= set(dir(study_of(stem)))


@every_notebook
@pytest.mark.parametrize("profile", PROFILES)
def test_notebook_and_command_line_make_the_same_study(stem, profile, monkeypatch):
    """`make reproduce` computes `Study.of(values)`; were the notebook's study another, it would decode again."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    values = parameters(NOTEBOOKS / f"{stem}.ipynb", profile, overrides={"out": "elsewhere", "reuse": False})
    cells, names = code(stem), declared(stem) | values
    exec(cells[1], names)
    assert names["study"] == study_of(stem).of(values)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_of_the_paper_is_a_study(name, monkeypatch):
    """By the notebook and by the command line the same, and of models and tasks that there are."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    section = SECTIONS[name]
    stem, given = section.notebook, {"out": f"build/results/paper/{name}", "reuse": False}
    values = parameters(NOTEBOOKS / f"{stem}.ipynb", "paper", overrides=given, section=name)
    assert section.values.items() <= values.items() and values["device"] == "cuda"
    names = declared(stem) | values
    exec(code(stem)[1], names)
    study = study_of(stem).of(values)
    assert names["study"] == study
    assert study.in_section and study.place == RESULTS / "paper" / name
    known = {*SHORT, *TASKS}
    assert {*values.get("tasks", ()), *values.get("elsewhere", ())} <= known
    for run in study.runs().values():
        assert entry_of(run.model) and (not run.draft or entry_of(run.draft))


def test_the_sections_cover_the_tables_and_figures():
    """Each of the four bases with both kinds of heads, both diffusion models, all pairs."""
    stems = {section.path.stem for section in SECTIONS.values()}
    tables = {f"autodeco_table_{n}" for n in (1, 2, 3, 4)} | {"autodeco_tables_5_to_7"}
    tables |= {f"autodeco_figure_{n}" for n in (3, 4, 5, 6)} | {f"tolerator_table_{n}" for n in (1, 2, 3, 4)}
    tables |= {"tolerator_figure_tradeoff", "mtad_spider", "mtad_mt_bench", "mtad_humaneval", "mtad_cnn_dailymail"}
    assert tables <= stems
    bases = ("llama-nemotron-8b", "r1-qwen-7b", "qwen3-30b", "gpt-oss-20b")
    for stem in ("autodeco_table_1", "autodeco_table_2", "autodeco_tables_5_to_7", "autodeco_figure_3"):
        found = {(s.values["model"], s.values["heads"]) for s in SECTIONS.values() if s.path.stem == stem}
        assert found == {(base, f"{base}-{heads}") for base in bases for heads in ("authors", "autodeco")}
        assert {s.values["samples"] for s in SECTIONS.values() if s.path.stem == stem} == {128}
    budgets = {run.resolved().steps for run in _study("tolerator_table_1-llada-8b").runs().values()
               if run.method == "vanilla"}  # fmt: skip
    assert budgets == {4, 8, 16, 32, 64, 128, 256}
    pairs = {(s.values["model"], s.values["draft"]) for s in SECTIONS.values() if s.path.stem == "mtad_spider"}
    assert len(pairs) == 5


def _study(name):
    section = SECTIONS[name]
    values = parameters(NOTEBOOKS / f"{section.notebook}.ipynb", "paper", section=name)
    return study_of(section.notebook).of(values)


@pytest.mark.parametrize("name", ["autodeco_table_1-r1-qwen-7b-authors", "autodeco_tables_5_to_7-r1-qwen-7b-authors",
                                  "autodeco_figure_3-r1-qwen-7b-authors", "autodeco_figure_4-r1-qwen-7b",
                                  "autodeco_table_4"])  # fmt: skip
def test_thinking_models_are_not_cut_at_a_tasks_256_tokens(name):
    assert {dict(run.options)["max_new_tokens"] for run in _study(name).runs().values()} == {32768}


@every_notebook
def test_a_length_at_its_default_is_the_tasks_own(stem):
    """What was decoded before there was such a parameter stays what it is."""
    study = study_of(stem)()
    if "tokens" not in declared(stem) or declared(stem)["tokens"]:
        return
    for run in study.runs().values():
        options = dict(run.options)
        canvas = options.get("canvas") or options["max_new_tokens"]
        own = get_task(run.task).max_new_tokens
        assert canvas == own or (stem == "24_tolerator_cost" and canvas == own * 3 // 2)
    longer = replace(study, tokens=60)
    lengths = {dict(r.options).get("canvas") or dict(r.options)["max_new_tokens"] for r in longer.runs().values()}
    assert lengths == ({60, 90} if stem == "24_tolerator_cost" else {60})
    with pytest.raises(UserError, match="tokens must be 1 or more, or 0"):
        replace(study, tokens=-1)


def test_a_study_takes_its_parameters_from_among_all_names_of_a_notebook():
    study = study_of("20_tolerator_scores")
    names = {"profile": "night", "items": 7, "tasks": ["qa"], "Study": study, "_": 3, "figure": None}
    assert study.of_cell(names) == study(profile="night", items=7, tasks=("qa",))
    with pytest.raises(UserError, match="items must be a whole number, not '7'"):
        study.of_cell(names | {"items": "7"})
    with pytest.raises(UserError, match="items must be 1 or more"):
        study.of_cell(names | {"items": 0})


@every_notebook
def test_a_profile_alone_is_the_committed_page(stem):
    """In JupyterLab, where nothing is injected: the profile's values for what stands in the cell as written."""
    study, cell = study_of(stem), declared(stem)
    assert study.of(cell) == study(out=cell["out"]), "the cell's values are the fields' own, and so can be told apart"
    for profile in ("laptop", "night"):
        wanted = study.of(parameters(NOTEBOOKS / f"{stem}.ipynb", profile) | {"out": cell["out"]})
        assert study.of_cell(cell | {"profile": profile}) == wanted
    with pytest.raises(UserError, match="unknown profile 'nihgt'; there are: "):
        study.of_cell(cell | {"profile": "nihgt"})


def test_what_was_changed_or_injected_stays():
    study, cell = study_of("20_tolerator_scores"), declared("20_tolerator_scores")
    assert study.of_cell(cell | {"profile": "night", "items": 7}).items == 7
    injected = {"In": ["", "# Parameters\nprofile = 'night'\nitems = 60\n"]}
    found = study.of_cell(cell | injected | {"profile": "night"})
    assert found.items == 60, "papermill said 60, though 60 is the cell's own"
    assert found.samples == 1, "and nothing of samples: the profile has 1"
