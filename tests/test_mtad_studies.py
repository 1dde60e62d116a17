"""MTAD's studies: what is compared with what, costs by hand, a choice that sees validation items alone."""

import json
import math
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import AR, heads, tiny
from scipy.stats import norm

from lib.analysis.interleaved import interleaved
from lib.analysis.perplexity import perplexity_change
from lib.analysis.stats import Estimate
from lib.autodeco import AutoDecoForCausalLM
from lib.errors import UserError
from lib.models.registry import Model
from lib.models.study import build_tokenizer
from lib.paths import RESULTS
from lib.reporting.claims import EQUIVALENT, HOLDS, OPEN, OWN, REFUTED, UNMEASURED, more
from lib.running import identity, one_batch
from lib.running.evaluation import run_all
from lib.running.identity import items_of
from lib.running.run import Run
from lib.studies import STUDIES, base, study_of
from lib.studies.mtad import (
    base as drafting,
)
from lib.studies.mtad import (
    frontier as mtad_frontier,
)
from lib.studies.mtad import (
    real as mtad_real,
)
from lib.studies.mtad import (
    rounds as mtad_rounds,
)
from lib.studies.mtad import (
    speed as mtad_speed,
)
from lib.studies.mtad import (
    sweep as mtad_sweep,
)
from lib.studies.mtad import (
    tau as mtad_tau,
)
from lib.studies.mtad import (
    tau_real as mtad_tau_real,
)
from lib.studies.mtad.joint import Study as Joint
from lib.studies.mtad.pair import LOST, reduction, repeats_itself
from lib.studies.mtad.scores import Study as Scores
from lib.studies.mtad.ways import GREEDY, LOSSLESS, PLAIN, WARP, WAYS
from lib.tasks import get_task, judge, mt_bench, rows
from lib.tasks.base import Item

QA = {"items": 3, "samples": 1, "tasks": ("qa",)}
LIMIT = 50
# Seconds a forward and a position in it: of the target 0.9 and 0.1, of the draft 0.2 and 0.05; one round is slow.
FORWARDS = pd.DataFrame(
    [
        (f"{name}, {n}", 4 * late * (forward + n * position), 4)
        for name, forward, position, widths in (
            ("target", 0.9, 0.1, (1, 5, 17, 33)),
            ("draft", 0.2, 0.05, (1, 4, 16)),
        )
        for n in widths
        for late in (1, 1, 1 + n)
    ],
    columns=["variant", "seconds", "work"],
)


def made(correct, **costs):
    """Lines of a run: `correct` an item, or a list of its samples; each of `costs` an item, or the same for all."""
    found = []
    for i, samples in enumerate(correct):
        for s, c in enumerate(samples if isinstance(samples, list) else [samples]):
            own = {name: value[i] if isinstance(value, list) else value for name, value in costs.items()}
            found.append({"item": f"item {i:03d}", "sample": s, "correct": int(c), **own})
    return found


def study(lines, surprise=(), kind=Scores, **given):
    """A study whose responses, surprises and times are made by hand."""
    out = kind(**{"samples": 1, "tasks": tuple(dict.fromkeys(task for task, _ in lines))} | given)
    out.__dict__.update(lines=lines, forward_times=FORWARDS)
    options = (("max_new_tokens", LIMIT),)
    out.__dict__["all_runs"] = {key: SimpleNamespace(model="m", task=key[0], options=options) for key in lines}
    frames = [(*key, f"item {i:03d}", s, x) for key, table in dict(surprise).items()
              for i, row in enumerate(table) for s, x in enumerate(row)]  # fmt: skip
    out.__dict__["surprise"] = pd.DataFrame(frames, columns=["task", "name", "item", "sample", "surprise"])
    return out


# Differences


def test_a_difference_is_paired_and_over_all_tasks_together():
    lines = {("qa", "a"): made([1, 1, 0]), ("qa", "b"): made([0, 1, 0])}
    lines |= {("math", "a"): made([0, 0, 1]), ("math", "b"): made([1, 1, 1])}
    s = study(lines)
    assert s.judged("a", "b", ("qa",)).value == pytest.approx(100 / 3)
    e = s.judged("a", "b")
    assert (e.value, e.n, e.p) == (pytest.approx(100 * (1 - 2) / 6), 6, 1), "one win, two losses: McNemar's p is 1"
    both, one = s.judged("b", "a"), s.judged("a", "b", ("math",))
    assert (both.value, both.low, both.high) == pytest.approx((-e.value, -e.high, -e.low))
    assert one.value == pytest.approx(-200 / 3)


def test_samples_of_an_item_are_averaged_before_they_are_paired():
    lines = {("qa", "a"): made([[1, 1, 0], [0, 0, 1]]), ("qa", "b"): made([0, 1])}
    lines |= {("math", "a"): made([[1, 0, 0], [1, 1, 1]]), ("math", "b"): made([1, 1])}
    expected = np.mean([2 / 3 - 0, 1 / 3 - 1, 1 / 3 - 1, 1 - 1])
    assert study(lines).judged("a", "b").value == pytest.approx(100 * expected)
    lines["math", "b"][0]["item"] = "another"
    with pytest.raises(ValueError, match="not paired: item 000 meets another"):
        study(lines).judged("a", "b")


def test_likelier_is_the_change_of_perplexity_paired_on_items():
    a, b = [[1.0, 2.0], [0.5, 0.5], [4.0, 3.0]], [[1.5], [0.25], [2.5]]
    s = study({("qa", "a"): [], ("qa", "b"): []}, {("qa", "a"): a, ("qa", "b"): b})
    e = s.likelier("a", "b")
    assert e.value == pytest.approx(100 * math.expm1(np.mean([0.0, 0.25, 1.0]))) and e.n == 3
    two = {("qa", "a"): a, ("qa", "b"): b, ("math", "a"): b, ("math", "b"): [[1.0], [1.0], [math.nan]]}
    e = study({key: [] for key in two}, two).likelier("a", "b")
    assert (e.value, e.n) == (pytest.approx(100 * math.expm1(np.mean([0, 0.25, 1, 0.5, -0.75]))), 5)
    assert e == perplexity_change(np.array([[1.5], [0.5], [3.5], *b]), np.array([*b, [1], [1], [math.nan]]))


def units(line):
    """What FORWARDS makes of a line's counts; a forward of the target over one token is 1."""
    own = 0.9 * line["target_forwards"] + 0.1 * line["positions"]
    return own + (0.2 * line["draft_forwards"] + 0.05 * line["draft_positions"] if line["draft_forwards"] else 0)


PLAIN_COST = {"draft_forwards": None, "draft_positions": None}


def test_cheaper_is_the_ratio_of_tokens_a_unit_of_cost():
    """The end of a text is a token; what the limit cuts has none."""
    drafted = made([1, 1], tokens_kept=[9, 50], target_forwards=[4, 8], positions=[10, 20], draft_forwards=[16, 32],
                   draft_positions=[20, 40])  # fmt: skip
    plain = made([1, 1], tokens_kept=19, target_forwards=20, positions=30, **PLAIN_COST)
    s = study({("qa", "a"): drafted, ("qa", "b"): plain})
    assert s.made(("qa", "a")) == [10, 50] and s.made(("qa", "b")) == [20, 20]
    assert s.cost_ratio == pytest.approx(0.25) and s.units(drafted[0]) == pytest.approx(units(drafted[0]))
    x, y = map(units, drafted)
    assert (x, y, units(plain[0])) == pytest.approx((3.6 + 1 + 3.2 + 1, 7.2 + 2 + 6.4 + 2, 21))
    e = s.cheaper("a", "b")
    assert e.value == pytest.approx((60 / (x + y)) / (40 / 42)) and (e.n, e.p) == (2, None)
    assert (e.low, e.high) == pytest.approx((10 / x * 21 / 20, 50 / y * 21 / 20)), "of one item twice"
    assert s.cheaper("b", "a").value == pytest.approx(1 / e.value)
    same = s.cheaper("a", "a")
    assert same.value == same.low == same.high == 1


def test_items_are_paired_whatever_their_samples_and_order():
    cost = {"positions": [5, 25], **PLAIN_COST}
    a = made([[1, 1], [1, 1]], tokens_kept=[19, 39], target_forwards=[5, 25], **cost)
    b = made([1, 1], tokens_kept=[9, 19], target_forwards=[5, 25], **cost)
    e = study({("qa", "a"): a, ("qa", "b"): b[::-1]}).cheaper("a", "b")
    assert (e.value, e.low, e.high) == pytest.approx((2, 2, 2)), "twice the tokens of each item"


def test_verdicts_go_by_p_after_holm():
    """Six wins of six: p = 2 / 2^6 = 0.031 is told apart alone, and not beside another comparison."""
    lines = {("qa", "a"): made([1] * 6 + [0] * 4), ("qa", "b"): made([0] * 10)}
    lines["qa", "c"] = made([0] * 9 + [1])
    s = study(lines)
    alone, beside = s.differences([("a", "b")]), s.differences([("a", "b"), ("c", "b")])
    assert alone[["p_holm", "verdict"]].values.tolist() == [[pytest.approx(2 / 64), "higher"]]
    assert beside.p_holm.tolist() == [pytest.approx(4 / 64), 1] and beside.verdict.tolist() == ["tied", "tied"]
    assert beside.low[0] > 0 and s.judged("a", "b").p == pytest.approx(2 / 64), "not tied by interval or p alone"
    assert s.differences([("b", "a")]).verdict.tolist() == ["lower"]


def test_a_table_of_differences_has_each_task_and_all():
    lines = {(task, way): made(c) for task in ("qa", "math") for way, c in (("a", [1, 0]), ("b", [0, 0]))}
    table = study(lines).differences([("a", "b")])
    assert table.task.tolist() == ["qa", "math", "all"] and table["items"].tolist() == [2, 2, 4]
    assert table.difference.tolist() == pytest.approx([50, 50, 50])
    assert study(lines).differences([("a", "b")], tasks=("qa",)).task.tolist() == ["qa"]


# Cost and quality of a run

COSTS = {"status": "ok", "seconds": 0.1, "joules": None, "text": "a b c d a b c d"}


@pytest.fixture
def three():
    drafted = made([1, 0], tokens_kept=[9, 21], target_forwards=[3, 6], draft_forwards=[12, 24], blocks=[3, 6],
                   accepted=[7, 16], bonus=[3, 6], reached=[12, 22], drafted=[20, 34], positions=[15, 30],
                   draft_positions=[12, 24], **COSTS)  # fmt: skip
    plain = made([1, 1], tokens_kept=[9, 50], target_forwards=[10, 50], positions=[10, 50], **PLAIN_COST, **COSTS)
    assisted = made([0, 0], tokens_kept=[9, 9], target_forwards=[5, 5], draft_forwards=[10, 30], positions=7,
                    draft_positions=10, **COSTS)  # fmt: skip
    lines = {("qa", "plain"): plain, ("qa", "drafted"): drafted, ("qa", "assisted"): assisted}
    return study(lines, {key: [[1.0], [2.0]] for key in lines})


def test_costs_of_a_run_are_totals_over_totals(three):
    rows = three.summary.set_index("name")
    assert rows.target_forwards.to_dict() == pytest.approx({"plain": 1, "drafted": 9 / 32, "assisted": 0.5})
    assert rows.draft_forwards[["drafted", "assisted"]].tolist() == pytest.approx([36 / 32, 2])
    assert rows.units["drafted"] == pytest.approx(sum(map(units, three.lines["qa", "drafted"])) / 32)
    assert rows.units["plain"] == pytest.approx(1), "a token a forward"
    assert rows.block_efficiency["drafted"] == pytest.approx((7 + 16 + 3 + 6) / 9)
    assert rows.acceptance["drafted"] == pytest.approx(100 * 23 / 34) and rows.shown["drafted"] == pytest.approx(6)
    absent = rows.loc[["plain", "assisted"], ["block_efficiency", "acceptance", "shown"]]
    assert absent.isna().all(axis=None) and rows.draft_forwards.isna().tolist() == [True, False, False]
    assert rows.cut.to_dict() == {"plain": 50, "drafted": 0, "assisted": 0}
    e = three.cheaper("drafted", "plain")
    assert e.value == pytest.approx(rows.units["plain"] / rows.units["drafted"]), "units are what cheaper compares"


def test_a_draft_that_is_never_sure_has_no_acceptance():
    """BiLD may draft nothing at all: then there is no share of it that was accepted."""
    none = {"accepted": 0, "reached": 0, "drafted": 0, "positions": 9, "draft_positions": 9}
    nothing = made([1, 0], tokens_kept=4, target_forwards=5, draft_forwards=5, blocks=5, bonus=5, **none, **COSTS)
    row = study({("qa", "BiLD"): nothing}, {("qa", "BiLD"): [[1.0], [2.0]]}).summary.iloc[0]
    assert row.block_efficiency == 1 and pd.isna(row.acceptance)


def test_a_summary_shows_quality_beside_cost(three):
    rows = three.summary.set_index("name")
    assert rows.perplexity.tolist() == pytest.approx([math.exp(1.5)] * 3)
    assert rows.repeated.tolist() == pytest.approx([20] * 3)
    assert rows.distinct.tolist() == pytest.approx([4 / 14] * 3), "ab, bc, cd and da, of seven twice"
    assert three.table("perplexity").qa["plain"] == f"{math.exp(1.5):.2f} [{math.exp(1):.2f}, {math.exp(2):.2f}]"
    assert three.table().qa["drafted"].startswith("50.0 [") and three.table("units").qa["plain"] == 1
    costs = three.costs()
    assert list(costs.index) == ["plain", "drafted", "assisted"] and costs.units["plain"] == 1


def test_block_efficiency_counts_the_end_of_text_and_acceptance_what_was_drafted(pair_of_models):
    """Of real responses: accepted and bonus tokens are the text and its end, and at most gamma a pass are drafted."""
    s = Scores(**QA | {"items": 6}, methods=("speculative", "MTAD"))
    for (_, name), lines in s.lines.items():
        limit = get_task("country_sentences").max_new_tokens
        for line in lines:
            ended = line["tokens_kept"] < limit
            assert line["accepted"] + line["bonus"] == line["tokens_kept"] + ended
            assert line["accepted"] <= line["reached"] <= 4 * line["blocks"] and line["bonus"] <= line["blocks"]
        row = s.summary.set_index("name").loc[name]
        ends = sum(line["tokens_kept"] < limit for line in lines)
        tokens = sum(line["tokens_kept"] for line in lines) + ends
        assert row.block_efficiency == pytest.approx(tokens / sum(line["blocks"] for line in lines))
        assert 0 < row.acceptance <= 100 and 1 <= row.block_efficiency <= 5


@pytest.mark.parametrize(
    ("method", "options", "again"),
    [
        ("autoregressive", {}, True),
        ("autoregressive", WARP, False),
        ("beam", {}, True),
        ("speculative", GREEDY, True),
        ("mtad", WARP, False),
        ("mtjd", WARP, True),
        ("mtjd", WARP | {"joint_temperature": 0.5}, False),
    ],
)
def test_what_repeats_itself_is_decoded_once(method, options, again):
    assert repeats_itself(method, options) == again
    assert Scores(samples=3)._run("qa", method, **options).samples == (1 if again else 3)


def test_a_relative_difference_draws_both_sides_anew():
    """a is right on one item of two, b on the other: of one item twice, either is never right."""
    lines = {("qa", "a"): made([[1, 1], [0, 1]]), ("qa", "b"): made([[1, 0], [0, 1]])}
    s = study(lines)
    e = s.relative("a", "b")
    assert (e.value, e.n, e.p) == (pytest.approx(100 * (0.75 / 0.5 - 1)), 2, s.judged("a", "b").p)
    assert (e.low, e.high) == pytest.approx((0, 100)), "0.5 / 0.5 of the second item twice, 1 / 0.5 of the first"
    assert s.relative("a", "a").value == s.relative("a", "a").low == s.relative("a", "a").high == 0
    never = study({("qa", "a"): made([1, 0]), ("qa", "b"): made([0, 0])}).relative("a", "b")
    assert math.isnan(never.value) and math.isnan(never.low) and never.n == 2


def test_the_room_for_a_printed_effect_is_that_of_the_way_it_is_over():
    """Of 5 right of 6 a score can rise by a fifth; a perplexity e^0.5 can fall to 1, means over items."""
    lines = {
        ("qa", "a"): made([1, 0]),
        ("qa", "b"): made([[1, 1], [1, 0]]),
        ("math", "a"): made([0]),
        ("math", "b"): made([1]),
    }
    s = study(lines)
    assert s.room_above("b", ("qa",)) == pytest.approx(100 / 3) and s.room_above("b") == pytest.approx(20)
    assert s.room_above("a") == pytest.approx(200) and s.room_above("a", ("math",)) == math.inf
    surprise = {("qa", "b"): [[0.5], [1.5], [math.nan]], ("math", "b"): [[0.1, 0.3]]}
    s = study({key: [] for key in surprise}, surprise)
    assert s.room_below("b") == pytest.approx(100 * (1 - math.exp(-(0.5 + 1.5 + 0.2) / 3)))


def test_a_reduction_keeps_its_interval():
    e = Estimate(-5.0, -8.0, -1.0, 10, 0.04, 4, 3.0)
    assert reduction(e) == Estimate(5.0, 1.0, 8.0, 10, 0.04, 4, 3.0) and reduction(reduction(e)) == e


# What the studies run

MTAD = sorted(name for name, module in STUDIES.items() if module.startswith("mtad."))


def settings_of(notebook):
    """(method, options, draft) of everything that a notebook decodes."""
    s = study_of(notebook)()
    if notebook == "34_mtad_speed":
        return s, [
            (method, Run.of(s.model, "gsm8k", method, 1, **options), s.draft) for method, options in s.ways().values()
        ]
    found = list(s.runs().values())
    if isinstance(s, mtad_tau.Study):
        found += s.later_runs(tau_lines(s)).values()
    return s, [(run.method, run, run.draft) for run in found]


@pytest.mark.parametrize("notebook", [name for name in MTAD if name != "39_composition"])
def test_sampled_methods_have_one_warp_and_one_draft(notebook):
    """One each of two drafts in notebook 38."""
    s, found = settings_of(notebook)
    sampled = 0
    for method, run, draft in found:
        options = dict(run.options)
        drafts = [""] if method in PLAIN and notebook != "34_mtad_speed" else [s.draft, getattr(s, "other", s.draft)]
        assert draft in drafts, method
        assert run.model == s.model
        if options.get("temperature"):
            sampled += 1
            assert {name: options[name] for name in WARP} == WARP, method
        elif method != "beam":
            assert (options["top_k"], options["top_p"]) == (0, 1.0), f"greedy {method} is plain"
    assert sampled > 1


@pytest.mark.parametrize("notebook", MTAD)
def test_no_parameter_hides_what_a_study_inherits(notebook):
    """A field of the same name as a method or property of its bases takes its place, and breaks what calls it."""
    kind = study_of(notebook)
    for base_kind in kind.__mro__[1:]:
        own = {name for name in vars(base_kind) if name not in getattr(base_kind, "__dataclass_fields__", {})}
        assert not own & {field.name for field in fields(kind)}, base_kind


def test_lossless_methods_are_named_as_such():
    lossless = {"speculative", "hsd", "tree_speculative", "assisted"}
    assert {WAYS[name][0] for name in LOSSLESS} == lossless
    assert all(WAYS[name][1].get("ensemble", 1.0) == 1.0 and WAYS[name][1]["temperature"] for name in LOSSLESS)


def test_studies_share_their_runs():
    scores = Scores(**QA).runs()
    frontier = mtad_frontier.Study(
        **QA, grid=(0.5,), epsilons=(0.09,), rollbacks=(2.0,), weights=(0.5,), gammas=(4,)
    ).runs()
    sweep = mtad_sweep.Study(**QA).runs()
    names = {"MTAD": "MTAD: tau 0.5", "MMTAD": "MMTAD: tau 0.5", "threshold": "threshold: tau 0.5"}
    names |= {"speculative": "speculative: gamma 4", "speculative, greedy": "speculative, greedy: gamma 4"}
    names |= {name: f"{name}: rollback 2" for name in ("BiLD", "BiLD, greedy")}
    names |= {name: f"{name}: epsilon 0.09" for name in ("typical", "typical, its truncation")}
    names["MMTAD, greedy"] = "MMTAD, greedy: gamma 4"
    names["assisted, ensemble 0.5"] = "assisted, ensemble: w 0.5"
    for ours, theirs in names.items():
        assert scores["qa", ours] == frontier["qa", theirs], ours
    assert sweep["qa", mtad_sweep.PUBLISHED_SETTING] == scores["qa", "MTAD"]
    trees = {"kept": "MMTAD", "slot": "MMTAD, slot"}
    assert all(sweep["qa", f"tree, reference {name}"] == scores["qa", way] for name, way in trees.items())
    assert sweep["qa", "softmax weights"] == scores["qa", "MTAD, softmax"]
    joint = Joint(**QA).runs()
    assert all(joint["qa", name] == scores["qa", name] for name in ("sampling", "greedy", "beam search"))


def test_a_variant_of_the_sweep_changes_one_option():
    s = mtad_sweep.Study(**QA)
    published, runs = dict(s.runs()["qa", mtad_sweep.PUBLISHED_SETTING].options), s.runs()
    assert (published["gamma"], published["width"], published["tau"], published["replacement"]) == (4, 4, 0.5, True)
    for (_, name), run in runs.items():
        changed = {key for key, value in run.options if value != published[key]}
        assert len(changed - {"tree", "reference"}) == (
            not name.startswith(("tree", mtad_sweep.PUBLISHED_SETTING))
        ), name
    assert [at for at, _ in s.line("gamma")] == [1, 2, 4, 6, 8] and (0.5, mtad_sweep.PUBLISHED_SETTING) in s.line(
        "tau"
    )


def test_a_change_that_hangs_on_one_answer_says_so():
    """Of four answers two differ, one by far: without it the change is that of the other among three."""
    s = Joint(tasks=("qa",), blocks=(1, 4))
    ours, theirs = [[1.0], [0.5], [0.2], [0.3]], [[9.0], [0.5], [0.2], [0.6]]
    s.__dict__["_surprise_tables"] = {("qa", s.longest): np.array(ours), ("qa", "greedy"): np.array(theirs)}
    rest = 100 * (np.exp((0.3 - 0.6) / 3) - 1)
    assert s.by_few("greedy").startswith(
        f"2 of 4 answers differ, and without the one that does most it is {rest:+.2f} %"
    )


def test_what_costs_little_is_told_in_points_that_are_lost(monkeypatch):
    for name in ("judged", "longer", "cheaper"):
        monkeypatch.setattr(mtad_sweep.Study, name, lambda *_: Estimate(-0.5, -1.5, 0.5, 50, 0.3))
    claims = {claim.says: claim.unit for claim in mtad_sweep.Study(**QA).claims()}
    assert claims["gamma 8 costs less than 2 points against gamma 4"] == LOST
    assert claims["four beams score higher than one drawn draft"] == "points"


def test_a_score_falls_by_all_of_it_at_most():
    wide, better = more(Estimate(-60, -105, 5, 9)), more(Estimate(20, 10, 30, 9))
    s = study({("qa", "sampling"): made([1, 0, 0, 0])})
    found = [s.scores_higher(e, 0, "sampling") for e in (Estimate(-60, -105, 5, 9), Estimate(20, 10, 30, 9))]
    assert (found[0].low, found[0].high) == (-100, wide.high) and found[1] == better


def test_texts_are_as_distinct_with_two_samples_as_with_one():
    one = made([1, 0], tokens_kept=9, target_forwards=10, positions=10, **PLAIN_COST, **COSTS)
    lines = [line | {"text": f"a b {line['item']}", "sample": sample} for line in one for sample in (0, 1)]
    surprise = {("qa", "x"): [[1.0], [2.0]], ("qa", "y"): [[1.0, 1.0], [2.0, 2.0]]}
    given = {("qa", "x"): [line for line in lines if not line["sample"]], ("qa", "y"): lines}
    assert study(given, surprise).summary.distinct.nunique() == 1


# The frontier


def test_a_rival_is_the_best_of_those_that_are_as_cheap():
    points = [
        ("MTAD: tau 0.5", 1.5, 40.0),
        ("MTAD: tau 0.1", 3.0, 20.0),
        ("MMTAD: tau 0.5", 1.6, 90.0),
        ("threshold: tau 0.5", 1.5, 50.0),  # as cheap
        ("BiLD: rollback 2", 2.0, 45.0),  # cheaper
        ("BiLD, greedy: rollback 2", 2.0, 95.0),  # and best, at another temperature
        ("typical: epsilon 0.09", 1.4, 99.0),  # dearer, and best of all
    ]
    right = {"MTAD: tau 0.5": [1, 1, 0, 0], "threshold: tau 0.5": [0, 1, 1, 1], "MMTAD: tau 0.5": [1, 1, 1, 1]}
    right["BiLD: rollback 2"] = [0, 0, 0, 0]
    s = study({("qa", name): made(right.get(name, [0] * 4)) for name, _, _ in points}, kind=mtad_frontier.Study)
    table = pd.DataFrame(points, columns=["name", "speed", "accuracy"])
    s.__dict__["points"] = table.assign(curve=table.name.str.split(": ").str[0])
    rivals = s.rivals().set_index("way")
    assert rivals.rival.to_dict() == {
        "MTAD: tau 0.5": "threshold: tau 0.5",
        "MMTAD: tau 0.5": "BiLD: rollback 2",
    }, "the fastest point has no rival, MTAD is none of its own"
    assert rivals.difference.tolist() == pytest.approx([-25, 100])
    assert rivals.p_holm.tolist() == pytest.approx([1, 2 * 2 / 2**4])


def test_points_are_means_over_tasks():
    s = mtad_frontier.Study(tasks=("qa", "math"))
    names = ["speculative, greedy: gamma 4", "sampling"]
    summary = pd.DataFrame({"name": names * 2, "label": ["qa"] * 2 + ["math"] * 2, "accuracy": [10.0, 20, 30, 50]})
    s.__dict__["summary"] = summary.assign(perplexity=2.0, units=[0.5, 1, 0.3, 1])
    found = s.points.set_index("name")
    assert found.curve.tolist() == ["speculative, greedy", "sampling"]
    assert found.accuracy.tolist() == [20, 35] and found.speed.tolist() == pytest.approx([2.5, 1])


# Choosing tau


def counts(tokens, forwards):
    """Counts of a line by which so many tokens come of so many forwards of the target, and of a fifth as costly ones
    of the draft."""
    drafting = {"draft_forwards": 5, "draft_positions": 9, "positions": 9}
    return {"tokens_kept": tokens, "accepted": tokens, "bonus": 1, "target_forwards": forwards, **drafting}


def tau_lines(s, seed=0, most=10):
    """Lines for every run of the study; on validation items a setting loses at most `most` of 40, by tau."""
    chooser, found = np.random.default_rng(seed), {}
    for short, name in s.runs():
        if name.startswith("validation: gamma"):
            gamma, tau = (float(part.split()[1]) for part in name.split(": ")[1].split(", "))
            lost = round(most * (1 - tau))
            found[short, name] = made([0] * lost + [1] * (40 - lost), **counts(10 * int(gamma), 5 + round(10 * tau)))
        else:  # the base, faster with longer drafts
            found[short, name] = made([1] * 40, **counts(2 * int(name.split()[-1]), 10))
        found[short, "test: base"] = made(chooser.integers(0, 2, 40), **counts(int(chooser.integers(1, 40)), 3))
    return found


def tau_study(lines, **given):
    s = mtad_tau.Study(samples=1, **given)
    chosen = {key: lines[key[0], "test: base"] for key in s.later_runs(lines)}
    runs = s.runs() | s.later_runs(lines)
    s.__dict__.update(lines=lines | chosen, all_runs=runs, forward_times=FORWARDS)
    return s


def test_tau_is_chosen_on_validation_items_alone():
    """tau 0.2 loses 8 of 40; 0.05 loses 10 of 40 and would be faster. gamma 8 is faster than 4."""
    s = mtad_tau.Study(samples=1, tolerated=20.0)
    lines = tau_lines(s)
    seen = {key: value for key, value in lines.items() if key[1].startswith("validation")}
    for given in (lines, tau_lines(s, seed=1), seen):
        later = s.later_runs(given)
        assert set(later) == {(short, f"test: {name}") for short in s.tasks for name in ("base", "chosen")}
        for (_, name), run in later.items():
            options = dict(run.options)
            assert (run.split, run.items, options["gamma"]) == ("test", s.items, 8), (
                "of the base too, for it is faster"
            )
            assert name == "test: base" or options["tau"] == 0.2
    s = tau_study(lines, tolerated=20.0)
    assert set(s.chosen.chosen) == {"gamma 8, tau 0.2"}
    assert (s.chosen["loss, test"] == 0).all() and (s.chosen["tokens a unit, ratio"] == 1).all(), "of the same lines"
    assert s.chosen["loss, validation"].tolist() == pytest.approx([20] * 3)
    assert len(s.claims()) == 6 and all(claim.where == OWN for claim in s.claims())
    assert {claim.unit for claim in s.claims()[3:]} == {"times"} and {c.verdict for c in s.claims()[3:]} == {
        EQUIVALENT
    }
    assert all("not faster, so decode losslessly" in line for line in s.reading().splitlines() if "Lost" in line)


@pytest.mark.parametrize("given", [{"most": 40}, {"most": 0}], ids=["all lose too much", "none is faster"])
def test_where_none_fits_and_is_faster_nothing_is_run_on_test_items(given):
    s = mtad_tau.Study(samples=1, tolerated=5.0)
    lines = tau_lines(s, **given)
    if given["most"] == 0:
        assert s.later_runs(lines), "all settings fit"
        fast = made([1] * 40, **counts(99, 1))
        lines |= {(short, f"validation: base, gamma {n}"): fast for short in s.tasks for n in s.gammas}
    assert s.later_runs(lines) == {}
    s = tau_study(lines, tolerated=5.0)
    assert set(s.chosen.chosen) == {mtad_tau.NONE} and s.claims() == []
    assert all(mtad_tau.NONE in line for line in s.reading().splitlines())


def test_losses_are_against_the_base_and_speeds_by_counting():
    s = mtad_tau.Study(samples=1, taus=(0.2,), gammas=(4,), tasks=("qa",), draft_cost=0.5)
    base = made([1, 1, 0, 0], **counts(1, 1))
    own = made(
        [0, 1, 0, 0], accepted=[3, 5, 7, 9], bonus=2, target_forwards=[1, 2, 3, 4], draft_forwards=[2, 4, 6, 8]
    )
    (c,) = s.candidates(
        "qa", {("qa", "validation: base, gamma 4"): base, ("qa", "validation: gamma 4, tau 0.2"): own}
    )
    assert (c.name, c.loss.value, c.speed) == ("gamma 4, tau 0.2", pytest.approx(25), pytest.approx(32 / (10 + 10)))


@pytest.mark.parametrize("base_name", mtad_tau.BASES)
def test_validation_and_test_items_never_meet(base_name):
    s = mtad_tau.Study(items=60, validation_items=50, base=base_name)
    every = s.runs() | s.later_runs(tau_lines(s, most=0))
    assert all(name.startswith(f"{run.split}: ") for (_, name), run in every.items())
    runs = list(every.values())
    assert {(run.split, run.items) for run in runs} == {("test", 60), ("validation", 50)}
    for task in {run.task for run in runs}:
        sides = [
            {(item.id, item.prompt) for item in items_of(task, split, n)}
            for split, n in (("test", 60), ("validation", 50))
        ]
        ids, prompts = ([{entry[i] for entry in side} for side in sides] for i in (0, 1))
        assert not ids[0] & ids[1] and not prompts[0] & prompts[1] and len(prompts[1]) == 50


@pytest.mark.parametrize(("given", "words"), [({"base": "threshold"}, "greedy"), ({"rule": "brave"}, "observed")])
def test_another_base_or_rule_is_refused(given, words):
    with pytest.raises(UserError, match=words):
        mtad_tau.Study(**given)


# Speed


def speed_study(rows, **given):
    s = mtad_speed.Study(**given)
    s.__dict__.update(rounds=pd.DataFrame(rows, columns=["round", "where", "batch", "variant", "work", "seconds"]))
    return s


def test_a_ratio_of_speeds_is_of_totals_over_rounds():
    a, b = [(10, 1.0), (40, 10.0)], [(10, 2.0), (10, 1.0)]
    table = [(i, "taught", 1, way, *row) for way, part in (("a", a), ("b", b)) for i, row in enumerate(part)]
    table += [(i, "taught", 4, way, 1, 1.0) for way in "ab" for i in range(3)]
    table += [(i, "elsewhere", 1, way, 1, seconds) for way, seconds in (("a", 4.0), ("b", 1.0)) for i in range(2)]
    s = speed_study(table[:2] + table[2:][::-1])  # the rounds of b in another order
    e = s.ratio("a", "b")
    assert (e.value, e.n) == (pytest.approx((50 / 11) / (20 / 3)), 2)
    assert (e.low, e.high) == pytest.approx(((40 / 10) / (10 / 1), (10 / 1) / (10 / 2))), "one round twice"
    assert s.ratio("b", "a").value == pytest.approx(1 / e.value)
    assert s.ratio("a", "b", batch=4) == Estimate(1.0, 1.0, 1.0, 3)
    assert s.ratio("a", "b", where="elsewhere") == Estimate(0.25, 0.25, 0.25, 2)


def every_way(joules=None):
    """Six rounds of every way, MTAD twice as fast as others where the draft is taught and half as fast elsewhere,
    and windows in which it takes `joules` a token."""
    plan = {("taught", 1): list(mtad_speed.Study().ways()), ("taught", 4): list(mtad_speed.BATCHED)}
    plan["elsewhere", 1] = list(mtad_rounds.ELSEWHERE)
    s = speed_study(
        [
            (i, where, batch, way, 10 + i, (2 if (way == "MTAD") == (where == "elsewhere") else 1) * (10 + i))
            for (where, batch), names in plan.items()
            for way in names
            for i in range(6)
        ],
        batches=(1, 4),
    )
    rows = [
        (i, n, way, joules and 8) for i in range(len(joules or [0])) for n in (1, 4) for way in mtad_speed.BATCHED
    ]
    table = pd.DataFrame(rows, columns=["round", "batch", "way", "work"]).assign(seconds=3.0, idle=math.nan)
    cost = table["round"].map(dict(enumerate(joules or [math.nan]))) * np.where(table.way == "MTAD", 1, 12.0)
    s.__dict__["joules"] = table.assign(work=8 if joules else 0, joules=8 * cost)
    return s


def test_without_a_counter_energy_is_not_measured_and_never_zero():
    s = every_way()
    assert s.energy("MTAD").n == 0 and math.isnan(s.energy("MTAD").value)
    assert {claim.unit for claim in s.claims() if claim.verdict == UNMEASURED} == {"times less"}
    assert {claim.verdict for claim in s.claims() if claim.unit == "times less"} == {UNMEASURED}
    entry = s.headlines()["mtad_vs_speculative_energy"]
    assert (entry["value"], entry["low"], entry["high"], entry["n"]) == (None, None, None, 0)
    assert s.by_batch()["joules a token"].isna().all(axis=None)
    assert s.headlines()["mtad_vs_speculative_speed"]["value"] == 2


def test_energy_is_joules_a_token_over_those_of_the_same_round():
    s = every_way([2.0, 1.0, 5.0])
    assert s.energy("MTAD") == Estimate(12.0, 12.0, 12.0, 3) and s.energy("MMTAD").value == 1
    s.joules.loc[(s.joules["round"] == 1) & (s.joules.way == "MTAD"), "joules"] *= 2
    assert s.energy("MTAD") == Estimate(12.0, 6.0, 12.0, 3), "median, and all that was seen"
    assert UNMEASURED not in {claim.verdict for claim in s.claims()}
    assert s.headlines()["mtad_vs_speculative_energy"]["value"] == 12
    joules = s.by_batch()["joules a token"]
    assert joules.loc["sampling"].to_dict() == pytest.approx({1: 32, 4: 32}) and joules[1]["MTAD"] == pytest.approx(
        (2 + 2 + 5) / 3
    )
    s.joules.loc[5, "joules"] = math.nan
    assert s.energy("MTAD").n == 0, "one reading that is missing is enough"


def test_a_machine_without_a_counter_runs_nothing_for_energy(monkeypatch):
    monkeypatch.setattr(mtad_speed.Study, "_decode", None)
    table = mtad_speed.Study(batches=(1, 4))._joules()
    assert len(table) == 2 * len(mtad_speed.BATCHED) and table.joules.isna().all() and (table.work == 0).all()


def test_tokens_a_second_and_an_hour():
    s = every_way()
    table = s.table()
    assert table.index[0] == "MTAD" and table["tokens a second"].tolist() == [1.0] + [0.5] * (len(table) - 1)
    assert table["tokens an hour"].to_dict()["MTAD"] == 3600 and table["over speculative"]["MTAD"] == 2
    away = s.away()
    assert (
        away.index[-1] == "MTAD"
        and away["over speculative"]["MTAD"] == 0.5
        and len(away) == len(mtad_rounds.ELSEWHERE)
    )
    verdicts = {claim.says: claim.verdict for claim in s.claims()}
    assert verdicts["MTAD is faster than speculative on prompts of tasks that it did not learn"] == REFUTED
    assert verdicts["MTAD is faster than speculative greedy decoding"] == HOLDS
    speeds = s.by_batch()["tokens a second"]
    assert list(speeds.index) == list(mtad_speed.BATCHED) and speeds.loc["MTAD"].to_dict() == {1: 1.0, 4: 1.0}


def test_positions_are_the_share_of_passes_that_took_at_least_so_many():
    s = mtad_speed.Study()
    parts = [
        {
            "way": "speculative",
            "draft": 1.0,
            "expected": 1.0,
            **{f"length {i}": n for i, n in enumerate((4, 3, 2, 0, 1))},
        }
    ]
    parts += [
        {
            "way": "MTAD",
            "draft": 1.0,
            "expected": 1.0,
            **{f"length {i}": n for i, n in enumerate((0, 1, 0, 0, 0, 0, 3))},
        }
    ]
    s.__dict__["time_shares"] = pd.DataFrame(parts)
    wide = s.positions()
    assert list(wide.columns) == [f"{i} or more" for i in range(1, 7)]
    assert wide.loc["speculative"].tolist() == pytest.approx([60, 30, 10, 10, math.nan, math.nan], nan_ok=True)
    assert wide.loc["MTAD"].tolist() == pytest.approx([100, 75, 75, 75, 75, 75])
    assert (wide.fillna(0).diff(axis=1).iloc[:, 1:] <= 0).all(axis=None)


@pytest.mark.parametrize("batch", [1, 2])
def test_all_ways_decode_the_same_prompts_in_a_round(batch, monkeypatch):
    """Whatever the order of a round; the next round has other prompts, with the tasks in turns."""
    s, calls = mtad_speed.Study(tasks=("qa", "math"), prompts=2), []
    monkeypatch.setattr(mtad_rounds, "model_of", lambda name, device: Model(name, None, None, None))
    monkeypatch.setattr(mtad_rounds, "paired", lambda target, draft, tokenizer: (target, draft))

    def respond(model, items, options, draft=0):
        calls.append((options, tuple(item.prompt for item in items), tuple(item.id for item in items), draft == 0))
        return SimpleNamespace(lengths=torch.tensor([3, s.tokens])[: len(items)])

    monkeypatch.setattr(mtad_rounds, "respond", respond)
    ways = s.ways()
    table = interleaved({name: s._timed(name, batch) for name in ways}, 2)
    assert (table.work == ((4 + s.tokens) if batch == 2 else 2 * 4)).all(), (
        "the end is a token, but not past the limit"
    )
    made = {name: mtad_rounds.options_of(*way) for name, way in ways.items()}
    made = {name: replace(options, max_new_tokens=s.tokens) for name, options in made.items()}
    decoded = {way: [call[1:3] for call in calls if call[0] == options] for way, options in made.items()}
    first = decoded["sampling"]
    assert all(prompts == first for prompts in decoded.values()) and len(first) == 3 * (1 if batch == 2 else 2)
    prompts = [prompt for part, _ in first for prompt in part]
    assert len(set(prompts)) == len(prompts) == 6
    items = [f"{task.instruction}{item.prompt}" for task, item in s._items(0, 6)]
    assert prompts == items
    assert [task.name for task, _ in s._items(0, 4)] == ["country_sentences", "worded_math"] * 2
    assert s._items(2, 3) == s._items(0, 5)[2:]
    alone = {type(options).__name__ for options, *_, without in calls if without}
    assert alone == {"Autoregressive", "Mtjd"}, "only these have no draft"


def test_items_begin_again_where_a_task_has_no_more(monkeypatch):
    few = {"country_sentences": 3, "worded_math": 9}
    monkeypatch.setattr(
        mtad_rounds,
        "items_of",
        lambda task, split, n: [Item(f"{task} {i}", "", "") for i in range(min(n, few[task]))],
    )
    found = [item.id for _, item in mtad_speed.Study(tasks=("qa", "math"))._items(0, 10)]
    assert found[::2] == [f"country_sentences {i}" for i in (0, 1, 2, 0, 1)]
    assert found[1::2] == [f"worded_math {i}" for i in range(5)]


# The authors' logs


def test_their_logs_give_the_z_and_speedups_that_were_read():
    """shared/papers/mtad.md, section 4.3: z and times as fast, by task and model."""
    read = {
        ("Spider", "Llama-3.1-8B"): (1.4, 1.07),
        ("Spider", "Llama-3.1-8B-Instruct"): (1.7, 1.10),
        ("HumanEval", "Llama-3.1-8B"): (1.3, 1.06),
        ("HumanEval", "Llama-3.1-8B-Instruct"): (0.6, 1.07),
    }
    logs = mtad_real.Study(tasks=("gsm8k",)).logs().set_index(["task", "model"])
    assert set(logs.index) == set(read)
    for key, (z, speed) in read.items():
        assert norm.isf(logs.p[key] / 2) == pytest.approx(z, abs=0.06), key
        assert logs["times as fast"][key] == pytest.approx(speed, abs=0.006), key


def test_tasks_without_a_judge_take_no_part_in_scores():
    s = mtad_real.Study()
    assert "mt_bench" in s.tasks and s.judged_tasks == ("gsm8k", "ifeval", "humaneval", "spider", "triviaqa")
    only = mtad_real.Study(tasks=("mt_bench",))
    assert only.claims() == [] and only.headlines() == {} and only.comparisons.empty
    limits = {dict(run.options)["max_new_tokens"] for run in mtad_real.Study(tokens=33).runs().values()}
    assert limits == {33}


def test_logs_have_ours_beside_theirs_by_either_name_of_spider():
    for short in ("spider_execution", "spider"):
        lines = {(short, way): made([1, 0, 1]) for way in ("MTAD", "token tree")}
        s = study(lines, kind=mtad_real.Study, methods=("MTAD", "token tree"))
        rows = [{"label": short, "name": way, "accuracy": 200 / 3} for way in ("MTAD", "token tree")]
        s.__dict__["summary"] = pd.DataFrame(rows)
        s.__dict__["cheaper"] = lambda *_: Estimate(1.5, 1.0, 2.0, 3)
        logs = s.logs()
        own = logs[logs.model.str.endswith("(ours)")]
        assert own[["task", "MTAD, %", "items"]].values.tolist() == [["Spider", 66.667, 3]], short


def test_settings_of_the_first_versions_can_be_given_and_change_nothing_by_default():
    given = {"top_k": 20, "width": 8, "fallback": 0.9, "rollback": 3.0, "tau": 0.9}
    methods = ("sampling", "greedy", "token tree", "BiLD", "MTAD", "MMTAD")
    default, first = (mtad_real.Study(tasks=("gsm8k",), methods=methods, **own) for own in ({}, given))
    for name in methods:
        method, options = WAYS[name]
        own = {key: value for key, value in {"gamma": 3, "tau": 0.05}.items() if method == "mtad"}
        assert default.runs()["gsm8k", name] == default._run("gsm8k", method, **options | own), name
    options = {name: run.resolved() for (_, name), run in first.runs().items()}
    assert {options[name].top_k for name in methods if name != "greedy"} == {20} and not options["greedy"].top_k
    assert (options["BiLD"].fallback, options["BiLD"].rollback, options["BiLD"].gamma) == (0.9, 3.0, 10)
    assert {options[name].width for name in ("MTAD", "MMTAD")} == {8}


# What is rated

NEWS = [
    {"id": f"{i:040x}", "article": f"Ships {i} came. They left.", "highlights": "Ships came and left ."}
    for i in (0, 1)
]


def texts(*given, **costs):
    """Lines of a run on the two articles."""
    return [
        {"item": f"cnn_dailymail/{row['id']}", "sample": 0, "correct": 0, "text": text, **costs}
        for row, text in zip(NEWS, given, strict=True)
    ]


def test_summaries_have_rouge_with_intervals_and_no_accuracy(monkeypatch, tmp_path):
    (tmp_path / "cnn_dailymail_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in NEWS))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    identity.items_of.cache_clear()
    ways = ("sampling", "greedy", "speculative", "threshold", "MTAD", "MMTAD")
    cost = COSTS | {"tokens_kept": 9, "target_forwards": 5, "positions": 9, **PLAIN_COST}
    cost.pop("text")
    lines = {
        ("cnn_dailymail", way): texts("Ships came and left", "Ships" if way == "MTAD" else "no word", **cost)
        for way in ways
    }
    s = study(lines, kind=mtad_real.Study, methods=ways)
    s.__dict__["all_runs"] = {key: Run.of("study-ar", "cnn_dailymail", "autoregressive", 2, max_new_tokens=LIMIT)
                              for key in lines}  # fmt: skip
    s.__dict__["_surprise_tables"] = {key: np.array([[1.0], [2.0]]) for key in lines}
    identity.items_of.cache_clear()
    assert s.judged_tasks == () and s.rated_tasks == ("cnn_dailymail",)
    assert s.claims() == [] and s.headlines() == {}, "nothing is claimed of an accuracy that there is not"
    assert s.summary[["accuracy", "low", "high"]].isna().all(axis=None)
    table = s.table()
    assert list(table.columns) == [f"cnn_dailymail, ROUGE-{n}" for n in ("L", 1, 2)]
    means = {"MTAD": 100 * (1 + 2 / 5) / 2, "sampling": 50.0}  # «Ships» is one word of four, all of its own
    for way, mean in means.items():
        e = s.rating("cnn_dailymail", way, "ROUGE-L")
        assert e.value == pytest.approx(mean) and e.low < mean < e.high and e.n == 2
        assert table["cnn_dailymail, ROUGE-1"][way] == f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"
    rows = s.comparisons.set_index(["way", "against", "task"])
    assert rows.difference["MTAD", "sampling", "cnn_dailymail, ROUGE-L"] == pytest.approx(20)
    assert "**cnn_dailymail**, ROUGE-L: sampling 50.00" in s.reading()
    identity.items_of.cache_clear()


def test_both_turns_of_mt_bench_are_judged_where_there_is_a_judge(pair_of_models, monkeypatch, tmp_path):
    turns = [{"question_id": 80 + i, "category": "x", "turns": [f"first {i}", "second"]} for i in range(2)]
    (tmp_path / "mt_bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turns))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    mt_bench._by_id.cache_clear()
    identity.items_of.cache_clear()
    given = {"items": 2, "samples": 2, "tasks": ("mt_bench",), "methods": ("sampling", "MTAD"), "tokens": 4}
    s = mtad_real.Study(**given, model="study-ar", draft="study-draft", out=str(tmp_path / "out"))
    for name in ("JUDGE_URL", "JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert s.table().mt_bench.tolist() == ["not judged"] * 2 and s.comparisons.empty
    asked = []

    def reply(model, question):
        asked.append(question)
        return "Good. Rating: [[7]]" if "second" in question else "Rating: [[4]]"

    monkeypatch.setattr(judge, "_asked", reply)
    monkeypatch.setattr(judge, "FOLDER", tmp_path / "judged")
    monkeypatch.setenv("JUDGE_URL", "http://judge")
    monkeypatch.setenv("JUDGE_MODEL", "one")
    judged = mtad_real.Study(**given, model="study-ar", draft="study-draft", out=str(tmp_path / "out"))
    assert list(judged.table().columns) == [f"mt_bench, {m}" for m in ("rating", "turn 1", "turn 2")]
    for measure, value in {"rating": 5.5, "turn 1": 4, "turn 2": 7}.items():
        e = judged.rating("mt_bench", "MTAD", measure)
        assert (e.value, e.n) == (pytest.approx(value), 2) and 1 <= e.low <= value <= e.high <= 10
    first = {line["text"] for line in judged.lines["mt_bench", "MTAD"]}
    second = [q for q in asked if "### User\nsecond" in q]
    assert all(any(f"### Assistant\n{text}\n" in q for q in second) for text in first), "after what was answered"
    assert judged.claims() == [] and "**mt_bench**, rating: sampling 5.50" in judged.reading()
    judged.save()
    assert len(pd.read_csv(tmp_path / "out" / "judged.csv")) == 2 * 2 * 2 * 2 * 2
    mt_bench._by_id.cache_clear()
    identity.items_of.cache_clear()


def test_no_claim_on_blocks_counts_answers_that_nobody_judges():
    lines = {(task, name): made([0, 1]) for task in ("qa", "mt_bench") for name in Joint().variants()}
    lines |= {("mt_bench", name): made([0, 0]) for name in Joint().variants()}
    lines["qa", "sampling"] = made([0, 0])
    s = study(lines, {key: [[1.0], [2.0]] for key in lines}, kind=Joint)
    assert s.answered == ("qa",) and {claim.here.n for claim in s.claims() if claim.unit == "points"} == {2}
    assert set(s.comparisons.task) == {"qa"}


def test_scores_and_speeds_are_of_one_setting():
    """Notebook 35's quality, 34's speed and 37's base are of the same gamma and tau."""
    real = {name: dict(run.options) for (_, name), run in mtad_real.Study(tasks=("gsm8k",)).runs().items()}
    for name, (_, options) in mtad_speed.Study().ways().items():
        if name in real:
            assert {key: real[name][key] for key in options} == options, name
    assert {"MTAD", "MMTAD", "threshold", "speculative"} <= set(real)
    chosen = mtad_tau_real.Study(tokens=96)
    base_run = mtad_real.Study(tasks=("instructions",), tokens=96, items=chosen.items).runs()[
        "instructions", "speculative"
    ]
    assert chosen._base("test", "instructions", *chosen.gammas) == base_run


def test_the_setting_is_what_was_chosen_on_validation_items():
    path = RESULTS / "night" / "37_mtad_tau_real" / "chosen.csv"
    chosen = pd.read_csv(path).set_index("task").chosen["instructions"]
    assert chosen == f"gamma {mtad_rounds.Rounds.gamma}, tau {mtad_rounds.Rounds.tau:g}"


def test_few_rounds_decide_nothing():
    rows = [(i, "taught", 1, way, 10, 1.0 if way == "MTAD" else 2.0) for way in mtad_speed.Study().ways()
            for i in range(5)]  # fmt: skip
    few = speed_study(rows, elsewhere=(), batches=(1,))
    few.__dict__["joules"] = pd.DataFrame({"joules": [math.nan]})
    assert {claim.verdict for claim in few.claims() if claim.unit == "times"} == {OPEN}
    with pytest.raises(UserError, match="gsm8k cannot be of tasks and of elsewhere"):
        mtad_speed.Study(elsewhere=("gsm8k",))


def test_a_gap_of_acceptance_is_of_totals_on_either_side():
    inside = made([0, 0], accepted=[3, 9], reached=[10, 10])
    outside = made([0], accepted=2, reached=10)
    s = study(
        {("gsm8k", "MTAD"): inside[:1], ("instructions", "MTAD"): inside[1:], ("ifeval", "MTAD"): outside},
        kind=mtad_real.Study,
    )
    e = s.acceptance_gap("MTAD", ("gsm8k", "instructions"), ("ifeval",))
    assert (e.value, e.n) == (pytest.approx(100 * (12 / 20 - 2 / 10)), 3)
    assert (e.low, e.high) == pytest.approx((10, 70)), "of one response twice"


# MT-Bench


def test_mt_bench_is_the_first_turns_and_has_no_judge(monkeypatch, tmp_path):
    turns = [{"question_id": 80 + i, "category": "x", "turns": [f"first {i}", "second"]} for i in range(3)]
    (tmp_path / "mt_bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turns))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    task = get_task("mt_bench")
    items = task.items("test")
    assert [(item.id, item.prompt) for item in items] == [(f"mt_bench/{80 + i}", f"first {i}") for i in range(3)]
    score = task.score(items[0], "anything")
    assert (score.correct, score.answer, score.status) == (0, None, "unjudged")
    for split in ("train", "validation"):
        with pytest.raises(UserError, match="test only"):
            task.items(split)


@pytest.mark.skipif(not (rows.COMMITTED / "mt_bench.jsonl.gz").is_file(), reason="its rows are not committed")
def test_mt_bench_has_its_eighty_questions(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    items = get_task("mt_bench").items("test")
    assert [item.id for item in items] == [f"mt_bench/{i}" for i in range(81, 161)]
    assert all(item.prompt.strip() for item in items) and len({item.prompt for item in items}) == 80


# From responses to words


@pytest.fixture
def pair_of_models(tmp_path, monkeypatch):
    """A random target, as a draft the same with noise, a tokenizer of QA; runs and results under tmp_path."""
    texts = [text for item in get_task("country_sentences").items("test", 30) for text in (item.prompt, item.target)]
    tokenizer = build_tokenizer(texts)
    networks = {name: tiny(len(tokenizer), seed=4) for name in ("study-ar", "study-draft", "ar-2m")}
    for small in ("study-draft", "ar-2m"):
        networks[small].lm_head.weight.data += 0.2 * tiny(len(tokenizer), seed=5).lm_head.weight.data
    for base_name in ("study-ar", "ar-2m"):
        networks[f"{base_name}-autodeco"] = AutoDecoForCausalLM.from_base(networks[base_name], heads())

    def model_of(name, device):
        return Model(name, networks[name], tokenizer, AR)

    for module in (one_batch, drafting, mtad_rounds):
        monkeypatch.setattr(module, "model_of", model_of)
    monkeypatch.setattr(identity, "describe", lambda name, device: (AR, name, "torch.float32"))
    monkeypatch.setattr(base, "run_all", partial(run_all, folder=tmp_path / "runs", workers=0))
    monkeypatch.setattr(base, "RESULTS", tmp_path / "results")


SMALL = {
    "30_mtad_scores": {},
    "31_mtad_joint": {"blocks": (1, 2), "width": 4, "drawn": (0.5,)},
    "32_mtad_sweep": {"gammas": (1, 4), "taus": (0.1, 0.5)},
    "33_mtad_frontier": {"grid": (0.5,), "epsilons": (0.09,), "rollbacks": (2.0,), "weights": (0.5,), "gammas": (4,)},
    "34_mtad_speed": {
        "model": "study-ar",
        "draft": "study-draft",
        "items": 2,
        "tokens": 6,
        "prompts": 1,
        "batches": (1, 2),
        "elsewhere": ("math",),
    },
    "35_mtad_real": {"model": "study-ar", "draft": "study-draft", "tokens": 8},
    "36_mtad_tau": {"validation_items": 3, "taus": (0.2,), "gammas": (4,), "tolerated": 100.0},
    "37_mtad_tau_real": {
        "model": "study-ar",
        "draft": "study-draft",
        "validation_items": 3,
        "taus": (0.2,),
        "gammas": (4,),
        "tolerated": 100.0,
        "tokens": 8,
    },
    "38_mtad_lossless": {"rounds": 2},
    "39_composition": {"rounds": 2},
}


@pytest.mark.parametrize("notebook", MTAD)
def test_a_study_runs_from_responses_to_words(pair_of_models, notebook, tmp_path):
    s = study_of(notebook)(**QA | {"out": str(tmp_path / "out")} | SMALL[notebook])
    s.save()
    assert s.reading() and all(line.startswith("- ") for line in s.reading().splitlines())
    assert len(s.ledger())
