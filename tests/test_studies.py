"""Studies: matched budgets, tables from known lines, results that are read back and checked for currency."""

import json
from functools import partial
from importlib import import_module

import pytest

from lib import __main__ as command
from lib.analysis.stats import Estimate
from lib.errors import UserError
from lib.paths import RESULTS, ROOT
from lib.reporting import check
from lib.reporting.claims import OWN, VERDICTS, Claim, more, records
from lib.reporting.collect import DESCRIPTIONS, verdict_on, write_all
from lib.reporting.findings import NAME as BRACED
from lib.reporting.findings import SENTENCES, findings, in_words
from lib.reporting.render import parameters
from lib.reporting.result_folder import headline
from lib.running.committed import committed
from lib.running.lines import MEASURED
from lib.running.run import Run
from lib.studies import base, study_of
from lib.studies.autodeco.scores import Study as AutoDecoScores
from lib.studies.autodeco.sweep import Study as Sweep
from lib.studies.autodeco.sweep import best_temperature
from lib.studies.tolerator.base import budgets, middle
from lib.studies.tolerator.scores import DIFFUSION_METHODS, Study

NAME = "20_tolerator_scores"


@pytest.fixture
def small(tmp_path, monkeypatch, random_models):
    """The study on one task with a random model, everything under tmp_path; called with changes to its parameters."""
    profiles = tmp_path / "params"
    profiles.mkdir()
    (profiles / "tiny.yaml").write_text(f"{NAME}: {{items: 3, samples: 2, tasks: [qa]}}")
    monkeypatch.setattr(check, "parameters", lambda notebook, profile, _: parameters(notebook, profile, profiles))

    def make(**changes):
        given = {"profile": "tiny", "items": 3, "samples": 2, "tasks": ("qa",), "out": str(tmp_path / "out")}
        return Study(**given | changes)

    make.weights, make.folder, make.results = random_models, tmp_path / "out", tmp_path / "results"
    return make


def publish(make):
    make().save()
    make.results.mkdir()
    (make.results / "tiny").mkdir()
    make.folder.rename(make.results / "tiny" / NAME)


@pytest.mark.parametrize(
    "canvas, grid, middle_", [(40, (4, 8, 16, 40), 16), (16, (4, 8, 16), 8), (32, (4, 8, 16, 32), 16)]
)
def test_budgets_run_from_four_to_one_token_a_forward(canvas, grid, middle_):
    assert budgets(canvas) == grid and middle(canvas) == middle_


def test_every_method_gets_the_same_forwards(small):
    study = small()
    for (task, method, forwards), lines in study.lines.items():
        if method in DIFFUSION_METHODS:
            assert {line["target_forwards"] for line in lines} == {forwards}, (task, method)
    rows = study.summary.dropna(subset="budget")
    assert (rows.groupby(["label", "budget"]).method.nunique() == len(DIFFUSION_METHODS)).all()
    assert (rows.forwards == rows.budget).all()


def test_comparisons_are_paired_and_corrected(small):
    study = small(items=12, samples=1)
    right = {"vanilla": range(0, 4), "remdm": range(0, 10), "rcr": range(2, 12), "tolerator": range(0, 10)}
    made = {
        key: [{"item": f"{i:02d}", "sample": 0, "correct": int(i in right.get(key[1], ())) } for i in range(12)]
        for key in study.runs()
    }  # fmt: skip
    study.__dict__["lines"] = made
    rows = study.comparisons.set_index(["forwards", "against"])
    assert rows.difference.loc[4, "vanilla"] == pytest.approx(50)
    assert rows.difference.loc[4, "ReMDM"] == 0 and rows.low.loc[4, "ReMDM"] < 0 < rows.high.loc[4, "ReMDM"]
    assert rows.difference.loc[4, "RCR"] == pytest.approx(0) and rows.verdict.loc[4, "RCR"] == "tied"
    assert rows.p.loc[4, "vanilla"] == pytest.approx(2 * 0.5**6)  # McNemar: six wins, no loss
    assert rows.p_holm.loc[4, "vanilla"] == pytest.approx(12 * 2 * 0.5**6)  # twelve comparisons
    assert rows.verdict.loc[4, "vanilla"] == "tied"


def manifest_of(make):
    return make.results / "tiny" / NAME / "manifest.json"


def rewrite(make, change):
    """The manifest with every run's entry changed by `change`."""
    path = manifest_of(make)
    manifest = json.loads(path.read_text())
    manifest["runs"] = {name: change(entry) for name, entry in manifest["runs"].items()}
    path.write_text(json.dumps(manifest))


def stale(make):
    return check.stale(study_of, make.results)


def test_committed_responses_are_read_back_and_only_while_current(small):
    publish(small)
    first, again = small(), small()
    folder = manifest_of(small).parent
    have = committed(folder)
    assert len(have) == len(first.runs())
    for key, run in first.runs().items():
        assert [{k: v for k, v in line.items() if k not in MEASURED} for line in first.lines[key]] == [
            {k: v for k, v in line.items() if k not in MEASURED} for line in have[run]
        ]
        assert have[run][0]["joules"] is None and have[run][0]["seconds"] > 0
    small.weights["study-dlm"] = "retrained"
    have = committed(folder)
    kept = {key for key, run in again.runs().items() if run in have}
    assert kept == {("qa", "greedy", 0), ("qa", "sampled", 0)}
    assert committed(folder.parent / "30_mtad_scores") == {}, "there is no such result"


def test_check_says_what_is_no_longer_current(small, monkeypatch):
    publish(small)
    assert stale(small) == []
    small.weights["study-dlm"] = "retrained"
    assert stale(small) == [f"tiny/{NAME}: weights changed (16 runs)"]
    small.weights["study-dlm"] = "one"
    path = manifest_of(small)
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"parameters": manifest["parameters"] | {"items": 4}}))
    assert f"tiny/{NAME}: items was 4, the profile now says 3" in stale(small)


def test_check_says_by_what_code_that_changed_is_certified(small):
    publish(small)
    rewrite(small, lambda entry: entry | {"code": "older"})
    assert stale(small) == [
        f"tiny/{NAME}: waits for REPLAY=16, for code changed: it certifies what decodes the same (18 runs)"
    ]


def test_check_tells_a_changed_scorer_from_changed_responses(small, monkeypatch):
    publish(small)
    rewrite(small, lambda entry: entry | {"scores": "older"})
    assert stale(small) == [
        f"tiny/{NAME}: waits to be rendered, for the scorer changed: it scores the stored texts (18 runs)"
    ]
    monkeypatch.setattr("lib.running.one_batch.responses", lambda *_: pytest.fail("decoded"))
    small().save()
    small.folder.joinpath("manifest.json").rename(manifest_of(small))
    for path in small.folder.iterdir():
        path.rename(manifest_of(small).parent / path.name)
    assert stale(small) == []


def test_what_waits_is_no_error_where_that_is_asked_for_and_damage_always_is(small, monkeypatch, capsys):
    publish(small)
    monkeypatch.setattr(check, "stale", partial(check.stale, results=small.results))
    monkeypatch.setattr(check, "uncollected", list)  # tests/test_check.py
    command.check()
    assert "every committed result is current" in capsys.readouterr().out
    rewrite(small, lambda entry: entry | {"code": "older"})
    with pytest.raises(UserError, match="^1 results are not current"):
        command.check()
    capsys.readouterr()
    command.check(waiting=True)
    out = capsys.readouterr().out
    assert f"tiny/{NAME}: waits for REPLAY=16" in out and "1 results wait, nothing is damaged" in out
    small.weights["study-dlm"] = "retrained"
    with pytest.raises(UserError, match="^1 results are not current"):
        command.check(waiting=True)
    assert f"tiny/{NAME}: weights changed (16 runs)" in capsys.readouterr().out


def test_check_says_that_tables_or_what_is_measured_are_those_of_other_code(small, monkeypatch):
    publish(small)
    with monkeypatch.context() as changed:
        changed.setattr(Study, "sources", classmethod(lambda cls: "other"))
        assert stale(small) == [
            f"tiny/{NAME}: waits to be rendered, for the notebook or the code of its tables changed"
        ]
    with monkeypatch.context() as changed:
        changed.setattr(Study, "measures", classmethod(lambda cls: "other"))
        assert stale(small) == [
            f"tiny/{NAME}: waits to be measured anew, for what is measured in it, or what measures, changed"
        ]
    table = manifest_of(small).parent / "summary.csv"
    table.write_text(table.read_text().replace("0.0000", "1.0000"))
    assert f"tiny/{NAME}: its files are not those that were written: summary.csv" in stale(small)
    assert committed(table.parent) == {}


def test_the_sources_of_a_study_are_its_code_its_printed_cells_and_its_notebook(tmp_path, monkeypatch):
    plain = Study.sources()
    assert plain == Study.sources() != AutoDecoScores.sources() and len(plain) == 16
    files = {}
    for name, file in (("NOTEBOOKS", f"{NAME}.ipynb"), ("PAPERS", f"{Study.printed_in}.csv")):
        there = getattr(base, name)
        files[tmp_path / there.relative_to(ROOT) / file] = (there / file).read_bytes()
        monkeypatch.setattr(base, name, tmp_path / there.relative_to(ROOT))
    for path, written in files.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(written)
    assert Study.sources() == plain
    for path, written in files.items():
        path.write_bytes(written.replace(b"study", b"survey").replace(b"table", b"page"))
        assert Study.sources() != plain, path
        path.write_bytes(written)
    code = base.hash_of
    with monkeypatch.context() as changed:
        changed.setattr(base, "hash_of", lambda names, *within: code([*names, ("lib.analysis.stats", "Estimate")]))
        assert Study.sources() != plain


def test_what_is_measured_has_a_hash_of_its_own(tmp_path, monkeypatch):
    """Times and trained files are no responses: a study names what they come from."""
    assert Study.measures() is None and Study.measured_by() == ([], [])
    file = tmp_path / "curve.jsonl"
    file.write_text("1\n")
    names = [("lib.analysis.interleaved", "interleaved")]
    found = []
    for given in ([], [file]), (names, []), (names, [file]):
        monkeypatch.setattr(Study, "measured_by", classmethod(lambda cls, given=given: given))
        found += [Study.measures(), Study.sources()]
    file.write_text("2\n")
    found += [Study.measures(), Study.sources()]
    assert len(set(found)) == len(found) == 8


def test_later_runs_follow_from_the_first_and_are_checked(small, monkeypatch):
    """As a constant temperature that equals the mean of what another method chose."""

    def later(self, lines):
        share = sum(line["tokens_kept"] for line in lines["qa", "sampled", 0]) / 1000
        return {("qa", "sampled", 1): Run.of("study-ar", "country_facts", "autoregressive", 3, 2, temperature=share)}

    monkeypatch.setattr(Study, "later_runs", later)
    study = small()
    assert set(study.lines) == set(study.all_runs) == {*study.runs(), ("qa", "sampled", 1)}
    assert dict(study.all_runs["qa", "sampled", 1].options)["temperature"] > 0
    publish(small)
    assert stale(small) == []
    assert small().lines["qa", "sampled", 1][0]["item"] == study.lines["qa", "sampled", 1][0]["item"]
    monkeypatch.setattr(Study, "later_runs", lambda self, lines: later(self, {k: v[:1] for k, v in lines.items()}))
    assert stale(small) == [f"tiny/{NAME}: runs are missing (1 runs)"]


def test_a_result_made_twice_is_the_same_but_for_what_was_measured(small):
    small().save()
    first = {path.name: path.read_bytes() for path in small.folder.iterdir()}
    small().save()
    again = {path.name: path.read_bytes() for path in small.folder.iterdir()}
    assert first == again
    assert {"items.jsonl.gz", "summary.csv", "manifest.json", "quality.svg", "quality.png"} <= set(first)


def test_a_headline_has_the_verdict_of_the_claim_on_its_very_number():
    entry = headline(10.125, 9.0, 11.25, 9, "points", "night", "x")
    row = {"value": 10.1251, "alone_low": 9.0, "alone_high": 11.25, "n": 9, "unit": "points", "margin": 1.0}
    held, refuted = row | {"verdict": "holds"}, row | {"verdict": "refuted"}
    assert verdict_on(entry, [held, held]) == {"verdict": "holds"}
    others = [
        held | other for other in ({"margin": None}, {"unit": "%"}, {"n": 8}, {"value": 10.14}, {"alone_low": None})
    ]
    assert verdict_on(entry, others) == {} and verdict_on(entry, [held, refuted]) == {}


README = "before\n<!-- found -->\nstale\n<!-- /found -->\nafter\n"


def test_headlines_and_claims_come_from_the_tightest_profile(tmp_path):
    estimate, results = Estimate(1.0, 0.5, 1.5, 9), tmp_path / "results"
    for profile, value in (("smoke", 1), ("laptop", 2), ("night", 3)):
        folder = results / profile / "10_autodeco_x"
        folder.mkdir(parents=True)
        entries = {"a": headline(value, 0, 5, 9, "points", profile, "x")}
        if profile != "night":
            entries["b"] = headline(value, None, None, 9, "points", profile, "x")
        (folder / "headline.json").write_text(json.dumps(entries))
        ruling = more(estimate, 2)
        claims = [Claim(where, f"at {profile}", "2 points", estimate, "points", ruling) for where in ("Table 1", OWN)]
        own = Estimate(value, 0, 5, 9)
        claims.append(Claim(OWN, "of the headline", "", own, "points", more(own)))
        (folder / "claims.json").write_text(json.dumps(records(claims)))
    readme = tmp_path / "README.md"
    readme.write_text(README)
    for _ in range(2):
        merged = write_all(results, readme)
    assert (merged["a"]["value"], merged["b"]["value"]) == (3, 2)
    assert json.loads((results / "headline.json").read_text()) == merged
    assert merged["a"]["verdict"] == "undecided" and "verdict" not in merged["b"], "a claim on the very same number"
    claims = json.loads((results / "claims.json").read_text())
    assert [row["says"] for row in claims if row["from"]] == ["at night"] * 2 + ["of the headline"]
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale" not in text
    listed = (results / "README.md").read_text()
    assert "| `a` |  | 3 [0, 5] points | 9 | [x](night/x/x.ipynb) |" in listed and listed.count("`b`") == 1
    assert "| AutoDeco | 1 | 0 | 0 | 0 | 0 |" in text, "our own controls are not counted among the paper's claims"
    row = "| **holds, less than printed** | at night | 2 points | 1.00 [0.50, 1.50] points, n = 9 |  | Table 1 |"
    assert row in (results / "claims.md").read_text()


def test_what_was_found_is_said_by_the_numbers_alone():
    entry = {"unit": "points", "n": 9, "profile": "night", "from": "10_autodeco_scores"}
    names = [f"autodeco_vs_{other}_{task}" for other in ("default", "greedy") for task in ("math", "qa", "code")]
    values = ((1.25, 0.5, 2), (-0.5, -2, 1), (-3, -4, -2), (2.5, 1, 4), (0.1, -0.3, 0.5), (-1, -2, -0.5))
    found = {
        n: entry | dict(zip(("value", "low", "high"), v, strict=True)) for n, v in zip(names, values, strict=True)
    }
    (line,) = findings(found, "results/")
    assert "score 1.25 points more [0.5, 2] in math, 0.5 points fewer [-2, 1] (not told apart) in facts" in line
    assert "3 points fewer [-4, -2] in code; against greedy decoding 2.5 points more [1, 4]" in line
    assert line.endswith("(Notebooks [10](results/night/10_autodeco_scores/10_autodeco_scores.ipynb).)")
    assert findings({names[0]: found[names[0]]}) == [], "a sentence that lacks a number is left out"
    cases = {
        ("times", 1.2, 1.1, 1.3): "1.2 times [1.1, 1.3]",
        ("times", 1.2, 0.9, 1.3): "1.2 times [0.9, 1.3] (not told apart)",
        ("points", 0.1, -0.3, 0.5): "0.1 points more [-0.3, 0.5] (equal within a point)",
        ("points", 1, 0.5, 1.5): "1 point more [0.5, 1.5]",
        ("%", 0.2, -0.5, 0.8): "+0.2 % [-0.5, 0.8] (not told apart)",
        ("points for 10 of b", -0.2, -0.5, 0.8): "-0.2 points for 10 of b [-0.5, 0.8] (not told apart)",
    }
    for (unit, value, low, high), words in cases.items():
        assert in_words(entry | {"unit": unit, "value": value, "low": low, "high": high}) == words
    corrected = entry | {"value": -4.0, "low": -7.3, "high": -1.3, "verdict": "undecided"}
    assert in_words(corrected) == "4 points fewer [-7.3, -1.3] (undecided once corrected)"
    cases = {("points", -0.2, 0.4, "undecided"): " (not told apart)", ("points", 1, 9, "not testable here"): None,
             ("times", 0.98, 1.03, "equivalent"): " (equal within 5 %)", ("points", 1, 2, "holds"): ""}  # fmt: skip
    slope = entry | {"unit": "points for 10 of b", "value": 0.0, "low": -0.1, "high": 0.1, "verdict": "equivalent"}
    assert in_words(slope).endswith("[-0.1, 0.1] (equivalent)"), "its margin is its own"
    for (unit, low, high, verdict), words in cases.items():
        told = in_words(entry | {"unit": unit, "value": 1.5, "low": low, "high": high, "verdict": verdict})
        assert told.endswith(f"{high:g}]{' (not testable here)' if words is None else words}"), "as the ledger has it"
    assert {name for paper in SENTENCES.values() for s in paper for name in BRACED.findall(s)} <= set(DESCRIPTIONS)
    every = {name: entry | {"value": 1.5, "low": 1, "high": 2} for name in DESCRIPTIONS}
    papers = [line.partition("**: ")[0] for line in findings(every)]
    assert papers == [f"- **{paper}" for paper in SENTENCES]
    assert [line.partition("**: ")[0] for line in findings(every, most=2)] == papers[:-1], "README tells of papers"


def test_every_headline_has_words():
    assert set(json.loads((RESULTS / "headline.json").read_text())) <= set(DESCRIPTIONS)


def made_up(runs):
    """Lines as a run would give them: hotter settings are right more often, up to 0.7, then less."""
    lines = {}
    for key, run_ in runs.items():
        heat = dict(run_.options).get("temperature", 1.0)
        right = round(10 * (1 - abs(heat - 0.7)))
        lines[key] = [
            {
                "item": f"{i:03d}",
                "sample": 0,
                "correct": int(i < right),
                "temperature": 0.5 + 0.02 * i,
                "top_p": 0.9,
                "drawn": 1 + i % 2,
            }
            for i in range(10)
        ]
    return lines


@pytest.mark.parametrize("module", ["scores", "pass_at_k", "sweep", "ablation", "control", "rivals"])
def test_every_study_can_say_what_it_runs(module):
    study = import_module(f"lib.studies.autodeco.{module}").Study(items=10)
    later = study.later_runs(made_up(study.runs()))
    assert len({run.model for run in study.runs().values()}) > 1
    assert not set(later) & set(study.runs()) or module == "sweep"
    assert len(study.sources()) == 16


def test_the_constant_is_the_mean_over_tokens():
    study = AutoDecoScores(items=10, tasks=("qa",))
    lines = made_up(study.runs())
    mean = sum((0.5 + 0.02 * i) * (1 + i % 2) for i in range(10)) / 15
    run_ = study.later_runs(lines)["qa", "constant"]
    assert dict(run_.options)["temperature"] == pytest.approx(mean, abs=6e-4)
    assert dict(run_.options)["top_p"] == pytest.approx(0.9)


def test_the_sweep_takes_the_best_and_of_equals_the_nearest_to_plain_sampling():
    study = Sweep(items=10, tasks=("qa",))
    lines = made_up(study.runs())
    assert best_temperature(lines, "qa", "test") == 0.7
    runs = study.later_runs(lines)
    assert {key[:3] for key in runs} == {("qa", split, 0.7) for split in ("validation", "test")} and len(runs) == 18
    for key in lines:
        lines[key] = [line | {"correct": 1} for line in lines[key]]
    assert best_temperature(lines, "qa", "test") == 1.0
    with pytest.raises(UserError, match="validation_items must be 1 or more"):
        Sweep(validation_items=0)


@pytest.mark.parametrize(
    "module", ["scores", "pass_at_k", "sweep", "ablation", "control", "real", "control_real", "rivals"]
)
def test_a_study_says_in_words_and_verdicts_what_it_found(module):
    """From made-up responses: the reading, the ledger and the headlines need nothing else."""
    study = import_module(f"lib.studies.autodeco.{module}").Study(items=10, samples=2)
    lines = doubled(made_up(study.runs()))
    study.__dict__["lines"] = lines | doubled(made_up(study.later_runs(lines)))
    assert all(line.startswith("- ") for line in study.reading().splitlines())
    verdicts = {text.split(",")[0] for text in study.ledger().verdict}
    assert verdicts and verdicts <= set(VERDICTS)
    for entry in study.headlines().values():
        assert entry["from"] == study.notebook


def doubled(lines):
    """Each response twice, as two samples, with what a summary asks of it."""
    cost = {"target_forwards": 3, "positions": 3, "tokens_kept": 3, "seconds": 0.1, "joules": None, "status": "ok"}
    return {key: [row | cost | {"sample": s} for row in rows for s in (0, 1)] for key, rows in lines.items()}
