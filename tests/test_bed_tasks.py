"""The second test bed's tasks: what is right, and what the splits hold out."""

from itertools import combinations

import pytest

from lib.tasks import SECOND, TASKS
from lib.tasks.base import SPLITS, Item
from lib.tasks.gsm_symbolic import marked
from lib.tasks.sudoku import NINE, SIX, Search, Shape, read_clues, relabelled, written

FEW = {"sudoku9": 20}
HELD_OUT = {
    "worded_math": lambda item: item.reference["chain"],
    "terse_math": lambda item: item.reference["chain"],
    "worded_math_new": lambda item: item.reference["chain"],
    "sudoku6": lambda item: relabelled(read_clues(item.target)),
    "sudoku9": lambda item: relabelled(read_clues(item.target)),
    "country_sentences": lambda item: item.prompt.split("\n")[0],
} | {f"graded_functions_{level}": lambda item: item.reference["rule"] for level in (1, 2, 3)}


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")


@pytest.mark.parametrize("task", SECOND, ids=lambda task: task.name)
def test_targets_are_right_and_splits_share_nothing(task):
    n = FEW.get(task.name, 150)
    items = {split: task.items(split, n) for split in SPLITS}
    held = {split: {HELD_OUT[task.name](item) for item in found} for split, found in items.items()}
    assert all(not held[a] & held[b] for a, b in combinations(SPLITS, 2))
    test = items["test"]
    assert len({item.prompt for item in test}) == n and all(
        score.correct for score in task.score_all([(item, item.target) for item in test[:40]])
    )
    others = [(item, other.target) for item, other in zip(test[:19], test[1:20], strict=True)]
    assert sum(score.correct for score in task.score_all(others)) <= 4, "another question's answer"


def test_a_wording_is_held_out_of_both_tasks_on_countries():
    trained = {item.prompt.split("\n")[0] for item in TASKS["country_facts"].items("train", 8_000)}
    asked = {item.prompt.split("\n")[0] for item in TASKS["country_sentences"].items("test", 300)}
    assert not trained & asked


def sentence(relation, subject, answers):
    reference = {"relation": relation, "subject": subject, "answers": answers}
    return Item("x", "", "", reference)


@pytest.mark.parametrize(
    ("relation", "subject", "answers", "text", "right"),
    [
        ("tld", "India", [".in"], "Web addresses in India end in .in.", 1),
        ("tld", "India", [".in"], "Web addresses in India end in .uk.", 0),
        ("tld", "India", [".in"], "Web addresses in India end in .in or .uk.", 0),
        ("country", "Conakry", ["Guinea"], "Conakry is the capital of Guinea.", 1),
        ("country", "Conakry", ["Guinea"], "Conakry is the capital of Papua New Guinea.", 0),
        ("country", "Mexico City", ["Mexico"], "Mexico City is the capital of Mexico.", 1),
        ("capital", "Guinea-Bissau", ["Bissau"], "The capital of Guinea-Bissau is Bissau.", 1),
        ("capital", "Mexico", ["Mexico City"], "The capital of Mexico is Mexico.", 0),
        ("continent", "Kenya", ["Africa"], "Kenya is a country in Africa Asia Europe.", 0),
        ("continent", "Kenya", ["Africa"], "It is a country in Africa.", 0),
        ("phone", "United States", ["1"], "The calling code of United States is 1.", 1),
        ("phone", "United States", ["1"], "The calling code of United States is 1-809.", 0),
    ],
)
def test_a_sentence_names_the_subject_and_one_answer(relation, subject, answers, text, right):
    assert TASKS["country_sentences"].score(sentence(relation, subject, answers), text).correct == right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8*2=16;8+16=24#24", "24"), ("So 50.\n#### 50", "50"), ("#### $50.", "50"), ("#### -3", "-3"),
        ("#### 50.5", None), ("#### 50,000", None), ("#### 50/2", None), ("#### 50 - 1", None), ("50", None),
    ],
)  # fmt: skip
def test_the_number_behind_the_mark_stands_alone(text, number):
    assert marked(text) == number


@pytest.mark.parametrize("task", [SIX, NINE], ids=lambda task: task.name)
def test_any_grid_that_keeps_the_clues_and_the_rules_is_right(task):
    item = task.items("test", 1)[0]
    rows = item.target.split("\n")
    assert task.score(item, item.target).correct == 1
    assert task.score(item, "\n".join(rows[:-1])).correct == 0
    assert task.score(item, "\n".join([rows[1], rows[0], *rows[2:]])).correct == 0, "a clue is not kept"
    side = len(rows)
    blank = Item("x", "", "", item.reference | {"clues": written([0] * side**2, side)})
    turned = str.maketrans("123456789"[:side], "234567891"[: side - 1] + "1")
    assert task.score(blank, item.target.translate(turned)).correct == 1, "digits named otherwise"
    assert task.score(blank, "\n".join([rows[0][::-1], *rows[1:]])).correct == 0


def test_a_puzzle_has_one_solution():
    search = Search(Shape(2, 3, (8, 22)))
    for item in SIX.items("train", 25):
        found = list(search.solutions(read_clues(item.reference["clues"])))
        assert [written(grid, 6) for grid in found] == [item.target]


def test_a_near_miss_of_a_function_fails():
    for level in (1, 2, 3):
        task = TASKS[f"graded_functions_{level}"]
        items = task.items("test", 10)
        missed = [(item, item.target.replace(" + ", " - ") + " + 1") for item in items]
        assert sum(score.correct for score in task.score_all(missed)) == 0
        for item in items:
            shown = item.prompt.split(": ", 1)[1]
            assert all(f"({argument!r}) is " not in shown for argument, _ in item.reference["tests"])
