"""Commands in words: the lists, and wordings as a random factor."""

import re
from itertools import cycle
from math import inf

import numpy as np
import pytest
from scipy.stats import t

from lib.analysis.crossed import components, crossed_mean
from lib.analysis.stats import Estimate
from lib.errors import UserError
from lib.reporting.claims import CLAIM, HOLDS, OWN, REFUTED, REPEAT, UNTESTABLE
from lib.running.identity import items_of
from lib.studies.autodeco import control
from lib.studies.autodeco.commands import NO_COMMAND, CommandStudy
from lib.studies.autodeco.commands import commands as sentences_of
from lib.studies.autodeco.control import Study as ControlStudy
from lib.studies.autodeco.control_real import Study as ControlOnLanguage
from lib.training.autodeco.commands import (
    HELD_OUT_HIGH,
    HELD_OUT_LOW,
    HELD_OUT_NEUTRAL,
    HIGH,
    LOW,
    NEUTRAL,
    NEUTRAL_FOR_HIGH,
    NEUTRAL_FOR_LOW,
    NONE,
)
from lib.training.autodeco.control import WATCHED, Control, commands_of


def words(sentence: str) -> list[str]:
    return re.findall(r"[\w']+", sentence.lower())


def test_there_are_twenty_wordings_to_learn_from_and_eight_to_test():
    learned = commands_of(Control())
    assert len(learned["low"]) >= 20 and len(learned["high"]) >= 20 and len(LOW) == len(HIGH)
    assert set(learned["low"]) == set(LOW[:-WATCHED])
    assert len(HELD_OUT_LOW) >= 8 and len(HELD_OUT_HIGH) == len(HELD_OUT_LOW)
    everything = (*LOW, *HIGH, *NONE, *NEUTRAL, *HELD_OUT_LOW, *HELD_OUT_HIGH, *HELD_OUT_NEUTRAL)
    assert len({" ".join(words(sentence)) for sentence in everything}) == len(everything)


def test_each_held_out_command_has_a_neutral_sentence_of_as_many_words():
    for commands, neutral in ((HELD_OUT_LOW, NEUTRAL_FOR_LOW), (HELD_OUT_HIGH, NEUTRAL_FOR_HIGH)):
        counts = [(len(words(a)), len(words(b))) for a, b in zip(commands, neutral, strict=True)]
        assert all(a == b for a, b in counts), counts
    assert sentences_of(8)["neutral"] == NEUTRAL_FOR_LOW + NEUTRAL_FOR_HIGH
    assert sentences_of(3)["neutral"] == NEUTRAL_FOR_LOW[:3] + NEUTRAL_FOR_HIGH[:3]
    assert sentences_of(2)["low diversity"] == HELD_OUT_LOW[:2] and len(sentences_of(2)["neutral"]) == 2


def test_held_out_wordings_are_no_trained_ones_in_other_words():
    """No held-out sentence shares half of its words with one to learn from, whatever that asks for."""
    learned = [set(words(sentence)) for sentence in (*LOW, *HIGH, *NONE, *NEUTRAL)]
    for sentence in (*HELD_OUT_LOW, *HELD_OUT_HIGH, *HELD_OUT_NEUTRAL):
        own = set(words(sentence))
        assert max(len(own & other) / len(own | other) for other in learned) < 0.5, sentence


def test_neutral_sentences_ask_for_nothing():
    asking = (
        "random randomness diverse diversity certain likely probable safe risk risky surprise creative varied vary"
    )
    asking = {
        *asking.split(),
        *"usual unusual careful temperature sampling deterministic answer reply output".split(),
    }
    for sentence in (*NEUTRAL, *HELD_OUT_NEUTRAL):
        assert not asking & set(words(sentence)), sentence


def drawn(random, rows: int, columns: int, sd=(0.5, 0.3, 1.0), mean=0.2) -> np.ndarray:
    parts = sd[0] * random.standard_normal((rows, 1)) + sd[1] * random.standard_normal(columns)
    return mean + parts + sd[2] * random.standard_normal((rows, columns))


@pytest.mark.parametrize("sd", [(0.5, 0.3, 1.0), (0.0, 0.3, 1.0), (0.4, 0.0, 0.3), (0.0, 0.0, 1.0), (0.05, 1.0, 0.5)])
def test_the_interval_covers_whatever_varies(sd):
    """Eight wordings, 60 questions, 1,500 draws of both: 95 % within simulation error; too narrow is a failure."""
    random = np.random.default_rng(5)
    inside = [e.low <= 0.2 <= e.high for e in (crossed_mean(drawn(random, 8, 60, sd)) for _ in range(1500))]
    assert 0.935 <= np.mean(inside) <= 0.985


def test_an_interval_over_questions_alone_does_not_cover():
    random = np.random.default_rng(5)
    found = [drawn(random, 8, 60).mean(0) for _ in range(300)]
    half = [1.96 * item.std(ddof=1) / 60**0.5 for item in found]
    assert np.mean([abs(item.mean() - 0.2) <= h for item, h in zip(found, half, strict=True)]) < 0.7


def test_p_is_uniform_where_there_is_nothing():
    random = np.random.default_rng(6)
    p = np.array([crossed_mean(drawn(random, 8, 40, mean=0.0)).p for _ in range(1500)])
    assert 0.03 < (p < 0.05).mean() < 0.065 and 0.44 < (p < 0.5).mean() < 0.56


def test_the_mean_squares_by_hand():
    """[[1, 2], [3, 8]]: row means 1.5 and 5.5, column means 2 and 5, all 3.5."""
    values = np.array([[1.0, 2.0], [3.0, 8.0]])
    # MS rows 2 * 8 = 16, columns 2 * 4.5 = 9, rest 4 * 1 = 4, each with one degree of freedom.
    assert components(values) == pytest.approx({"rows": 6.0, "columns": 2.5, "rest": 4.0})
    e = crossed_mean(values)
    free = 21**2 / (16**2 + 9**2 + 4**2)
    assert (e.value, e.n) == (3.5, 2)
    assert e.high - 3.5 == pytest.approx(t.ppf(0.975, free) * (21 / 4) ** 0.5)
    assert e.p == pytest.approx(2 * t.sf(3.5 / (21 / 4) ** 0.5, free))
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])  # rows and columns alike, all in the rest: MS rest 4
    assert crossed_mean(opposite).high == pytest.approx(t.ppf(0.975, 1))
    assert components(opposite) == {"rows": 0.0, "columns": 0.0, "rest": 4.0}


def test_what_cannot_be_judged_is_said():
    e = crossed_mean(np.ones((8, 5)))
    assert (e.value, e.low, e.high) == (1.0, -inf, inf)
    for bad in (np.ones((1, 9)), np.ones(9), np.array([[1.0, np.nan], [0.0, 1.0]])):
        with pytest.raises(ValueError):
            crossed_mean(bad)


HEADS = ("study-ar-autodeco", "study-ar-control")


def test_quoted_commands_have_no_neutral_sentence_each_and_there_are_no_more_than_eight():
    assert CommandStudy(heads=HEADS, wordings=2).beyond_neutral.empty
    for wordings in (1, 9):
        with pytest.raises(UserError, match="wordings must be 2 to 8"):
            CommandStudy(wordings=wordings)


def test_a_study_compares_each_command_with_its_neutral_sentence():
    """Temperature of a line: 1, 0.01 times the words of the sentence, and what a wording does the way it asks."""
    study = CommandStudy(items=6, samples=2, tasks=("math", "qa"), heads=HEADS, wordings=8)
    random, lines, effect = np.random.default_rng(0), {}, {}
    for task in study.tasks:
        of_item = random.normal(size=6)
        for model in study.heads:
            for direction, sentences in study.commands.items():
                sign = {"low diversity": -1, "high diversity": 1}.get(direction, 0) * model.endswith("control")
                for i, sentence in enumerate(sentences):
                    moved = effect.setdefault((direction, sentence), 0.2 + 0.05 * i)
                    noise = 1e-3 * random.normal(size=(6, 2))
                    value = 1 + of_item[:, None] + 0.01 * len(words(sentence)) + sign * moved + noise
                    lines[task, model, direction, sentence] = [
                        {"item": f"{n}", "temperature": v, "top_p": 1 - v / 10}
                        for n, row in enumerate(value)
                        for v in row
                    ]
    study.__dict__["lines"] = lines
    found = study.beyond_neutral.set_index(["heads", "command", "setting"])
    for direction in ("low diversity", "high diversity"):
        taught, untaught = (found.loc[(heads, direction, "T")] for heads in ("taught low/high", "untaught"))
        assert taught["shift"] == pytest.approx(0.2 + 0.05 * 3.5, abs=2e-3), "words alone move nothing"
        assert taught.sd_wordings == pytest.approx(0.05 * np.arange(8).std(ddof=1), rel=0.05)
        assert (taught.wordings, taught["items"], taught.follows) == (8, 12, 100) and taught.low > 0.2
        assert untaught.low < 0 < untaught.high or abs(untaught["shift"]) < 1e-3
        assert found.loc[("taught low/high", direction, "P"), "shift"] == pytest.approx(-0.0375, abs=1e-3)


def test_a_drop_is_paired_on_questions():
    study = CommandStudy(items=3, samples=1, tasks=("math",), heads=HEADS, wordings=8)
    means = {direction: [1.4, 0.6, 1.0] for direction in study.commands} | {"no randomness": [1.2, 0.2, 0.7]}
    study.__dict__["lines"] = {
        ("math", HEADS[1], direction, sentence): [{"item": f"{n}", "temperature": t} for n, t in enumerate(values)]
        for direction, values in means.items()
        for sentence in study.commands[direction]
    }
    e = study.drop(HEADS[1], "no randomness", study.tasks)
    assert e.value == pytest.approx(0.3) and 0.19 < e.low < e.value < e.high < 0.41 and e.n == 3, "not of the means"


def test_a_model_that_cannot_read_says_nothing_of_commands_and_a_share_stays_one(monkeypatch):
    share = Estimate(97.0, 90.0, 104.0, 12)
    monkeypatch.setattr(ControlStudy, "follows", lambda *_: share)
    monkeypatch.setattr(ControlStudy, "mean_temperature", lambda *_: share)
    monkeypatch.setattr(ControlStudy, "drop", lambda *_: share)
    for names, verdict in (
        ((HEADS[0], HEADS[1]), UNTESTABLE),
        (("r1-qwen-7b-autodeco", "r1-qwen-7b-control"), HOLDS),
    ):
        claims = ControlStudy(heads=names, wordings=8).claims()
        untaught, taught = ([c for c in claims if f"{word} heads" in c.says] for word in (" untaught", " taught"))
        assert {c.verdict for c in untaught + taught} == {verdict}
        assert [c.verdict for c in claims if "«no randomness» lowers" in c.says] == [verdict]
        assert len(untaught) == len(taught) == 4 and {c.ruling.high for c in taught} == {100}
        assert not any(c.by_items for c in untaught + taught) and {c.kind for c in claims} == {REPEAT}
    assert {c.kind for c in ControlOnLanguage(heads=HEADS[:2]).claims() if c.where != OWN} == {CLAIM}
    adapted = ControlStudy(heads=(HEADS[0], "study-ar-adapter"), wordings=8).claims()
    assert [c.verdict for c in adapted if "brings T near zero" in c.says] == [REFUTED], "97 is not near zero"
    assert {c.verdict for c in adapted if " taught heads" in c.says} == {HOLDS}, "its base learned to read them"


def test_a_mean_that_stays_follows_by_half():
    """Of four questions one follows, one goes the other way, two stand at the end of the scale."""
    study = CommandStudy(items=4, samples=1, tasks=("math",), heads=HEADS, wordings=2)
    means = dict.fromkeys(study.commands, [1.0, 0.5, 1.0, 0.5]) | {"low diversity": [0.9, 0.6, 1.0, 0.5]}
    study.__dict__["lines"] = {
        ("math", HEADS[1], direction, sentence): [{"item": f"{n}", "top_p": p} for n, p in enumerate(values)]
        for direction, values in means.items()
        for sentence in study.commands[direction]
    }
    assert study.consistency(HEADS[1], "low diversity", "top_p").value == 50
    assert study.consistency(HEADS[1], "high diversity", "top_p").value == 50


def test_every_trace_is_within_its_panel(monkeypatch):
    """The second line of a panel is higher than the first, and the third lower."""
    study = ControlStudy(items=2, samples=1, tasks=("math",), heads=HEADS, wordings=2)
    said = [{"item": item.id, "text": "x"} for item in items_of("worded_math", "test", 2)]
    study.__dict__["lines"] = {("math", HEADS[1], NO_COMMAND, ""): said}
    heights = cycle([1.0, 5.0, 0.2])
    monkeypatch.setattr(control, "model_of", lambda *_: None)
    monkeypatch.setattr(control, "_along", lambda *_: (np.full((2, 3), next(heights)), ["a", "b", "c"]))
    for axis in study.figure_traces(questions=2).axes:
        low, high = axis.get_ylim()
        assert all(low <= y <= high for line in axis.lines for y in line.get_ydata())


def test_what_the_paper_does_not_say_is_not_printed_beside_ours(monkeypatch):
    share = Estimate(0.5, 0.4, 0.6, 12)
    for name in ("follows", "mean_temperature", "drop"):
        monkeypatch.setattr(ControlStudy, name, lambda *_: share)
    claims = ControlStudy(heads=(*HEADS, "study-ar-no-randomness"), wordings=8).claims()
    assert {c.printed for c in claims if c.where == OWN} == {""} != {c.printed for c in claims if c.where != OWN}
