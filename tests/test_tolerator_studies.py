"""TOLERATOR's studies: what is compared with what, counts that must add up, kinds of errors."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.analysis.interleaved import time_ratio
from lib.analysis.stats import paired_difference, paired_mean_difference
from lib.errors import UserError
from lib.models.registry import FAMILIES
from lib.reporting.claims import CLAIM, REPEAT, UNTESTABLE
from lib.running.run import Run
from lib.studies.tolerator import answer_errors, pass_at_k, rivals, steps
from lib.studies.tolerator import (
    controls as tolerator_controls,
)
from lib.studies.tolerator import (
    cost as tolerator_cost,
)
from lib.studies.tolerator import (
    eot as tolerator_eot,
)
from lib.studies.tolerator import (
    rate as tolerator_rate,
)
from lib.studies.tolerator import (
    split as tolerator_split,
)
from lib.studies.tolerator.base import BUDGETS, canvas_of, forwards_at, over_tasks, shared
from lib.studies.tolerator.contrasts import fewest_over_most, others_over_code
from lib.studies.tolerator.refinements import recorded
from lib.studies.tolerator.scores import Study as Scores
from lib.tasks import get_task
from lib.tasks.base import Item
from lib.tolerator import Vanilla

QA = {"items": 3, "samples": 1, "tasks": ("qa",)}


def made(correct):
    """Lines of a run with these outcomes, one sample an item."""
    return [{"item": f"{i:03d}", "sample": 0, "correct": int(c)} for i, c in enumerate(correct)]


def test_over_tasks_is_the_mean_of_the_tasks_differences():
    a, b = [1, 1, 0, 0], [0, 0, 0, 0]
    e = over_tasks([(made(a), made(b)), (made(b), made(a)), (made(a), made(b))])
    assert e.value == pytest.approx(100 * (0.5 - 0.5 + 0.5) / 3) and e.n == 12
    stacked = paired_difference(*(np.array([x + y + x])[0][:, None] for x, y in ((a, b), (b, a))))
    assert (e.low, e.high, e.p) == (100 * stacked.low, 100 * stacked.high, stacked.p), "as one task of twelve items"


def test_tasks_of_different_sizes_weigh_the_same():
    """HumanEval has 164 items where 256 are asked for: the mean is that of the tasks' means, not of all items."""
    few, many = ([1, 1, 0, 0], [0, 0, 0, 0]), ([0] * 40, [1] * 10 + [0] * 30)
    pairs = [(made(few[0]), made(few[1])), (made(many[0]), made(many[1]))]
    e = over_tasks(pairs)
    assert (e.value, e.n) == (pytest.approx(100 * (0.5 - 0.25) / 2), 44)
    assert e.low < 0 < e.high and 0 < e.p <= 1
    back = over_tasks([(y, x) for x, y in pairs])
    assert (back.value, back.low, back.high, back.p) == pytest.approx((-e.value, -e.high, -e.low, e.p))
    alone = [paired_mean_difference(np.array(x, float), np.array(y, float)) for x, y in (few, many)]
    assert e.high - e.low == pytest.approx(np.hypot(*(x.high - x.low for x in alone)) * 100 / 2, rel=0.1), (
        "drawn anew within each task, and one task apart from the other"
    )
    same = over_tasks([(made([1] * 4), made([0] * 4)), (made([1] * 40), made([0] * 40))])
    assert same.value == 100 and 0 < same.low < 100 == same.high, "no width would claim too much"
    with pytest.raises(ValueError, match="not paired"):
        over_tasks([pairs[0], (pairs[1][0], [line | {"item": "x"} for line in pairs[1][1]])])


def test_a_rate_is_judged_over_tasks_of_different_sizes():
    study = tolerator_rate.Study(items=4, samples=1, tasks=("qa", "code"), gammas=(0.4, 0.8))
    right = {tolerator_rate.PUBLISHED_RATE: [1, 1, 1, 0], tolerator_rate.SAME_AMOUNT: [1, 0, 0, 0]}
    costs = {"target_forwards": 1, "positions": 1, "tokens_kept": 1, "status": "ok", "seconds": 0.1, "joules": None}
    study.__dict__["lines"] = {
        (task, name): [
            line | costs | {"changed": [9, i % 2]} for i, line in enumerate(made([*right.get(name, [0] * 4)])[:count])
        ]
        for task, count in (("qa", 4), ("code", 3))
        for name in study.variants()
    }
    assert study.ledger()["here"].iloc[0].startswith(f"{100 * (0.5 + 2 / 3) / 2:.1f} [")
    assert study.unrest().value == pytest.approx(100 * 3 / 7), "what the last iteration changed, not the first"
    assert study.claims()[1].verdict == UNTESTABLE, "no number is printed, and a bound would be ours"


def test_pairs_are_of_the_samples_that_both_have():
    three = [{"item": f"{i}", "sample": s, "correct": int(s > 0)} for i in range(2) for s in range(3)]
    one = made([1, 0])
    a, b = shared(three, one)
    assert [line["sample"] for line in a] == [0, 0] and b == one
    assert shared(one, three) == (b, a) and shared(three, three) == (three, three)


def test_the_mean_gain_is_over_tasks_and_budgets_of_the_same_items():
    study = Scores(items=4, samples=1, tasks=("qa", "code"))
    right = {"tolerator": {4: [1, 1, 0, 0], 8: [1, 0, 0, 0]}, "vanilla": {4: [0, 0, 0, 0], 8: [1, 1, 0, 0]}}
    study.__dict__["lines"] = {
        (task, method, forwards): made(values)
        for task in study.tasks
        for method, budgets in right.items()
        for forwards, values in budgets.items()
    }
    e, theirs = study.mean_gain("vanilla")
    assert (e.value, e.n, theirs) == (pytest.approx(100 * (3 - 2) / 8), 8, pytest.approx(25))


def shares(*counts, of=8):
    """[budgets, items]: so many of the items right at each budget."""
    return np.array([[1.0] * n + [0.0] * (of - n) for n in counts])


def test_gains_at_the_fewest_forwards_minus_those_at_the_most():
    plain = {"qa": shares(2, 4), "math": shares(4, 4, of=10), "full": shares(4, 8), "floor": shares(0, 4)}
    ours = {"qa": shares(6, 4), "math": shares(5, 2, of=10), "full": shares(0, 0), "floor": shares(8, 0)}
    e = fewest_over_most(ours, plain)
    assert e.value == pytest.approx((50 + 30) / 2) and e.low < e.value < e.high and e.n == 18, "full and floor decide"
    assert fewest_over_most(plain, ours | {"qa": shares(2, 4), "math": shares(4, 4, of=10)}).value == 0
    one = {"qa": shares(4)}
    assert np.isnan(fewest_over_most(one, one).value), "of one budget nothing can be said"


def test_gains_off_code_are_of_other_items_than_those_on_it():
    plain = {"qa": shares(4, 4), "math": shares(2, 8, of=10), "code": shares(4, 0)}
    ours = {"qa": shares(8, 6), "math": shares(4, 9, of=10), "code": shares(2, 8)}
    e = others_over_code(ours, plain, ["code"])  # of code the first budget alone has room
    assert e.value == pytest.approx(((50 + 25) / 2 + (20 + 10) / 2) / 2 + 25) and e.low < e.value < e.high
    assert 0 < e.p < 1 and e.n == 26
    assert np.isnan(others_over_code(ours, plain, []).value) and np.isnan(others_over_code(ours, plain, plain).value)
    same = {"qa": np.full((1, 40), 0.5), "code": np.full((1, 40), 0.5)}
    e = others_over_code({"qa": same["qa"] + 0.5, "code": same["code"] + 0.25}, same, ["code"])
    assert e.value == 25 and 0 < e.low < 25 < e.high, "that tasks differ is no noise, that nothing does no certainty"


def test_the_interval_of_gains_off_code_covers():
    """Of normal sizes: 95 % of intervals have the true contrast, 0.25, in them; by tasks taken as noise all had."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        plain = {task: random.binomial(1, 0.5, (1, 60)).astype(float) for task in ("qa", "code")}
        better = {"qa": 0.75, "code": 0.5}
        ours = {task: random.binomial(1, better[task], (1, 60)).astype(float) for task in plain}
        e = others_over_code(ours, plain, ["code"])
        covered += e.low <= 25 <= e.high
    assert 180 <= covered <= 198


def test_claims_on_gains_read_budgets_in_order_and_samples_together():
    study = Scores(items=2, samples=2, tasks=("qa",))
    right = {"tolerator": {16: [0, 0, 1, 0], 4: [1, 1, 0, 1]}, "vanilla": {16: [1, 0, 1, 0], 4: [0, 1, 0, 0]}}
    study.__dict__["lines"] = {
        ("qa", method, forwards): [{"item": f"{i // 2}", "sample": i % 2, "correct": c} for i, c in enumerate(values)]
        for method, budgets in right.items()
        for forwards, values in budgets.items()
    }
    assert study._right("tolerator")["qa"].tolist() == [[1, 0.5], [0, 0.5]], "the fewest forwards first"


def test_the_mean_gain_of_tasks_of_different_sizes_is_the_mean_of_theirs():
    study = Scores(items=4, samples=1, tasks=("qa", "code"))
    study.__dict__["lines"] = {
        (task, method, 4): made([int(method == "tolerator" and task == "qa")] * count)
        for task, count in (("qa", 2), ("code", 8))
        for method in ("tolerator", "vanilla")
    }
    e, theirs = study.mean_gain("vanilla")
    assert (e.value, e.n, theirs) == (pytest.approx(50), 10, 0)


def test_the_penalty_is_one_claim_over_the_tasks_and_repeats_by_task():
    study = tolerator_eot.Study(items=4, samples=1, tasks=("qa", "math"))
    costs = {"target_forwards": 1, "positions": 1, "tokens_kept": 1, "status": "ok", "seconds": 0.1, "joules": None}
    better = {("tolerator", "logit_div"): [1, 1, 1, 0], ("draft", "prob_div"): [1, 0, 0, 1]}
    study.__dict__["lines"] = {
        key: [line | costs for line in made(better.get(key[1:3], [1, 0, 0, 0]) if key[3] < 2 else [0] * 4)]
        for key in study.runs()
    }
    claims = {(claim.says, claim.kind): claim.here for claim in study.claims()}
    assert [kind for _, kind in claims].count("claim") == 2 and len(claims) == 3 + 3 * 2
    answers = claims["the EoT penalty improves TOLERATOR's answers over all tasks", "claim"]
    assert (answers.value, answers.n, answers.tests) == (50, 8, 3)
    assert claims["the EoT penalty by the paper's formula improves drafts over all tasks", "claim"].value == 25
    assert claims["the EoT penalty by the paper's code improves drafts on qa", "repeat"].value == 0


@pytest.mark.parametrize("recipe", [{}, {"temperature": 1.0, "top_p": 0.9}], ids=["llada", "dream"])
def test_the_drafts_whose_penalty_is_judged_are_what_tolerator_refines(recipe):
    runs = tolerator_eot.Study(items=2, tasks=("qa", "math"), **recipe).runs()
    drafts = {key: run for key, run in runs.items() if key[1] == "draft"}
    assert len(drafts) == 2 * 3
    for (task, _, form, strength), run in drafts.items():
        refined = runs[task, "tolerator", form, strength].resolved()
        assert run.resolved() == refined.fill_up, (form, strength)


def test_a_models_recipe_is_that_of_its_scripts_and_llada_s_by_default():
    """Dream: vanilla at temperature 1 cut at top-p 0.9, TOLERATOR's fill-up cut alike; the peers have it anyway."""
    dream, plain = {"temperature": 1.0, "top_p": 0.9}, {}
    for kind in (Scores, tolerator_split.Study, tolerator_rate.Study, tolerator_eot.Study, tolerator_cost.Study):
        for run in kind(**QA, **plain).runs().values():
            if run.method in ("vanilla", "tolerator"):
                assert run.resolved().top_p == 1 and run.resolved().temperature in (0.3, 0.5)
        runs = kind(**QA, **dream).runs()
        for run in runs.values():
            options = run.resolved()
            if run.method == "vanilla":
                drafts = [key[1] == "draft" for key, own in runs.items() if own == run]
                filled = options.eot_form == "logit_div" and kind is tolerator_split.Study  # the fill-up alone
                assert options.temperature == (0.5 if filled or any(drafts) else 1.0)
            if run.method == "tolerator":
                assert (options.temperature, options.refine_temperature) == (0.5, 0.3)
            if run.method in ("vanilla", "tolerator", "rcr", "remdm"):
                assert options.top_p == 0.9
    assert FAMILIES["dream"].rule == "entropy", "the order is that of the family"


def test_a_right_end_behind_false_steps_is_told_apart():
    assert [steps._kind(1, error) for error in ("wrong plan", "another function", "unknown name")] == ["right"] * 3
    assert steps._kind(1, "wrong arithmetic") == "right by false working" and steps._kind(0, "x") == "x"


def test_the_split_keeps_the_total_and_the_fill_up():
    study = tolerator_split.Study(**QA, rhos=(0.1, 0.9), added=(0, 4, 16))
    canvas, runs = canvas_of("qa"), study.runs()
    for (_, what, point, forwards, value), run in runs.items():
        options = run.resolved()
        if point:
            assert (options.gamma_max, options.gamma_min) == {"published": (0.8, 0.4), "mild": (0.2, 0.1)}[point]
        if what == "rho":
            assert options.forwards == forwards == canvas and options.rho == value
        elif what == "added" and value:
            assert (options.fill_steps, options.refine_steps) == (canvas // 2, value)
    none = runs["qa", "added", "", canvas // 2, 0].resolved()
    assert isinstance(none, Vanilla)
    assert none == runs["qa", "added", "published", canvas // 2 + 4, 4].resolved().fill_up, (
        "without refinement it is the fill-up"
    )
    assert {0.1, 0.5, 0.9} == {key[4] for key in runs if key[1] == "rho"}, "the published split is always there"


def test_every_rate_is_in_the_grid_once():
    variants = tolerator_rate.Study(**QA, gammas=(0.2, 0.4, 0.8)).variants()
    rates = [
        (v.get("gamma_max", 0.8), v.get("gamma_min", 0.4))
        for name, v in variants.items()
        if name == tolerator_rate.PUBLISHED_RATE or {"gamma_max", "gamma_min"} <= set(v)
    ]
    assert sorted(rates) == [(0.2, 0.2), (0.4, 0.2), (0.4, 0.4), (0.6, 0.6), (0.8, 0.2), (0.8, 0.4), (0.8, 0.8)]


def test_studies_share_their_runs():
    """What another notebook decodes at the same size is the same run, and so is decoded once."""
    shared = set(Scores(**QA).runs().values())
    cost = tolerator_cost.Study(**QA).runs()
    assert shared & set(cost.values()) == {run for run in shared if run.model == "study-dlm"}
    controls = tolerator_controls.Study(**QA).runs()
    for variant in ("vanilla", "TOLERATOR"):
        assert {controls["qa", budget, variant] for budget in ("middle", "full")} <= shared
    plain = {key[3]: run for key, run in rivals.Study(**QA).runs().items() if key[1:3] == ("middle", rivals.PLAIN)}
    assert {plain[name] for name in ("vanilla", "TOLERATOR", "RCR", "ReMDM")} <= shared
    assert {plain[n] for n in ("vanilla, greedy", "Settle (ours)")} <= set(controls.values())
    stepped = steps.Study(**QA).runs()
    for budget in ("middle", "full"):
        assert stepped["qa", "mild", budget] == controls["qa", budget, "mild TOLERATOR, fill-up at 0.3"]
        assert stepped["qa", "tolerator", budget] == controls["qa", budget, "TOLERATOR"]
    eot = tolerator_eot.Study(**QA, lambdas=(1.2,)).runs()
    assert eot["qa", "rcr", "off", 1.0] in shared and eot["qa", "tolerator", "logit_div", 1.2] in shared
    full = canvas_of("qa")
    split = tolerator_split.Study(**QA).runs()
    assert split["qa", "rho", "published", full, 0.5] in shared
    assert split["qa", "rho", "mild", full, 0.5] == controls["qa", "full", "mild TOLERATOR"]
    rate = tolerator_rate.Study(**QA).runs()
    assert rate["qa", tolerator_rate.PUBLISHED_RATE] in shared
    assert rate["qa", "0.2 to 0.1, cosine"] == controls["qa", "full", "mild TOLERATOR"]


def test_controls_differ_in_what_they_name():
    """All have one budget, and each question's two sides differ in one thing, but for those about whole methods."""
    study = tolerator_controls.Study(**QA | {"samples": 3})
    runs = study.runs()
    full = {variant: run for (_, budget, variant), run in runs.items() if budget == "full"}
    for run in full.values():
        options = run.resolved()
        assert (getattr(options, "forwards", None) or options.steps) == canvas_of("qa")
    fill = full["TOLERATOR, fill-up at 0.3"].resolved()
    assert fill.temperature == fill.refine_temperature == full["vanilla"].resolved().temperature
    both, plain = full["vanilla, EoT penalty"].resolved(), fill.fill_up
    assert [getattr(both, n) for n in ("temperature", "eot_form", "eot_lambda", "rule", "top_p")] == [
        getattr(plain, n) for n in ("temperature", "eot_form", "eot_lambda", "rule", "top_p")
    ]
    asked = {variant for _, a, b in tolerator_controls.QUESTIONS for variant in (a, b)}
    assert asked == set(full)
    assert set(tolerator_controls.HEADLINES.values()) <= {q for q, _, _ in tolerator_controls.QUESTIONS}
    several = {variant for variant, run in full.items() if run.samples == 3}
    assert several == {"TOLERATOR", "vanilla", "vanilla, EoT penalty", "Settle (ours)"}
    middle_only = tolerator_controls.Study(**QA, budgets=()).runs()
    assert {budget for _, budget, _ in middle_only} == {"middle", "validation"}
    with pytest.raises(UserError, match="no budget"):
        tolerator_controls.Study(**QA, budgets=("ful",)).runs()


def test_every_method_is_given_the_same_forwards_on_every_canvas():
    """And CoRe revises at least once in them, or it would be vanilla decoding."""
    study = rivals.Study(items=1, samples=1, budgets=tuple(BUDGETS))
    for (short, budget, _, name), run in study.runs().items():
        options, forwards = run.resolved(), forwards_at(budget, canvas_of(short))
        assert (getattr(options, "forwards", None) or options.steps) == forwards >= 4
        if name == "CoRe":
            steps_, revisions = options.plan
            assert revisions and steps_ + len(revisions) == forwards
    canvas = canvas_of("math")
    assert [forwards_at(budget, canvas) for budget in ("full", "four", "eight")] == [96, 24, 12]
    assert forwards_at("eight", canvas_of("code")) == 4, "no fewer"
    assert forwards_at("eight", canvas_of("logic")) == forwards_at("middle", canvas_of("logic")) == 8, "no more"


def test_rivals_are_compared_at_equal_temperature():
    runs = rivals.Study(**QA).runs()
    own = {key[3]: run.resolved() for key, run in runs.items() if key[1:3] == ("middle", rivals.PLAIN)}
    assert set(rivals.EQUAL) == set(own) - {"vanilla", "vanilla, greedy"}
    for name, (plain, other) in rivals.EQUAL.items():
        refined = getattr(own[name], "refine_temperature", own[name].temperature)
        assert refined == own[plain].temperature == own[other].refine_temperature
    corrected = {key[3] for key, run in runs.items() if run.model == "study-corrector"}
    assert corrected == set(rivals.CORRECTED)
    assert {run.model for run in rivals.Study(**QA, corrector="").runs().values()} == {"study-dlm"}


def rivals_of(right, **given):
    """A study of the rivals with these outcomes by (task, network, method); the others are all wrong."""
    study = rivals.Study(items=4, samples=1, budgets=("middle",), **given)
    none = [0] * 4
    study.__dict__["lines"] = {key: made(right.get((key[0], *key[2:]), none)) for key in study.runs()}
    return study


def test_a_gain_is_compared_with_a_gain_on_the_same_items():
    right = {
        ("math", "plain", "TOLERATOR"): [1, 1, 1, 0],
        ("math", "plain", "vanilla"): [0, 0, 1, 0],
        ("terse", "plain", "vanilla"): [1, 0, 0, 0],
        ("math", "corrector", "TOLERATOR"): [1, 1, 1, 1],
        ("math", "corrector", "vanilla"): [1, 1, 1, 0],
    }
    study = rivals_of(right, tasks=("math", "terse"))
    rows = study.contrasts.set_index(["method", "contrast"]).difference
    assert rows["TOLERATOR", "worded - terse"] == pytest.approx(100 * (2 / 4 + 1 / 4))
    assert rows["TOLERATOR", "corrector - plain"] == pytest.approx(100 * (1 / 4 - 2 / 4))
    assert rows["WINO", "worded - terse"] == 0
    values = {name: entry["value"] for name, entry in study.headlines().items()}
    assert values == {
        "tolerator_vs_vanilla_worded": 50,
        "tolerator_vs_vanilla_mean": 50,
        "tolerator_vs_vanilla_terse": -25,
        "tolerator_vs_vanilla_corrector": 25,
        "tolerator_without_penalty_vs_published": -75,
        "wino_vs_vanilla_worded": 0,
    }, "the corrector is judged on the tasks without the contrast"


def test_a_claim_that_tolerator_beats_a_rival_turns_the_difference():
    study = rivals_of({("math", "plain", rivals.BARE): [1, 1, 1, 0]}, tasks=("math",), corrector="")
    costs = dict.fromkeys(("target_forwards", "positions", "tokens_kept", "seconds"), 1) | {
        "status": "ok",
        "joules": None,
    }
    for lines in study.lines.values():
        for line in lines:
            line.update(costs)
    here = {claim.says: claim.here.value for claim in study.claims()}
    assert here["TOLERATOR, no penalty, 0.3 beats RCR, mean of the tasks, middle budget"] == 75
    assert here["RCR beats vanilla, mean of the tasks, middle budget"] == 0
    costly = {claim.says: rivals.TWICE in claim.unit for claim in study.claims()}
    assert costly["WINO beats vanilla, greedy, mean of the tasks, middle budget"]
    assert costly["TOLERATOR, greedy beats WINO, mean of the tasks, middle budget"], "where WINO loses, too"
    assert not costly["RCR beats vanilla, mean of the tasks, middle budget"]
    assert "TOLERATOR, no penalty, 0.3 beats TOLERATOR, no penalty, 0.3, mean of the tasks, middle budget" not in here


def test_texts_that_differ_are_counted_of_each_item():
    texts = {("b", 0): ("x", 1), ("b", 1): ("x ", 1), ("b", 2): ("y", 1), ("b", 3): ("z", 0), ("a", 0): ("x", 0)}
    texts |= {("a", n): ("x", 0) for n in (1, 2, 3)}
    lines = [{"item": i, "sample": n, "text": t, "correct": c} for (i, n), (t, c) in texts.items()]
    every, right = pass_at_k.different(lines)
    assert every.tolist() == [0.25, 0.75] and right.tolist() == [0, 0.5]


def test_settings_were_tried_on_validation_items():
    runs = tolerator_controls.Study(**QA, validation_items=7).runs()
    tried = [run for (_, budget, _), run in runs.items() if budget == "validation"]
    assert tried and {(run.split, run.items, run.samples) for run in tried} == {("validation", 7, 1)}
    assert all(run.split == "test" for (_, budget, _), run in runs.items() if budget != "validation")


def test_a_trend_is_the_mean_of_the_items_slopes():
    study = tolerator_split.Study(items=4, samples=1, tasks=("qa",), rhos=(0.5,), added=(0, 2, 4, 8))
    right = {2: [0, 0, 1, 0], 4: [0, 1, 1, 0], 8: [1, 1, 1, 0]}
    fill = canvas_of("qa") // 2
    study.__dict__["lines"] = {
        ("qa", "added", point, fill + n, n): made(values)
        for point in ("published", "mild")
        for n, values in right.items()
    }
    e = study.slope(("qa",), "published")
    assert e.value == pytest.approx(100 * np.mean([0.5, 0.5, 0.0, 0.0])) and e.low <= e.value <= e.high
    both = tolerator_split.Study(items=4, samples=1, tasks=("qa", "math"), rhos=(0.5,), added=(0, 2, 4, 8))
    fell = {("math", "added", p, canvas_of("math") // 2 + n, n): made([int(n == 2)] * 4)
            for p in ("published", "mild") for n in right}  # fmt: skip
    both.__dict__["lines"] = study.lines | fell
    alone = both.slope(("math",), "published").value
    assert both.slope(both.tasks, "published").value == pytest.approx((25 + alone) / 2) and alone < 0
    costs = {"target_forwards": 1, "positions": 1, "tokens_kept": 1, "status": "ok", "seconds": 0.1, "joules": None}
    both.__dict__["lines"] = {key: [line | costs for line in made([1, 0, 1, 0])] for key in both.runs()}
    claims = both.claims()
    assert [c.kind for c in claims] == [CLAIM] * 2 + [REPEAT] * 4 and "over all tasks" in claims[0].says
    assert [c.where for c in claims].count("Table 2") == 3, "of the published rate: all tasks, and two by task"
    study.__dict__["lines"] = {key: lines for key, lines in both.lines.items() if key[0] == "qa"}
    assert [c.kind for c in study.claims()] == [CLAIM] * 2, "one task is all of them"


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (tolerator_split, {"rhos": (0.5,), "added": (0, 2, 4)}),
        (tolerator_rate, {"gammas": (0.4, 0.8), "locks": (2,), "updates": (0.5,)}),
        (tolerator_eot, {"lambdas": (1.2,)}),
        (tolerator_cost, {"rounds": 2, "batch": 2}),
        (tolerator_controls, {"validation_items": 2}),
        (steps, {}),
        (rivals, {"budgets": ("eight",)}),
        (pass_at_k, {"samples": 3}),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_study_runs_from_responses_to_words(random_models, module, given, tmp_path):
    study = module.Study(**QA | given, out=str(tmp_path / "out"))
    study.save()
    assert study.reading() and all(line.startswith("- ") for line in study.reading().splitlines())
    assert len(study.ledger())


def test_reach_is_the_smallest_budget_that_is_not_lower():
    study = tolerator_cost.Study(items=400, samples=1, tasks=("qa",))
    right = {"rcr": {4: 100, 8: 280, 16: 300, 32: 300}, "remdm": {}}
    right["tolerator"] = {4: 100, 8: 300, 16: 120, 32: 330, 64: 330}
    lines = {}
    for task, method, shape, forwards in study.runs():
        count = right.get(method, {}).get(forwards, 300 if (method, forwards) == ("vanilla", 32) else 50)
        costs = {"target_forwards": forwards, "positions": 1, "tokens_kept": 1, "status": "ok"}
        costs |= {"seconds": 0.1, "joules": None}
        lines[task, method, shape, forwards] = [row | costs for row in made(i < count for i in range(400))]
    study.__dict__["lines"] = lines
    row = study.reach().loc["qa"]
    assert row["RCR"] == "16.0", "280 of 400 is 5 points lower"
    assert row["TOLERATOR"] == "32.0", "what passes once and fails later is not as good from there on"
    assert (row["ReMDM"], row["vanilla"]) == ("no", "32")


def test_batches_decode_the_same_tokens_and_the_ratio_is_of_the_same_work(random_models):
    study = tolerator_cost.Study(**QA, rounds=2, batch=4)
    rows = study.rounds_of_batches
    assert set(rows.work) == {4} and set(rows.variant) == {"one at a time", "batched"} and len(rows) == 4
    assert study.speedup.low <= study.speedup.value <= study.speedup.high


def test_methods_are_timed_on_the_same_prompts_and_their_intervals_hold_together(random_models):
    study = tolerator_cost.Study(**QA, rounds=2, batch=4)
    timed = list(tolerator_cost.METHOD_NAMES.values())
    assert sorted(study.rounds_of_methods.variant) == sorted(2 * timed) and set(study.rounds_of_methods.work) == {4}
    draws = np.random.default_rng(0)
    seconds = {name: draws.uniform(1, 2, 40) for name in timed}
    rows = [
        {"round": k, "variant": name, "seconds": seconds[name][k], "work": 4} for name in timed for k in range(40)
    ]
    study.__dict__["rounds_of_methods"] = pd.DataFrame(rows)
    at_once, alone = study.speeds["RCR"], time_ratio(study.rounds_of_methods, "RCR", "vanilla")
    assert at_once.value == pytest.approx(np.median(seconds["RCR"] / seconds["vanilla"])) == alone.value
    assert at_once.low <= alone.low and alone.high <= at_once.high and at_once != alone
    table = study.table_speeds()
    assert table.loc["vanilla", "times vanilla's"] == "" and table.loc["vanilla", "forwards"] == 16


def test_steps_begin_with_the_fill_up_and_end_as_the_runs_do(random_models):
    study = steps.Study(**QA | {"items": 5})
    every = study.stages
    assert not study.other_than_in_the_runs().answers.any()
    stages = every[(every.method == "TOLERATOR") & (every.budget == BUDGETS["full"])]
    canvas = canvas_of("qa")
    assert stages.refinement.tolist() == list(range(canvas // 2 + 1))
    changes = (stages.fixed - stages.broken).fillna(0).cumsum()
    assert np.allclose(stages.right, stages.right.iloc[0] + 100 * changes / 5)
    accuracy = study.summary.set_index(["method", "budget"]).accuracy
    assert stages.right.iloc[-1] == pytest.approx(accuracy["tolerator", "full"])
    short = study.stages_in_short(every=5)
    short = short[short.method == "TOLERATOR"]
    assert short.refinement.tolist() == [0, 5, 10, 15, 16]
    assert short.right.tolist() == [stages.right.iloc[k] for k in (0, 5, 10, 15, 16)]
    assert short.fixed.sum() == stages.fixed.sum() and short.broken.iloc[1] == stages.broken.iloc[1:6].sum()
    assert short.changed.iloc[2] == pytest.approx(stages.changed.iloc[6:11].sum(), abs=0.06)
    run = study.runs()["qa", "tolerator", "full"]
    model, items = steps.model_of("study-dlm", "cpu"), study._items("qa")
    alone, together = recorded(model, run, items[3:4])[-1]["tokens"][0], recorded(model, run, items)[-1]["tokens"][3]
    assert torch.equal(alone, together)
    study.lines["qa", "tolerator", "full"][0]["correct"] ^= 1
    assert study.other_than_in_the_runs().answers.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "text, kind",
    [
        ("8*2=16;8+16=24#24", "wrong plan"),
        ("8*2=17;8+17=25#25", "wrong arithmetic"),
        ("8*2=16;8+16=24#25", "another end than its steps"),
        ("9/2=4.5#4.5", "wrong plan"),
        ("8*2=16;36-8-1=1###2", "malformed"),
        ("8*2=16", "malformed"),
        ("8**9=16#16", "malformed"),
        ("1/0=3#3", "malformed"),
        ("...=5#5", "malformed"),
        ("1.1*3=3.3;3.3-0.2=3.1#3.1", "wrong plan"),
        ("", "malformed"),
    ],
)
def test_kinds_of_wrong_math(text, kind):
    assert answer_errors.math_error(text) == kind


@pytest.mark.parametrize(
    "text, kind",
    [
        ("Ann has 8 x 2 = 16 pears.\nSo she has 8 + 16 = 24.\n#### 24", "wrong plan"),
        ("Ann has 8 x 2 = 17 pears.\n#### 17", "wrong arithmetic"),
        ("Ann has 8 x 2 pears = 16 pears.\n#### 24", "another end than its steps"),
        ("Ann has 8 x 2 = pears.\n#### 16", "malformed"),
        ("Ann has 8 x 2 = 16 pears.", "malformed"),
        ("Ann has pears.\n#### 16", "malformed"),
    ],
)
def test_kinds_of_wrong_math_in_words(text, kind):
    assert answer_errors.worded_error(text) == kind


@pytest.mark.parametrize(
    "text, kind",
    [
        ("    return sum(x for x in xs", "does not parse"),
        ("    return sum(x for x in ys)", "unknown name"),
        ("    return max(x * 2 for x in xs)", "another function"),
        ("    return sorted(xs, key=lambda x: -x)", "another function"),
        ("    return 4 * max(xs) + 1", "other numbers"),
    ],
)
def test_kinds_of_wrong_code(text, kind):
    item = Item("f", 'def f(xs):\n    """Double."""\n', "    return 3 * max(xs) + 12", {})
    assert answer_errors.code_error(text, item) == kind


def test_kinds_of_wrong_grids():
    item = get_task("sudoku6").items("test", 1)[0]
    clues, grid = (item.reference["clues"], item.target)
    blank, given = clues.index("0"), next(i for i, c in enumerate(clues) if c not in "0\n")
    for at, kind in ((blank, "a digit twice"), (given, "another clue")):
        wrong = grid[:at] + str(int(grid[at]) % 6 + 1) + grid[at + 1 :]
        assert not get_task("sudoku6").score(item, wrong).correct
        assert answer_errors.logic_error(wrong, item) == kind
    assert answer_errors.logic_error(grid[:-1], item) == "no grid"


@pytest.mark.parametrize("task", answer_errors.ERRORS)
def test_a_right_answer_has_no_false_working(task):
    for item in get_task(task).items("test", 50):
        kind = answer_errors.ERRORS[task](item.target, item)
        assert kind in ("wrong plan", "a digit twice", "other numbers"), f"{kind}: {item.target}"


def test_the_length_of_a_longer_canvas_is_the_studys_own():
    runs = tolerator_cost.Study(**QA).runs()
    longer = runs["qa", "vanilla", "longer", 16].resolved()
    assert longer.canvas == 48 and longer.steps == 16
    assert runs["qa", "tolerator", "blocks", 16].resolved().block == 8
    assert isinstance(runs["qa", "vanilla", "", 4], Run)
