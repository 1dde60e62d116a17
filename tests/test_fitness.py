"""The rule of which cells are fit, its power against simulated pairs, and the page of the study models."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_survival import FAMILY, HALF, Copies, words

from lib.analysis.fitness import MILDEST, RATES, items_for, least_power, to_compare, to_remask
from lib.analysis.stats import Estimate
from lib.models.registry import Model
from lib.reporting.cards import SCORES
from lib.reporting.claims import HOLDS, OPEN, REFUTED, within
from lib.reporting.collect import DESCRIPTIONS
from lib.studies import fitness, models
from lib.studies.base import SHORT
from lib.studies.fitness import UNFIT, cells_of, refinements
from lib.studies.models import DIFFUSION, FOUR, LEVELS, MIDDLE, TARGET, Study
from lib.studies.tolerator import rivals
from lib.studies.tolerator.base import middle
from lib.tasks import get_task
from lib.tasks.base import Item, Score

REFERENCES = (TARGET, DIFFUSION, DIFFUSION + FOUR)


def share(value, n=100):
    return Estimate(value, value - 5, value + 5, n)


def test_a_reference_is_fit_from_20_to_80_percent():
    assert [to_compare(a).fit for a in (19.9, 20, 50, 80, 80.1)] == [False, True, True, True, False]
    assert "below 20 %" in to_compare(3).why and "above 80 %" in to_compare(98).why


def test_a_method_that_masks_again_needs_right_answers_that_mostly_survive():
    assert to_remask(50, share(50)).fit and not to_remask(50, share(49.9)).fit
    assert not to_remask(90, share(90)).fit, "where there is nothing to gain survival does not help"
    assert not to_remask(50, None).fit and "no right answer" in to_remask(50, None).why
    assert "above 80 %" in to_remask(90, share(10)).why and "below 50 %" in to_remask(90, share(10)).why


def found_in(reference, effect, items, same=0.0, trials=20_000):
    """Share of trials in which McNemar's test without correction finds the effect; a share `same` of the items has
    an answer that is drawn once for both, as far as their chances allow."""
    rng = np.random.default_rng(0)
    u, v = rng.random((2, trials, items))
    v = np.where(rng.random((trials, items)) < same, u, v)
    a, b = u < reference, v < reference + effect
    wins, losses = (b & ~a).sum(1), (a & ~b).sum(1)
    z = (wins - losses) / np.sqrt(np.maximum(wins + losses, 1))
    return (np.abs(z) > 1.959964).mean()


@pytest.mark.parametrize("reference, effect, items", [(0.5, 0.1, 300), (0.3, 0.15, 100), (0.7, -0.08, 400)])
def test_power_is_that_of_simulated_pairs_and_the_least(reference, effect, items):
    power = least_power(reference, effect, items)
    assert power == pytest.approx(found_in(reference, effect, items), abs=0.02)
    assert found_in(reference, effect, items, same=0.6, trials=4000) > power + 0.05


def test_as_many_items_as_are_asked_for_give_the_power():
    for reference, effect in ((0.6, 0.03), (0.25, 0.15), (0.8, -0.1)):
        n = items_for(reference, effect)
        assert least_power(reference, effect, n) >= 0.8 > least_power(reference, effect, n - 1)
    for nothing in ((0.5, 0.0), (0.9, 0.1), (0.0, 0.1), (0.1, -0.2)):
        with pytest.raises(ValueError, match="cannot be had"):
            least_power(*nothing, 100)


def test_a_range_holds_where_the_whole_interval_is_in_it():
    ends = {(30, 70): HOLDS, (15, 40): OPEN, (70, 90): OPEN, (5, 19): REFUTED, (81, 99): REFUTED}
    for (low, high), expected in ends.items():
        assert within(Estimate((low + high) / 2, low, high, 9), 20, 80).verdict == expected


class Letters:
    """Tokens 2 ... 5 as the letters c ... f; padding is not written."""

    def encode(self, text, add_special_tokens):
        return [ord(letter) - ord("a") for letter in text]

    def __call__(self, texts, add_special_tokens):
        return {"input_ids": [self.encode(text, False) for text in texts]}

    def decode(self, ids, skip_special_tokens):
        return "".join(chr(i + ord("a")) for i in ids)


class Copying(Copies):
    def parameters(self):
        yield torch.zeros(1)


def test_refined_answers_are_judged_by_the_task(monkeypatch):
    """With one letter of six masked: right copies survive; of wrong ones those whose odd letter is masked, or its
    twin, are mended, 2 of 6. An answer longer than the canvas is cut."""

    def score(item, text):
        return Score(int(len(text) == 2 * HALF and text[:HALF] == text[HALF:]))

    many = 1500
    task = SimpleNamespace(kind="copy", instruction="", max_new_tokens=2 * HALF)
    task.score_all = lambda pairs: [score(*pair) for pair in pairs]
    monkeypatch.setattr(fitness, "get_task", lambda name: task)
    copies = [Letters().decode(row.tolist(), True) for row in words(2 * many)]
    wrong = [{"c": "d"}.get(text[0], "c") + text[1:] for text in copies[many:]]
    items = [Item(str(i), "c", "") for i in range(2 * many + 1)]
    model = Model("copies", Copying(0.0), Letters(), FAMILY)
    texts = [*copies[:many], *wrong, copies[0] + "c"]
    (row,) = refinements(model, "copies", items, texts, (1e-9,))
    assert (row["right"], row["wrong"], row["survival"]) == (many + 1, many, 100)
    assert row["repair"] == pytest.approx(100 / 3, abs=400 * math.sqrt(2 / 9 / many))
    assert row["repair_low"] < row["repair"] < row["repair_high"]
    (row,) = refinements(model, "copies", items[:many], texts[:many], (0.5,))
    assert row["wrong"] == 0 and math.isnan(row["repair"]) and 0 < row["survival"] < 100


def test_cells_say_what_they_are_fit_for():
    summary = pd.DataFrame({"label": ["a", "b", "c"], "which": "x", "accuracy": [50.0, 50.0, 100.0], "items": 100})
    mild = {"which": "x", "survival_low": 0.0, "survival_high": 99.0, "right": 50}
    survival = pd.DataFrame(
        [{"label": "a", "rate": rate, "survival": 60.0 if rate == MILDEST else 1.0} | mild for rate in RATES]
    )
    cells = cells_of(summary, survival, [10.0, 3.0, 3.0]).set_index("task")
    assert list(cells["compare"]) == ["fit", "fit", UNFIT] and list(cells.remask) == ["fit", "", ""]
    assert cells.power["a"] == pytest.approx(100 * least_power(0.5, 0.1, 100)) and cells.needed["a"] == 391
    assert cells.power[["c"]].isna().all() and cells.needed[["c"]].isna().all()


@pytest.fixture
def page():
    """The study from made-up answers: of 10 the diffusion model has 9 right, at four a forward 5; others 7."""
    study = Study(items=10)
    cost = {"target_forwards": 3, "positions": 3, "tokens_kept": 3, "seconds": 0.1, "joules": None, "status": "ok"}
    right = {DIFFUSION: 9, DIFFUSION + FOUR: 5}
    lines = {
        key: [
            {"item": f"{i:02d}", "sample": 0, "correct": int(i < right.get(key[1], 7)), "text": "", **cost}
            for i in range(10)
        ]
        for key in study.runs()
    }
    kept = {"survival": 40.0, "survival_low": 20.0, "survival_high": 60.0, "right": 5, "wrong": 5}
    kept |= {"repair": 10.0, "repair_low": 1.0, "repair_high": 30.0}
    survival = [{"label": k[0], "which": k[1], "rate": rate, **kept} for k in study._refined() for rate in RATES]
    agreed = {name: Estimate(80.0, 75.0, 85.0, 10) for name in models.DRAFTS}
    study.__dict__.update({"lines": lines, "survival": pd.DataFrame(survival), "agreement": agreed})
    return study


def test_no_more_tokens_a_forward_than_are_said():
    runs = Study(items=10).runs()
    for (_, which), run in runs.items():
        canvas = get_task(run.task).max_new_tokens
        if run.method == "vanilla":
            steps = dict(run.options)["steps"]
            if which.endswith(MIDDLE):
                assert steps == middle(canvas)
            else:
                assert steps == canvas if FOUR not in which else canvas <= 4 * steps < canvas + 4
            assert dict(run.options)["temperature"] == 0
    assert {key[0] for key in runs if key[1] == "study-corrector"} == {"math", "logic", "terse"}
    at_middle = {key for key in runs if key[1] == DIFFUSION + MIDDLE}
    assert {key[0] for key in at_middle} == set(rivals.TASKS), "the cells that TOLERATOR's claims are judged at"
    levels = {key for key in runs if key[0] in LEVELS} - at_middle
    assert levels == {(task, m) for task in LEVELS for m in REFERENCES}


def test_what_was_wanted_is_met_or_missed_as_the_verdicts_say(page):
    """Of 10 items no interval is short enough; of many all are."""
    words = {OPEN: "undecided", HOLDS: "met", REFUTED: "missed"}
    for claim, line in zip(page.claims(), page.reading().splitlines(), strict=False):
        assert line.startswith(f"- {claim.says}: **{words[claim.verdict]}**, {claim.here.value:.1f} %")
    assert "graded_functions_1: **undecided**, 90.0 %" in page.reading()
    assert (
        "study-draft agrees with the target on 60 to 90 % of the tokens: **met**, 80.0 % [75.0, 85.0]"
        in page.reading()
    )
    low = page.summary.label == "graded_functions_1"
    page.summary.loc[low, ["low", "high"]] = 85.0, 95.0
    assert "study-dlm is right on 20 to 80 % of graded_functions_1: **missed**, 90.0 %" in page.reading()


def test_the_page_says_where_nothing_can_be_tested(page):
    cells = page.cells.set_index(["task", "which"])
    assert cells["compare"]["math", DIFFUSION] == UNFIT and cells["compare"]["math", DIFFUSION + FOUR] == "fit"
    assert set(cells.remask[cells.remask != ""]) == {UNFIT}, "where few right answers survive"
    assert cells.effect["math", TARGET] == pytest.approx(models.printed_gain("math", "default")[1])
    assert "cells; not: math by study-dlm (90.0 % right, above 80 %" in page.reading()
    table = page.table()
    assert list(table.columns) == list(models.SHORT) and table.loc["study-corrector", "qa"] == ""
    assert tuple(page.levels().index) == (*REFERENCES, DIFFUSION + MIDDLE) and len(page.fitness()) == len(page.runs())


def test_every_headline_of_the_page_has_words(page):
    found = page.headlines()
    assert found.keys() <= DESCRIPTIONS.keys() and found["draft_agreement"]["value"] == 80
    assert (found["logic_dlm"]["value"], found["logic_dlm_4_a_forward"]["value"]) == (90, 50)
    assert found["worded_ar_math"]["value"] == 70
    page.figure_survival()


def test_a_card_names_the_task_that_its_score_was_measured_on():
    for name, (short, _) in models.HEADLINES.items():
        assert SCORES[name][1][0] == SHORT[short], name
