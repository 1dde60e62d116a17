"""Code: function bodies of three levels, in HumanEval's shape: signature and docstring in, body out.

The docstring says the rule in words and shows two or three calls with their results. At level 1 one added number is
left out of the words, at level 2 one factor, at level 3 both: they must be found from the calls, and only one pair of
numbers gives them. Unit tests at other inputs tell a near miss apart. A split holds out whole rules: expression and
numbers, whatever the names, the words' order or the calls.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from random import Random

from lib.tasks.base import Item, Task, generated
from lib.tasks.small_functions import score_many

NAMES = ("f", "g", "h", "solve", "compute", "answer")
NUMBERS = ("n", "x", "k", "value")
LISTS = ("xs", "nums", "values", "numbers")
FACTORS, ADDENDS = range(2, 10), range(1, 31)
UNKNOWN = "something"
# Words with the argument, a factor and an added number, and the expression; the argument is a number.
ON_NUMBERS = (
    ("Multiply {v} by {m}, then add {k}", "{m} * {v} + {k}"),
    ("Multiply {v} by {m}, then subtract {k}", "{m} * {v} - {k}"),
    ("Add {k} to {v}, then multiply by {m}", "({v} + {k}) * {m}"),
    ("Return {m} times {v}, and {k} more", "{m} * {v} + {k}"),
    ("Take {m} times {v} away from {k}", "{k} - {m} * {v}"),
    ("Return the product of {m} and the sum of {v} and {k}", "({v} + {k}) * {m}"),
)
# The argument is a list.
ON_LISTS = (
    ("Return {m} times the sum of {v}, plus {k}", "{m} * sum({v}) + {k}"),
    ("Multiply the largest of {v} by {m}, then add {k}", "{m} * max({v}) + {k}"),
    ("Multiply the smallest of {v} by {m}, then subtract {k}", "{m} * min({v}) - {k}"),
    ("Add {k} to the length of {v}, then multiply by {m}", "(len({v}) + {k}) * {m}"),
    ("Return {m} times the first of {v}, and {k} more", "{m} * {v}[0] + {k}"),
    ("Multiply the last of {v} by {m}, then add {k}", "{m} * {v}[-1] + {k}"),
)


def _function(expression: str, argument: str):
    return eval(f"lambda {argument}: {expression}", {})  # built from the tables above


def _inputs(rng: Random, lists: bool) -> list:
    if not lists:
        return rng.sample(range(1, 16), 8)
    return [[rng.randint(1, 12) for _ in range(rng.randint(2, 4))] for _ in range(8)]


def _others(body: str, argument: str, shown: list, level: int, m: int, k: int) -> bool:
    """Whether other numbers in the place of the unknown ones give the calls that are shown, too."""
    factors = FACTORS if level > 1 else (m,)
    addends = ADDENDS if level != 2 else (k,)
    fitting = [
        (a, b)
        for a, b in product(factors, addends)
        if all(_function(body.format(v=argument, m=a, k=b), argument)(i) == result for i, result in shown)
    ]
    return fitting != [(m, k)]


def draw(level: int, index: int) -> Item:
    """Item `index` of a level."""
    rng = Random(f"graded-functions-{level}/{index}")
    lists = rng.random() < 0.5
    while True:
        words, body = rng.choice(ON_LISTS if lists else ON_NUMBERS)
        name, argument = rng.choice(NAMES), rng.choice(LISTS if lists else NUMBERS)
        m, k = rng.choice(FACTORS), rng.choice(ADDENDS)
        expression = body.format(v=argument, m=m, k=k)
        function, inputs = _function(expression, argument), _inputs(rng, lists)
        shown = [[i, function(i)] for i in inputs[: 3 if level == 3 else 2]]
        if not _others(body, argument, shown, level, m, k):
            break
    said = words.format(v=argument, m=m if level == 1 else UNKNOWN, k=k if level == 2 else UNKNOWN)
    calls = ", ".join(f"{name}({i}) is {result}" for i, result in shown)
    return Item(
        id=f"graded-functions-{level}/{index}",
        prompt=f'def {name}({argument}):\n    """{said}: {calls}."""\n',
        target=f"    return {expression}",
        reference={
            "entry_point": name,
            "tests": [[i, function(i)] for i in inputs[len(shown) :]],
            "level": level,
            "rule": f"{body}/{m}/{k}",
        },
    )


def _task(level: int) -> Task:
    def stream(split: str) -> Iterator[Item]:
        return generated(partial(draw, level), split, lambda item: item.reference["rule"], lambda item: item.prompt)

    return Task(
        name=f"graded_functions_{level}",
        kind="code",
        licence="MIT (this repository)",
        max_new_tokens=24,
        stream=stream,
        score=lambda item, text: score_many([(item, text)])[0],
        score_many=score_many,
    )


LEVELS = tuple(_task(level) for level in (1, 2, 3))
