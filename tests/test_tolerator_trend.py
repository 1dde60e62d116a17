"""The trend's study: what differs between its methods, its lines on made answers, what is foretold."""

import math

import numpy as np
import pandas as pd
import pytest

from lib.reporting.claims import HOLDS, UNTESTABLE
from lib.studies.tolerator import trend, trend_gains
from lib.studies.tolerator.trend import CAPABILITY, FIT, STRICTNESS, Study, training_of
from lib.studies.tolerator.trend_gains import FORMS, after

ITEMS = 200
MODELS = ("study-dlm", "study-dlm-on", "dlm-2m@300", "dlm-2m", "dlm-6m-1", "dlm-6m-2", "dlm-20m@300", "dlm-20m")
ABLE = dict(zip(MODELS, (50, 60, 20, 30, 55, 45, 35, 80), strict=True))
TASKS = ("math", "logic")


def made(correct):
    return [{"item": f"{i:03d}", "sample": 0, "correct": int(c)} for i, c in enumerate(correct)]


def answers(rng, share):
    """A share right in %, exactly, of items in random order."""
    return made(rng.permutation(ITEMS) < round(ITEMS * share / 100))


@pytest.fixture
def study():
    """Gains of 4 points for 10 of capability, 10 for logic above math, at the published rates; none elsewhere."""
    found, rng = Study(models=MODELS, tasks=TASKS, items=ITEMS, shares=(4,)), np.random.default_rng(0)
    lines = {}
    for task, model, share, method in found.runs():
        able = ABLE[model] if share == 1 else 40
        gain = 0.4 * ABLE[model] + 10 * (task == "logic") - 15 if method == "published rates" else 0
        lines[task, model, share, method] = answers(rng, able + gain + rng.normal(0, 1))
    found.__dict__["lines"] = lines
    sizes = {"study": 7e6, "dlm-2m": 2e6, "dlm-6m": 7e6, "dlm-20": 2e7}
    found.__dict__["strict"] = pd.DataFrame(
        {
            "task": task,
            "model": model,
            "parameters": sizes[model.partition("@")[0][:6].removesuffix("-")],
            "strictness": 0.6 + 0.2 * (task == "logic"),
        }
        for task in TASKS
        for model in MODELS
    )
    return found


def test_refinement_alone_differs():
    study = Study(tasks=("math", "terse", "logic"))
    for (task, model, share, method), run in study.runs().items():
        options = run.resolved()
        if method in FORMS:
            plain = study.runs()[task, model, share, "vanilla"].resolved()
            assert options.forwards == plain.steps == -(-options.canvas // share)
            assert options.fill_up.to_dict() | {"steps": plain.steps} == plain.to_dict()
            assert options.refine_temperature == options.temperature
            assert options.refine_eot_lambda == options.eot_lambda == plain.eot_lambda
    runs = study.runs()
    assert {run.resolved().steps for key, run in runs.items() if key[2] == 1} == {96, 48, 90}


def test_the_lines_find_what_is_in_the_answers(study):
    e = study.slope("published rates", CAPABILITY)
    assert e.low < 4 < e.high and e.high - e.low < 2 and e.n == len(MODELS) and e.p < 0.05
    strict = study.slope("published rates", STRICTNESS)
    assert strict.low < 5 < strict.high and strict.high - strict.low < 2
    flat = study.slope("mild rates", CAPABILITY)
    assert flat.low < 0 < flat.high
    verdicts = {claim.says: claim.verdict for claim in study.claims()}
    assert [v for says, v in verdicts.items() if "published" in says] == [HOLDS, HOLDS]
    assert study.headlines()["tolerator_gain_per_capability"]["n"] == len(MODELS)
    told = study.extrapolated().set_index(["form", "at"]).loc["published rates"]
    at = told.loc["70.2 % right, the most printed"]
    assert at.low < 0.4 * 70.18 - 15 < at.high, "that of math"
    assert list(told.index) == ["70.2 % right, the most printed"], "by size it is wider than a gain can be"
    by_size = study.line("published rates", trend.BOTH, trend.SIZE, lambda model: "@" not in model)
    assert by_size.n == 6, "of the whole trainings"


def test_kept_steps_are_of_one_training_and_too_few_make_no_line(study):
    assert training_of("dlm-20m@300") == training_of("dlm-20m") != training_of("dlm-2m")
    assert training_of("study-dlm-on") == training_of("study-dlm")
    few = Study(models=MODELS[:4], tasks=TASKS, items=ITEMS, shares=(4,))
    few.__dict__.update(lines={k: v for k, v in study.lines.items() if k[1] in few.models}, strict=study.strict)
    assert few.slopes.empty and few.headlines() == {} and few.extrapolated().empty
    assert {claim.verdict for claim in few.claims()} == {UNTESTABLE}
    assert set(few.ledger()["here"]) == {"not measured"}


def test_a_model_that_cannot_do_a_task_is_on_no_line_there(study):
    study.__dict__["capability"] = study.capability | {("math", "dlm-2m@300"): trend.FLOOR - 1}
    line = study.line("mild rates", 4, CAPABILITY)
    assert len(line.cells) == len(TASKS) * len(MODELS) - 1


def test_a_training_that_has_its_cells_for_itself_counts_for_no_line(study):
    """Of three trainings one is able on logic alone, where no other is: two are left."""
    models = ("study-dlm", "study-dlm-on", "dlm-2m@300", "dlm-2m", "dlm-20m")
    few = Study(models=models, tasks=TASKS, items=ITEMS, shares=(4,))
    few.__dict__.update(lines={k: v for k, v in study.lines.items() if k[1] in models}, strict=study.strict)
    assert few.line("mild rates", 4, CAPABILITY).n == len(models)
    unable = {("math", "dlm-20m"), *(("logic", model) for model in models[:-1])}
    few.__dict__["capability"] = few.capability | dict.fromkeys(unable, 0.0)
    assert few.line("mild rates", 4, CAPABILITY) is None


def test_slopes_over_both_budgets_alone_are_tested(study):
    tested = study.slopes.verdict != ""
    assert set(study.slopes[tested].share) == {trend.BOTH} and set(study.slopes[tested].tests) == {6}
    e = study.slope("published rates", CAPABILITY)
    assert e.tests == 6 and study.slope("published rates", CAPABILITY, FIT).p is None
    assert not any(claim.by_items for claim in study.claims()), "more questions make no more models"


def test_a_slope_is_judged_by_t_at_the_level_of_its_table(study):
    (claim,) = (c for c in study.claims() if "capability" in c.says and c.says.endswith("TOLERATOR, mild rates"))
    line = study.line("mild rates", trend.BOTH, CAPABILITY)
    e = line.at(np.eye(line.x.shape[1])[-1], level=1 - 0.05 / 6)
    assert claim.verdict == "undecided" and (claim.ruling.low, claim.ruling.high) == pytest.approx((e.low, e.high))


def test_refining_in_words_leaves_out_what_few_answers_say(study):
    rows = [
        {"task": "math", "model": model, "share": 4, "form": "mild rates", "survival": 100 * k / 8,
         "survival_n": 9 if model == MODELS[0] else 10, "repair": 1.0, "repair_n": 3}
        for k, model in enumerate(sorted(MODELS, key=lambda m: study.capability["math", m]))
    ]  # fmt: skip
    study.__dict__["refining"] = pd.DataFrame(rows[::-1])
    few = [k for k, row in enumerate(rows) if row["survival_n"] == 9]
    ends = [row["survival"] for k, row in enumerate(rows) if k not in few]
    said = f"survival of one refinement in %, weakest to ablest: math {ends[0]:.0f} to {ends[-1]:.0f}"
    assert study.refining_in_words() == [f"**mild rates**, {said}"], "and nothing of repair"


def test_cells_at_an_end_are_not_on_the_line_of_those_that_are_fit(study):
    """Vanilla at 10 % and at 90 % leave 40 %: the slope over the fit cells does not see what these gain."""
    for key in [key for key in study.lines if key[1] == "dlm-20m" and key[2:] == (4, "vanilla")]:
        study.lines[key] = answers(np.random.default_rng(1), 90)
    for key in [key for key in study.lines if key[1] == "dlm-2m" and key[2:] == (4, "vanilla")]:
        study.lines[key] = answers(np.random.default_rng(1), 10)
    fit, whole = (study.slope("published rates", CAPABILITY, share) for share in (FIT, trend.BOTH))
    assert fit.n == len(MODELS) - 2 and whole.n == len(MODELS)
    assert fit.low < 4 < fit.high and whole.value < 0, "what is left to gain decides the slope over all cells"


def test_what_survival_and_repair_foretell():
    assert after(0.6, 0.9, 0.2, 1) == pytest.approx(0.6 * 0.9 + 0.4 * 0.2)
    assert after(0.6, 0.9, 0.2, 500) == pytest.approx(0.2 / (1 - 0.9 + 0.2)), "where losses and gains are equal"
    assert after(1.0, 0.9, math.nan, 1) == 0.9 and math.isnan(after(1.0, 0.9, math.nan, 2))
    assert after(0.0, math.nan, 0.2, 1) == pytest.approx(0.2)


def test_it_is_decoded_measured_and_written(random_models, tmp_path, monkeypatch):
    """With a random network, which is on no line: every page's part is there."""
    from lib.running import one_batch

    monkeypatch.setattr(trend_gains, "model_of", one_batch.model_of)
    study = Study(items=2, tasks=("qa",), shares=(4,), out=str(tmp_path / "out"))
    study.save()
    assert list(study.refining.form) == ["published rates", "mild rates"]
    assert study.refining.rate.tolist() == [0.6, 0.15] and (study.refining.repair_n <= 2).all()
    assert len(study.strict) == 1 and study.strict.n.tolist() == [2]
    assert len(study.gains) == 4 and "no line" in study.reading()
