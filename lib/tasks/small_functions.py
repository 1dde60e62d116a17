"""Code: small Python functions in HumanEval's shape, signature and docstring in, body out.

A function filters a list, maps it and folds it, or is a rule on one number. Half of the docstrings say so
in words, half show only two calls and their results, so that the rule must be induced. Unit tests come
from the canonical body; a response is right where the function gives in the sandbox what they say.
"""

from random import Random

from lib.tasks.base import Item, Score, Task, generated
from lib.tasks.sandbox import Job, run_calls

NAMES = ("f", "g", "h", "solve", "compute", "answer")
LISTS = ("xs", "nums", "values")
NUMBERS = ("n", "x", "k")
FILTERS = (
    ("even numbers", "x % 2 == 0"),
    ("odd numbers", "x % 2 == 1"),
    ("numbers above {k}", "x > {k}"),
    ("numbers below {k}", "x < {k}"),
    ("multiples of {k}", "x % {k} == 0"),
    ("numbers other than {k}", "x != {k}"),
    ("numbers", None),
)
MAPS = (
    ("the squares of ", "x * x"),
    ("twice ", "2 * x"),
    ("{m} times ", "{m} * x"),
    ("the last digits of ", "x % 10"),
    ("the halves of ", "x // 2"),
    ("one more than ", "x + 1"),
    ("", "x"),
)
FOLDS = (
    ("sum of {e}", "sum({s})"),
    ("number of distinct values among {e}", "len(set({s}))"),
    ("largest of {e}, or 0", "max({s}, default=0)"),
    ("smallest of {e}, or 0", "min({s}, default=0)"),
    ("list of {e}", "{s}"),
    ("sorted list of {e}", "sorted({s})"),
    ("list of {e} in reverse", "{s}[::-1]"),
)
RULES = (
    "{m} * {v} + {k}",
    "{m} * {v} - {k}",
    "{v} % {m}",
    "{v} // {m}",
    "{v} * {v} + {k}",
    "({v} + {k}) * {m}",
    "{k} - {v}",
    "max({v}, {k})",
    "min({v}, {k})",
    "abs({v} - {k})",
    "{v} + {v} % {m}",
    "{m} if {v} > {k} else {v}",
    "{v} % {m} == 0",
    "{v} > {k}",
)


def _list_function(rng: Random) -> tuple[str, str, str, list]:
    k, m, name = rng.randint(2, 9), rng.randint(3, 9), rng.choice(LISTS)
    (what, keep), (how, body), (which, fold) = rng.choice(FILTERS), rng.choice(MAPS), rng.choice(FOLDS)
    clause = f" if {keep.format(k=k)}" if keep else ""
    sequence = name if body == "x" and not clause else f"[{body.format(m=m)} for x in {name}{clause}]"
    words = which.format(e=f"{how.format(m=m)}the {what.format(k=k)} in {name}")
    inputs = [[rng.randint(0, 20) for _ in range(rng.randint(3, 6))] for _ in range(6)] + [[]]
    return name, f"Return the {words}.", fold.format(s=sequence), inputs


def _number_rule(rng: Random) -> tuple[str, str, str, list]:
    name = rng.choice(NUMBERS)
    rule = rng.choice(RULES).format(v=name, k=rng.randint(1, 9), m=rng.randint(2, 9))
    inputs = rng.sample(range(1, 20), 8)
    function = eval(f"lambda {name}: {rule}", {})  # a rule of RULES
    shown = ", ".join(f"f({i}) is {function(i)}" for i in inputs[:3])
    return name, f"Such that {shown}.", rule, inputs


def draw(index: int) -> Item:
    """Item `index`: a described function of a list, or a rule on numbers shown by three calls."""
    rng = Random(f"small-functions/{index}")
    argument, doc, expression, inputs = rng.choice((_list_function, _number_rule))(rng)
    function = rng.choice(NAMES) if doc.startswith("Return") else "f"
    canonical = eval(f"lambda {argument}: {expression}", {})  # built from the tables above
    return Item(
        id=f"small-functions/{index}",
        prompt=f'def {function}({argument}):\n    """{doc}"""\n',
        target=f"    return {expression}",
        reference={"entry_point": function, "tests": [[i, canonical(i)] for i in inputs]},
    )


def job(item: Item, text: str) -> Job:
    """What the sandbox is given: prompt and response, and the inputs of the item's unit tests."""
    calls = tuple((argument,) for argument, _ in item.reference["tests"])
    return Job(f"{item.prompt}{text}\n", item.reference["entry_point"], calls)


def score_many(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Right where every unit test's input gives its value; the values are compared here, not in the program."""
    outcomes = run_calls([job(item, text) for item, text in pairs])
    scores = []
    for (item, text), outcome in zip(pairs, outcomes, strict=True):
        right = outcome.status == "ran" and all(
            given == expected for given, (_, expected) in zip(outcome.values, item.reference["tests"], strict=True)
        )
        scores.append(Score(int(right), text.strip(), "timeout" if outcome.status == "timeout" else "ok"))
    return scores


TASK = Task(
    name="small_functions",
    kind="code",
    licence="MIT (this repository)",
    max_new_tokens=32,
    stream=lambda split: generated(draw, split, key=lambda item: item.prompt),
    score=lambda item, text: score_many([(item, text)])[0],
    score_many=score_many,
)
