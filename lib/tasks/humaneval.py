"""Code: HumanEval, signature and docstring in, body out; right where its unit tests pass in the sandbox."""

import re
from collections.abc import Iterator
from json import loads

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.plain_data import decode
from lib.tasks.rows import load_rows
from lib.tasks.sandbox import Job, require_consent, run_calls

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint")


def stream(split: str) -> Iterator[Item]:
    """The 164 items in the file's order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"humaneval has the split test only, not {split}: train and tune on another task")
    for row in load_rows("openai/openai_humaneval", None, "test", "humaneval.jsonl"):
        yield Item(
            id=row["task_id"],
            prompt=row["prompt"],
            target=row["canonical_solution"],
            reference={"test": row["test"], "entry_point": row["entry_point"]},
        )


def truncate(text: str) -> str:
    """The response up to the first stop string: what follows the body is not part of the answer."""
    return text[: min((text.find(stop) for stop in STOPS if stop in text), default=len(text))]


def solution(item: Item, text: str) -> str:
    """The solution in a response: its last code block that defines the function, else the prompt continued by it."""
    name = item.reference["entry_point"]
    blocks = [block for block in re.findall(r"```(?:python)?\n(.*?)(?:```|$)", text, re.S) if f"def {name}(" in block]
    if blocks:
        head = item.prompt[: item.prompt.index(f"def {name}(")]  # its imports and helpers
        return f"{head}\n{blocks[-1]}"
    return f"{item.prompt}{truncate(text)}"


def _judge(item: Item) -> str:
    """A program of the row alone: what its tests call, and whether given answers pass them.

    The tests see a stand-in for the function, and the helpers of the row's prompt. Chance is seeded, so that they ask
    the same each time.
    """
    given = {"solution": f"{item.prompt}{item.target}", "test": item.reference["test"]}
    return f"""import random
from json import dumps
from lib.tasks.plain_data import encode

NAME, SOLUTION, TEST = {item.reference["entry_point"]!r}, {given["solution"]!r}, {given["test"]!r}


def _check(answer):
    space = {{}}
    exec(SOLUTION, space)
    exec(TEST, space)
    space[NAME] = answer
    random.seed(0)
    space["check"](answer)


def calls():
    right, asked = {{}}, {{}}
    exec(SOLUTION, right)

    def answer(*given):
        asked[dumps(encode(given))] = encode(given)
        return right[NAME](*given)

    _check(answer)
    return list(asked)


def passes(answers):
    try:
        _check(lambda *given: answers[dumps(encode(given))])
    except Exception:
        return False
    return True
"""


def _asked(items: list[Item]) -> list[list[str]]:
    """What the tests of each row call its function with, as JSON of plain data.

    Raises UserError for a row whose own solution does not pass its tests here: they cannot judge another.
    """
    wanted = {_judge(item): item for item in items}
    new = [judge for judge in wanted if judge not in _ASKED]
    found = run_calls([Job(judge, "calls", ((),)) for judge in new], timeout=30.0)
    for judge, outcome in zip(new, found, strict=True):
        if outcome.status != "ran" or not outcome.values[0]:
            raise UserError(
                f"{wanted[judge].id} cannot be judged: its own solution does not pass its tests in the sandbox, or "
                "they call the function with no plain data: take the row out, or unset DATA_DIR"
            )
        _ASKED[judge] = outcome.values[0]
    return [_ASKED[_judge(item)] for item in items]


_ASKED: dict[str, list[str]] = {}


def score_many(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Right where the row's unit tests pass. The response's process is given what they call alone; what it answers
    is put before them in another process, which the response never sees.

    So what a test would see of the function beyond its answers is not seen: changes of its arguments, what it raises.
    """
    require_consent()
    asked = _asked([item for item, _ in pairs])
    jobs = [
        Job(solution(item, text), item.reference["entry_point"], tuple(decode(loads(call)) for call in calls))
        for (item, text), calls in zip(pairs, asked, strict=True)
    ]
    outcomes = run_calls(jobs)
    ran = [place for place, outcome in enumerate(outcomes) if outcome.status == "ran"]
    answers = [dict(zip(asked[place], outcomes[place].values, strict=True)) for place in ran]
    judged = run_calls([Job(_judge(pairs[i][0]), "passes", ((a,),)) for i, a in zip(ran, answers, strict=True)])
    passed = {place: verdict.values == (True,) for place, verdict in zip(ran, judged, strict=True)}
    return [
        Score(int(passed.get(place, False)), truncate(text), "timeout" if outcome.status == "timeout" else "ok")
        for place, ((_, text), outcome) in enumerate(zip(pairs, outcomes, strict=True))
    ]


TASK = Task(
    name="humaneval",
    kind="code",
    licence="MIT (openai/openai_humaneval)",
    max_new_tokens=256,
    stream=stream,
    score=lambda item, text: score_many([(item, text)])[0],
    score_many=score_many,
    instruction="Complete this Python function. Answer with the whole function in one code block.\n\n",
)
