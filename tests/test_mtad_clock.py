"""Runs decoded again by the clock: MTAD beside lossless rules of today, AutoDeco's heads inside drafting."""

from functools import partial

import pandas as pd
import pytest
from conftest import AR, heads, tiny

from lib.analysis.stats import Estimate
from lib.autodeco import AutoDecoForCausalLM
from lib.errors import UserError
from lib.models.registry import Model
from lib.models.study import build_tokenizer
from lib.reporting.claims import HOLDS, LESS, OPEN, REFUTED, REPEAT
from lib.reporting.collect import DESCRIPTIONS
from lib.running import identity, one_batch
from lib.running.code import closure
from lib.running.evaluation import run_all
from lib.running.run import Run
from lib.studies import base, study_of
from lib.studies.mtad import clock
from lib.studies.mtad.composition import Study as Composition
from lib.studies.mtad.lossless import LOSSY, RULES, named
from lib.studies.mtad.lossless import Study as Lossless
from lib.studies.mtad.rounds import MEASURING
from lib.tasks import get_task
from lib.tasks.base import Item


def lines_of(correct, **costs):
    """A line an item, each of `costs` a list by item."""
    found = []
    for i, right in enumerate(correct):
        own = {name: values[i] for name, values in costs.items()}
        found.append({"item": f"item {i}", "sample": 0, "correct": right, "status": "ok", **own})
    return found


def by_clock(speeds: dict[str, float], rounds: int = 8) -> pd.DataFrame:
    """Rounds in which a way makes so many tokens a second, every round of another length."""
    rows = [(i, name, 10 + i, (10 + i) / speed) for name, speed in speeds.items() for i in range(rounds)]
    return pd.DataFrame(rows, columns=["round", "variant", "work", "seconds"])


# Rounds


@pytest.mark.parametrize("prompts", [1, 2])
def test_a_round_is_the_same_items_for_every_way_and_the_next_one_has_others(prompts, monkeypatch):
    """Of every task, in the run's own order, from the first again where there are no more."""
    asked = []

    def responses(run, items, samples, device):
        asked.append((run, [item.id for item in items], samples))
        return [{"tokens_kept": 3}]

    monkeypatch.setattr(clock, "responses", responses)
    monkeypatch.setattr(clock, "items_of", lambda task, split, n: [Item(f"{i}", "", "") for i in range(n)])
    s = Lossless(items=5, prompts=prompts, rounds=2, tasks=("qa", "math"))
    s.__dict__["all_runs"] = s.runs()
    rows = s._by_clock()
    assert len(rows) == 2 * (1 + 2 * len(RULES)) and (rows.work == 2 * prompts * 4).all()
    for run in s.runs().values():
        own = [(*ids, *samples) for one, ids, samples in asked if one == run]
        assert own == [(f"{i % 5}", 0) for i in range(3 * prompts)], "one at a time, with the round before the first"


def test_tokens_count_the_end_of_a_text_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(clock, "responses", lambda run, items, samples, device: [{"tokens_kept": 6}])
    short, long = (Run.of("study-ar", "country_sentences", "autoregressive", 2, max_new_tokens=n) for n in (6, 7))
    assert [clock.once(run, 0, 1, "cpu") for run in (short, long)] == [6, 7]


def test_ratios_are_of_totals_over_rounds_and_over_items():
    s = Lossless(tasks=("qa", "math"))
    s.__dict__["by_clock"] = by_clock({"a": 30.0, "b": 20.0})
    e = s.faster("a", "b")
    assert (e.value, e.low, e.high, e.n) == (*[pytest.approx(1.5)] * 3, 8)
    s.__dict__["lines"] = {
        ("qa", "a"): lines_of([1], accepted=[9], blocks=[3]),
        ("math", "a"): lines_of([1], accepted=[1], blocks=[2]),
        ("qa", "b"): lines_of([1], accepted=[4], blocks=[4]),
        ("math", "b"): lines_of([1], accepted=[2], blocks=[4]),
    }
    e = s.longer("a", "b")
    assert (e.value, e.n) == (pytest.approx((10 / 5) / (6 / 8)), 2), "item 0 of either task is another item"
    assert (e.low, e.high) == pytest.approx(((1 / 2) / (2 / 4), (9 / 3) / (4 / 4)))


# MTAD and the lossless rules


def lossless(speeds: dict[str, float], rounds: int = 8, **given) -> Lossless:
    """All ways at 10 tokens a second but those of `speeds`; right on every item but by MTAD with the small draft."""
    s = Lossless(tasks=("qa",), **given)
    names = [named(rule, draft) for draft in s.drafts for rule in RULES]
    rows = by_clock(dict.fromkeys(["sampling", *names], 10.0) | speeds, rounds)
    counts = {"accepted": [4] * 400, "blocks": [2] * 400}
    lines = {("qa", name): lines_of([1] * 400, **counts) for name in ("sampling", *names)}
    lines["qa", named("MTAD", s.draft)] = lines_of([0] * 200 + [1] * 200, **counts)
    s.__dict__.update(by_clock=rows, lines=lines)
    return s


def test_each_rule_is_held_against_speculative_decoding_by_its_own_draft():
    s = lossless({"speculative, ar-2m": 5.0, "MTAD, study-draft": 15.0, "HSD, study-draft": 12.0})
    found = s.headlines()
    assert {name: entry["value"] for name, entry in found.items()} == pytest.approx(
        {
            "hsd_vs_speculative_speed": 1.2,
            "mtad_vs_speculative_speed_published_tau": 1.5,
            "hsd_vs_speculative_speed_ar_2m": 2,
            "mtad_vs_speculative_speed_published_tau_ar_2m": 2,
        }
    )
    assert {entry["n"] for entry in found.values()} == {8} and {entry["unit"] for entry in found.values()} == {
        "times"
    }
    ratios = s.speed.ratio
    assert (ratios["MTAD, ar-2m"], ratios["MTAD, study-draft"], ratios["sampling"]) == (2, 1.5, 1)
    losses = s.losses.set_index(["way", "against"]).difference
    assert losses["MTAD, study-draft", "speculative, study-draft"] == -50
    assert losses["MTAD, ar-2m", "speculative, ar-2m"] == 0
    assert len(losses) == 2 * len(LOSSY) + 2, "typical acceptance against its truncation too"


def test_a_claim_on_speed_needs_rounds_and_one_on_loss_the_whole_interval():
    fast = {"MTAD, study-draft": 15.0, "MTAD, ar-2m": 12.0, "MMTAD, ar-2m": 9.0}
    claims = lossless(fast).claims()
    verdicts = {claim.says: claim.verdict for claim in claims}
    on = "MTAD at tau 0.5 is faster than speculative decoding (study-ar with {}, batch 1)".format
    assert verdicts[on("study-draft")] == HOLDS
    assert verdicts[on("ar-2m")] == HOLDS
    (less,) = [claim for claim in claims if claim.says == on("ar-2m")]
    assert less.ruling.size == LESS and less.kind == REPEAT, "another draft counts once"
    tree = "MMTAD at tau 0.5 is faster than speculative decoding (study-ar with ar-2m, batch 1)"
    assert verdicts[tree] == REFUTED
    lost = "{} at tau 0.5 loses at most 2 points to speculative decoding ({})".format
    assert verdicts[lost("MTAD", "study-draft")] == REFUTED and verdicts[lost("MTAD", "ar-2m")] == HOLDS
    few = lossless(fast, rounds=5).claims()
    assert {claim.verdict for claim in few if claim.unit == "times"} == {OPEN}


def test_two_drafts_are_two():
    with pytest.raises(UserError, match="two drafts, not ar-2m twice"):
        Lossless(draft="ar-2m")


def test_all_rules_draft_as_much_and_tau_is_that_of_the_study():
    runs = Lossless(tasks=("qa",), gamma=3, tau=0.25, tokens=9).runs()
    for (_, name), run in runs.items():
        options = dict(run.options)
        assert options["max_new_tokens"] == 9 and options.get("gamma", 3) == 3 and options.get("tau", 0.25) == 0.25
        assert run.draft == (name.rpartition(", ")[2] if name != "sampling" else "")
    released = Lossless(tasks=("qa",)).runs()["qa", "MTAD, study-draft"]
    assert released == Lossless(tasks=("qa",)).named("qa", "MTAD"), "as in notebook 30"


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A random target and drafts that are it with noise, target and one draft with heads too."""
    texts = [text for item in get_task("country_sentences").items("test", 30) for text in (item.prompt, item.target)]
    tokenizer = build_tokenizer(texts)
    networks = {name: tiny(len(tokenizer), seed=4) for name in ("study-ar", "study-draft", "ar-2m")}
    for small, noise in (("study-draft", 0.4), ("ar-2m", 0.2)):
        networks[small].lm_head.weight.data += noise * tiny(len(tokenizer), seed=5).lm_head.weight.data
    for name in ("study-ar", "ar-2m"):
        networks[f"{name}-autodeco"] = AutoDecoForCausalLM.from_base(networks[name], heads(seed=3))
    monkeypatch.setattr(one_batch, "model_of", lambda name, device: Model(name, networks[name], tokenizer, AR))
    monkeypatch.setattr(identity, "describe", lambda name, device: (AR, name, "torch.float32"))
    monkeypatch.setattr(base, "run_all", partial(run_all, folder=tmp_path / "runs", workers=0))
    monkeypatch.setattr(base, "RESULTS", tmp_path / "results")
    return {"tasks": ("qa",), "tokens": 12, "out": str(tmp_path / "out")}


def test_hsd_writes_what_block_verification_writes_and_speculative_decoding_does_not(pair):
    s = Lossless(items=20, **pair)
    for draft in s.drafts:
        hsd, block, tokens = (named(rule, draft) for rule in ("HSD", "block verification", "speculative"))
        assert s.same_texts(hsd, block) == (20, 20)
        assert s.longer(hsd, block).value == 1 and s.same_texts(block, tokens)[0] < 20
    rows = s.summary.set_index("name")
    for draft in s.drafts:
        for rule in RULES:
            assert pd.notna(rows.overshoot[named(rule, draft)]) == (rule in LOSSY), rule
        assert 0 < rows.overshoot[named("MTAD", draft)] < 0.7, "log(1/tau) a pass at most"


# Composition


def test_the_constant_is_autodecos_mean_on_the_task_alone_and_in_both_methods():
    s = Composition(tasks=("qa", "math"))
    lines = {
        (task, "AutoDeco"): lines_of([1, 1], temperature=[t, 1.0], top_p=[0.5, 0.9], drawn=[30, 10])
        for task, t in (("qa", 0.2), ("math", 0.6))
    }
    later = s.later_runs(lines)
    names = ("constant", "constant, speculative decoding", "constant, MTAD")
    assert set(later) == {(task, name) for task in s.tasks for name in names}
    for (task, name), run in later.items():
        options = dict(run.options)
        expected = {"qa": 0.4, "math": 0.7}[task]
        assert (options["temperature"], options["top_p"], options["top_k"]) == (expected, 0.6, 0), name
        assert (run.model, run.draft) == (s.model, "" if name == "constant" else s.draft)
        assert not options.get("heads")
    assert len(s.timed()) == len(s.runs()) + len(later)


def test_who_has_heads():
    s = Composition(tasks=("qa",))
    runs = {name: (run.model, run.draft, dict(run.options)) for (_, name), run in s.runs().items()}
    for method in ("speculative decoding", "MTAD"):
        assert runs[f"default, {method}"][:2] == ("study-ar", "ar-2m")
        assert runs[f"AutoDeco, {method}"][:2] == ("study-ar-autodeco", "ar-2m")
        assert runs[f"AutoDeco in both, {method}"][:2] == ("study-ar-autodeco", "ar-2m-autodeco")
        for setting in ("default", "AutoDeco", "AutoDeco in both"):
            options = runs[f"{setting}, {method}"][2]
            assert options["heads"] == setting.startswith("AutoDeco")
            assert (options["temperature"], options["top_k"], options["top_p"]) == (1, 0, 1), "nothing but the heads"


def test_a_run_has_heads_where_it_asks_for_them_and_nowhere_else():
    given = {"items": 1, "draft": "ar-2m"}
    with pytest.raises(UserError, match="study-ar has no heads, which speculative with heads=True needs"):
        Run.of("study-ar", "country_sentences", "speculative", heads=True, **given)
    with pytest.raises(UserError, match="study-ar-autodeco has heads, which autodeco and heads=True alone use"):
        Run.of("study-ar-autodeco", "country_sentences", "speculative", **given)
    run = Run.of("study-ar-autodeco", "country_sentences", "mtad", heads=True, **given)
    assert run.resolved().heads


def test_heads_in_a_run_change_its_texts_and_every_way_is_in_the_tables(pair):
    s = Composition(items=12, rounds=2, **pair)
    assert set(s.rules().index) == {name for _, name in s.all_runs}
    assert s.same_texts("AutoDeco, speculative decoding", "default, speculative decoding")[0] < 12
    assert s.speed.over["constant, MTAD"] == "constant" and s.speed.over["AutoDeco in both, MTAD"] == "AutoDeco"
    assert s.speed.ratio[["default"]].tolist() == [1]
    rows = s.summary.set_index("name")
    assert (rows.accepted[[name for name in rows.index if "," in name]] > 0).all()
    entries = s.headlines()
    names = ("autodeco_speculative", "heads_in_target", "heads_vs_constant")
    assert entries.keys() == {f"composition_{name}_speed" for name in names} <= DESCRIPTIONS.keys()
    assert {e["n"] for e in entries.values()} == {2}


@pytest.mark.parametrize("stem", ["34_mtad_speed", "35_mtad_real", "38_mtad_lossless", "39_composition"])
def test_what_times_nothing_is_no_part_of_what_measures(stem):
    """A figure, a claim or a notebook's parameters may change without the clock running again."""
    names, _ = study_of(stem).measured_by()
    used = closure(names)
    assert not [module for module, _ in used if module.startswith("lib.reporting")], used
    base = {name for module, name in used if module == "lib.studies.base"}
    assert base <= {"SHORT"}, "the names of tasks, which decide what is decoded"


@pytest.mark.parametrize("method", MEASURING)
def test_what_chooses_or_times_is_part_of_what_measures(method):
    """Notebook 34 names methods of its class one by one: each is there, and a class alone is not asked for."""
    used = closure(study_of("34_mtad_speed").measured_by()[0])
    assert ("lib.studies.mtad.rounds", f"Rounds.{method}") in used
    assert not [name for module, name in used if module == "lib.studies.mtad.rounds" and name == "Rounds"]


@pytest.mark.parametrize("verdict", ["tied", "higher"])
def test_a_dot_is_hollow_where_the_table_of_the_page_says_tied(verdict, monkeypatch):
    """Alone the difference is told apart; the table, which is corrected for more, decides."""
    monkeypatch.setattr(Lossless, "judged", lambda *_: Estimate(3, 1, 5, 50, 0.001))
    monkeypatch.setattr(Lossless, "faster", lambda *_: Estimate(1.2, 1.1, 1.3, 9))
    table = pd.DataFrame({"way": ["a"], "against": ["b"], "task": ["qa"], "verdict": [verdict]})
    speed, score = Lossless(tasks=("qa",)).figure_loss([("a", "b")], "b", table).axes
    hollow = [
        sum(len(line.get_xdata()) for line in axis.lines if line.get_markerfacecolor() == "white")
        for axis in (speed, score)
    ]
    assert hollow == [0, int(verdict == "tied")]
