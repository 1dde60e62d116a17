"""Answers and the scores that they deserve: wrong ones that claim to be right, right ones that are written oddly.

Each check is the responses of one kind: (task, item, response, score). Programs that must not score 1 try to be
compared with nothing but themselves, to read what is expected, to end early, or to change what compares.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice

from lib.bench.reliability.misscored_programs import RIGHT, RIGHT_SUMS, WRONG
from lib.tasks import get_task
from lib.tasks.base import Item

Row = tuple[str, Item, str, int]
SUM = Item(
    "sum",
    'def total(xs):\n    """Return the sum of xs."""\n',
    "    return sum(xs)",
    {"entry_point": "total", "tests": [[[1, 2], 3], [[], 0], [[5, 5, 5], 15], [[1], 1]]},
)
GROUPS = 8  # of HumanEval's items, for a case is to be quick
ANYTHING = "    " + "\n    ".join(
    [
        "class Any(int):",
        "    __slots__ = ()",
        *(f"    def __{name}__(self, *_): return True" for name in ("eq", "lt", "gt", "le", "ge", "bool")),
        *(f"    def __{name}__(self, *_): return self" for name in ("sub", "rsub", "abs", "add", "radd", "call")),
        "    def __ne__(self, *_): return False",
        "    def __iter__(self): return iter(())",
        "    def __hash__(self): return 0",
        "return Any()",
    ]
)


@cache
def _items(task: str, n: int | None = None) -> tuple[Item, ...]:
    return tuple(get_task(task).items("test", n))


def _humaneval() -> Item:
    """The item that the programs here solve: the sum and the product of a list."""
    return next(item for item in _items("humaneval") if item.id == "HumanEval/8")


def _programs(programs: dict[str, str], right: int) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        for text in programs.values():
            yield "graded_functions_2", SUM, text, right

    return rows


def _one(text: str, right: int) -> Callable[[], Iterator[Row]]:
    return _programs({"": text}, right)


def _group(group: int, text: Callable[[Item], str], right: int) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        for item in islice(_items("humaneval"), group, None, GROUPS):
            yield "humaneval", item, text(item), right

    return rows


def _on_humaneval(text: str, right: int) -> Callable[[], Iterator[Row]]:
    return lambda: iter([("humaneval", _humaneval(), text, right)])


def _maths() -> Iterator[Row]:
    for answer, text, right in (
        ("18", "#### 9 * 2 = 18", 1),
        ("9", "#### 9 * 2 = 18", 0),
        ("1000", "#### 1 000", 1),
        ("1", "#### 1 000", 0),
        ("-3", "#### -$3", 1),
        ("3", "#### -$3", 0),
        ("2", "#### 2 1/2", 0),
        ("9", "#### 9 * 2", 0),
        ("18", "#### $18$ dollars", 1),
        ("3", "#### 3/4", 0),
    ):
        yield "gsm8k", Item("x", "", "", {"answer": answer}), text, right


def _echoes() -> Iterator[Row]:
    """TriviaQA's questions said again, which answers none of them."""
    for item in _items("triviaqa"):
        yield "triviaqa", item, item.prompt, 0
    by_id = {item.prompt.strip(): item for item in _items("triviaqa")}
    wherry = by_id["A 'wherry' is a Drink; Cheese; Wind; or Boat?"]
    yield from (
        ("triviaqa", wherry, text, right) for text, right in (("Boat", 1), ("A boat.", 1), ("Wind or boat", 0))
    )


def _nothing_found() -> Iterator[Row]:
    """Spider's queries that find nothing where databases are filled without care: what finds nothing is not right."""
    by_id = {item.id: item for item in _items("spider")}
    for name in ("spider/478", "spider/216", "spider/986"):
        for text, right in (
            (by_id[name].target, 1),
            ("SELECT 1 WHERE 1 = 2", 0),
            ("SELECT 0", 0),
            ("SELECT NULL", 0),
        ):
            yield "spider", by_id[name], text, right


def _letters() -> Iterator[Row]:
    for letter, text, right in (
        ("#", "#fun #sun #run #art", 1),
        ("#", "aaaa bbbb eeee #x", 0),
        ("!", "a! b! c! d!", 1),
    ):
        given = {"letter": letter, "let_frequency": 4, "let_relation": "at least"}
        asked = {"instructions": ["keywords:letter_frequency"], "kwargs": [given]}
        yield "ifeval", Item("x", "", "", asked), text, right


def judged(rows: Callable[[], Iterator[Row]]) -> None:
    """Raises AssertionError for a response whose score is another than it deserves."""
    os.environ.setdefault("ALLOW_CODE_EXECUTION", "1")
    by_task: dict[str, list[Row]] = {}
    for row in rows():
        by_task.setdefault(row[0], []).append(row)
    for task, found in by_task.items():
        scores = get_task(task).score_all([(item, text) for _, item, text, _ in found])
        for (_, item, text, right), score in zip(found, scores, strict=True):
            assert score.correct == right, f"{item.id} scores {score.correct}, not {right}: {text[:60]!r}"


CHECKS: dict[str, Callable[[], Iterator[Row]]] = {
    **{f"wrong: {name}": _one(text, 0) for name, text in WRONG.items()},
    **{f"right: {name}": _one(text, 1) for name, text in RIGHT.items()},
    **{f"right: {name} (HumanEval)": _on_humaneval(text, 1) for name, text in RIGHT_SUMS.items()},
    **{f"HumanEval's solutions {n}": _group(n, lambda item: item.target, 1) for n in range(GROUPS)},
    **{f"HumanEval by one object {n}": _group(n, lambda item: ANYTHING, 0) for n in range(GROUPS)},
    "numbers behind ####": _maths,
    "questions said again": _echoes,
    "queries that find nothing": _nothing_found,
    "signs that are no letters": _letters,
}
