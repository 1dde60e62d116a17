"""AutoDeco's rivals: equal budgets, validation items for whatever is chosen, and what is compared with what."""

from dataclasses import replace

import pytest

from lib.decoders import DECODERS
from lib.errors import UserError
from lib.studies.autodeco import frames, rivals
from lib.studies.autodeco.ablation import DEFAULT, VARIANTS
from lib.studies.autodeco.ablation import Study as Ablation
from lib.studies.autodeco.rivals import GRID, NAMES, RIVALS, Study
from lib.studies.autodeco.scores import Study as Scores
from lib.training.autodeco.recipe import SOURCES
from lib.training.autodeco.reward import REWARDS

FULL = VARIANTS["autodeco"]


def answered(run, right) -> list[dict]:
    """Lines of a run, right where `right(item number)` says so."""
    cost = {"target_forwards": 3, "positions": 3, "tokens_kept": 3, "seconds": 0.1, "joules": None, "status": "ok"}
    setting = {"temperature": 0.5, "top_p": 0.9, "drawn": 2}
    return [
        {"item": f"{i:04d}", "sample": s, "correct": int(right(i)), **cost, **setting}
        for i in range(run.items)
        for s in range(run.samples)
    ]


def lines_of(study, rules=None, otherwise=lambda i: i % 2) -> dict:
    """Every run's lines; `rules`: key -> which items are right."""
    rules = rules or {}
    return {key: answered(run, rules.get(key, otherwise)) for key, run in study.runs().items()}


def test_what_is_chosen_is_chosen_on_validation_items_by_as_many_responses_as_the_heads_had():
    study = Study(items=5)
    source = SOURCES["study-ar"]
    assert study.budgets == {"tuned": source.prompts * source.samples, "tuned_reward": 12_800}
    assert study.budgets["tuned_reward"] == REWARDS["study-ar-reward"].evaluations(len(source.tasks))
    for key, run in study.runs().items():
        assert (run.split == "validation") == (key[1] == "tuning"), key
    tuning = {key: run for key, run in study.runs().items() if key[0] == "math" and key[1] == "tuning"}
    assert {key[2:] for key in tuning} == set(GRID) and len(GRID) == 25
    spent = sum(run.items * run.samples for run in tuning.values())
    assert 12_800 - len(GRID) < spent <= 12_800
    lines = lines_of(study)
    for name, budget in study.budgets.items():
        tried = [n for _, n in study.tried(lines, "math", name).values()]
        assert len(set(tried)) == 1 and budget - len(GRID) < sum(tried) <= budget


def test_the_smaller_budget_does_not_see_what_only_the_larger_one_has():
    """One setting is best on the first 240 items, another on all 512."""
    study = Study(items=5, tasks=("math",))
    early, late = (0.4, 0.9), (1.2, 0.8)
    rules = {("math", "tuning", *early): lambda i: i < 240, ("math", "tuning", *late): lambda i: i >= 100}
    lines = lines_of(study, rules, otherwise=lambda i: i % 3 == 0)
    assert study.chosen(lines, "math", "tuned") == early
    assert study.chosen(lines, "math", "tuned_reward") == late
    later = study.later_runs(lines)
    for name, (temperature, top_p) in (("tuned", early), ("tuned_reward", late)):
        options = dict(later["math", name].options)
        assert (options["temperature"], options["top_p"]) == (temperature, top_p)
        assert later["math", name].split == "test" and later["math", name].samples == study.samples
    greedy = lines_of(study, {("math", "tuning", 0.0, 1.0): lambda i: True})
    run = study.later_runs(greedy)["math", "tuned"]
    assert run == study.runs()["math", "greedy"], "greedy decoding draws nothing, so once is enough"


def test_what_notebook_10_has_is_not_decoded_twice():
    ours, theirs = Study(items=7), Scores(items=7, samples=4)
    shared = {*ours.runs().values()} & {*theirs.runs().values()}
    assert len(shared) == 3 * len({"greedy", "entropy", "autodeco", "shuffled"})
    lines = lines_of(ours)
    of_theirs = {key: lines[key] for key in theirs.runs() if key in lines}
    assert ours.later_runs(lines)["qa", "constant"] == theirs.later_runs(of_theirs)["qa", "constant"]


def test_rivals_stand_at_what_their_papers_recommend():
    runs = Study(items=5, tasks=("qa",)).runs()
    assert {name: dict(runs["qa", name].options).get(option) for name, option in (
        ("min_p", "min_p"), ("top_h", "alpha"), ("typical", "mass"), ("p_less", "temperature"), ("entropy", "base"),
    )} == {"min_p": 0.1, "top_h": 0.4, "typical": 0.95, "p_less": 1.0, "entropy": 0.8}  # fmt: skip
    peers = set(DECODERS) & {"min_p", "p_less", "top_h", "eta", "typical_p", "entropy"}
    assert {decoder for _, decoder, _ in RIVALS.values()} == peers | {"autoregressive"}


@pytest.fixture
def found():
    """A study on made-up responses: heads by reward are right on half of the items, their constant on a quarter."""
    study = Study(items=40, samples=2, framed_items=40, budget=25)
    rules = {(task, "reward"): lambda i: i % 2 for task in study.tasks}
    rules |= {(task, "autodeco"): lambda i: i % 4 == 0 for task in study.tasks}
    lines = lines_of(study, rules, otherwise=lambda i: i % 8 == 0)
    later = {key: answered(run, lambda i: i % 4 == 1) for key, run in study.later_runs(lines).items()}
    study.__dict__["lines"] = lines | later
    return study


def _with_lines(study, lines):
    study.__dict__["lines"] = lines
    return study


def test_who_is_compared_with_whom(found):
    rows = found.comparisons
    assert len(rows) == 3 * (len(NAMES) - len(rivals.NOT_RIVALS) + 3)
    assert set(rows[rows.method == "AutoDeco"].against) == set(NAMES.values()) - {
        "AutoDeco", "heads by reward", "constant, tuned as much as by reward"}  # fmt: skip
    by_reward = rows[(rows.method == "heads by reward") & (rows.task == "qa")].set_index("against").difference
    assert by_reward.to_dict() == {"constant, tuned as much as by reward": 25.0, "AutoDeco": 25.0}
    beaten = {claim.says for claim in found.claims() if claim.says.startswith("AutoDeco beats")}
    named = [words for name, (words, *_) in RIVALS.items() if name != "greedy"]
    assert beaten >= {f"AutoDeco beats {words}, on qa" for words in named}, "the entropy rule too"


def test_the_headline_is_over_the_items_of_all_tasks(found):
    assert found.headlines() == {}, "the constant was tuned on less"
    found = _with_lines(replace(found, budget=0), found.lines)
    (entry,) = found.headlines().values()
    assert entry["value"] == 25.0 and entry["n"] == 120 and entry["low"] < 25.0 < entry["high"]
    assert set(found.headlines()) == {"autodeco_reward_heads_vs_constant"}


def test_what_is_near_the_floor_is_not_judged(found):
    lines = {key: [line | {"correct": 0} for line in rows] for key, rows in found.lines.items()}
    floor = replace(found)
    floor.__dict__["lines"] = lines
    assert set(floor.ledger().verdict) == {"not testable here"}


@pytest.mark.parametrize(
    ("turned", "verdict"), [(False, "refuted"), (True, "holds")], ids=["one order", "an order that turns"]
)
def test_flips_over_frames_are_told_by_differences_both_ways(found, turned, verdict):
    """Greedy is right on more items than min-p in three frames, and in the fourth on as many or on fewer."""
    names = frames.frames_of(found.framed_task)
    lines = dict(found.lines)
    for name in names:
        swapped = turned and name == names[-1]
        for method in frames.FRAMED:
            share = {"greedy": 4, "min_p": 36}.get(method, 20)
            share = 40 - share if swapped else share
            lines["frame", name, method] = answered(found.all_runs["frame", name, method], lambda i, n=share: i < n)
    differences = frames.framed_differences(found.framed_task, lines)
    seen, told, pairs = frames.flips(differences)
    assert pairs == 15 and (told > 0) == (seen > 0) == turned
    claim = frames.framed_claim(found.framed_task, lines)
    assert claim.verdict == verdict
    assert (claim.here.value < 0.6) == turned


def test_no_budget_is_known_for_other_models():
    with pytest.raises(UserError, match="give budget a number"):
        Study(model="llama-nemotron-8b", heads="llama-nemotron-8b-autodeco", reward="llama-nemotron-8b-autodeco")
    with pytest.raises(UserError, match="budget must be 0 or 25 or more"):
        Study(budget=24)
    with pytest.raises(UserError, match="framed_items must be 1 or more"):
        Study(framed_items=0)


def test_training_seeds_are_a_random_factor_beside_items():
    """Three seeds that differ by a point each, whatever the item: all of the spread is theirs, none the items'."""
    study = Ablation(items=200, samples=1, tasks=("qa",), variants=("autodeco", "autodeco-1", "autodeco-2"))
    shares = dict(zip((DEFAULT, *study.names.values()), (80, 100, 120, 140), strict=True))
    study.__dict__["lines"] = {
        key: answered(run, lambda i, n=shares[key[1]]: (i * 7) % 200 < n) for key, run in study.runs().items()
    }
    row = study.seeds.loc["qa"]
    assert row["by seed, %"] == "50.0, 60.0, 70.0" and row["minus default"] == pytest.approx(20)
    assert row["sd of means by seed"] == pytest.approx(10) and 9 < row["sd of seeds"] < 10
    (over_items,) = study.comparisons.query("variant == @FULL and against == @DEFAULT").itertuples()
    assert row["high"] - row["low"] > 2 * (over_items.high - over_items.low), "three seeds are few"
    assert len(replace(study, variants=("autodeco",)).seeds) == 0
