"""Functions judged by a row's unit tests, in the sandbox: HumanEval and MBPP."""

from dataclasses import dataclass
from json import loads

from lib.errors import UserError
from lib.tasks.plain_data import decode
from lib.tasks.sandbox import Job, Outcome, require_consent, run_calls


@dataclass(frozen=True)
class UnitTest:
    """What a row judges by: `solution` defines the function `name`, `test` a function `entry` that takes it.

    `direct`: where what the tests call or get is no plain data, such as an object of a class of the row, they may run
    in the response's own process, which can then look at them.
    """

    id: str
    name: str
    solution: str
    test: str
    entry: str = "check"
    direct: bool = False


def judge(row: UnitTest) -> str:
    """A program of the row alone: what its tests call, and whether given answers pass them.

    The tests see a stand-in for the function, and the helpers of the row's solution. Chance is seeded, so that they
    ask the same each time.
    """
    return f"""import random
from json import dumps
from lib.tasks.plain_data import encode

NAME, SOLUTION, TEST, ENTRY = {row.name!r}, {row.solution!r}, {row.test!r}, {row.entry!r}


def _check(answer):
    space = {{}}
    exec(SOLUTION, space)
    exec(TEST, space)
    space[NAME] = answer
    random.seed(0)
    space[ENTRY](answer)


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


def verdicts(pairs: list[tuple[UnitTest, str]], seconds: float = 5.0) -> list[tuple[bool, str]]:
    """Of each (row, program) whether the row's tests pass within `seconds`, and ok or timeout.

    The program's process is given what the tests call alone; what it answers is put before them in another process,
    which the program never sees. So what a test would see of the function beyond its answers is not seen: changes of
    its arguments, what it raises. Of a `direct` row whose tests need more than plain data, they run with the program.

    Raises UserError for a row whose own solution does not pass its tests here: they cannot judge another.
    """
    require_consent()
    asked = _asked([row for row, _ in pairs])
    jobs = [
        _together(row, program)
        if calls is None
        else Job(program, row.name, tuple(decode(loads(call)) for call in calls))
        for (row, program), calls in zip(pairs, asked, strict=True)
    ]
    outcomes = run_calls(jobs, seconds)
    passed = [calls is None and outcome.values == (True,) for calls, outcome in zip(asked, outcomes, strict=True)]
    ran = [i for i, outcome in enumerate(outcomes) if outcome.status == "ran" and asked[i] is not None]
    answers = [dict(zip(asked[i], outcomes[i].values, strict=True)) for i in ran]
    judged = run_calls([Job(judge(pairs[i][0]), "passes", ((a,),)) for i, a in zip(ran, answers, strict=True)])
    for i, verdict in zip(ran, judged, strict=True):
        passed[i] = verdict.values == (True,)
    return [
        (right, "timeout" if outcome.status == "timeout" else "ok")
        for right, outcome in zip(passed, outcomes, strict=True)
    ]


def _together(row: UnitTest, program: str) -> Job:
    """The program and the tests in one process."""
    passed = f"def _passed():\n    {row.entry}({row.name})\n    return True\n"
    return Job(f"{program}\n{row.test}\n{passed}", "_passed", ((),))


def _asked(rows: list[UnitTest]) -> list[list[str] | None]:
    """What the tests of each row call its function with, as JSON of plain data; None where that is not enough."""
    new = [row for row in dict.fromkeys(rows) if row not in _ASKED]
    found = run_calls([Job(judge(row), "calls", ((),)) for row in new], timeout=30.0)
    lacking = {row: outcome for row, outcome in zip(new, found, strict=True) if not _told(outcome)}
    direct = [row for row in lacking if row.direct]
    together = dict(zip(direct, run_calls([_together(row, row.solution) for row in direct]), strict=True))
    for row, outcome in zip(new, found, strict=True):
        if row in lacking and (row not in together or together[row].values != (True,)):
            raise UserError(
                f"{row.id} cannot be judged: its own solution does not pass its tests in the sandbox, or "
                "they call the function with no plain data: take the row out, or unset DATA_DIR"
            )
        _ASKED[row] = None if row in lacking else outcome.values[0]
    return [_ASKED[row] for row in rows]


def _told(outcome: Outcome) -> bool:
    return outcome.status == "ran" and bool(outcome.values[0])


_ASKED: dict[UnitTest, list[str] | None] = {}
