"""Code: MBPP (Austin et al. 2021), short functions in words, with the tests that they must pass in the prompt.

The 500 test questions of the full set and the 257 of the sanitized one. A row's tests may call its function with
objects of the row's own classes: those rows alone are tested in the response's process (lib/tasks/unit_tests.py).
"""

import ast
from collections.abc import Iterator
from functools import partial

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.code_text import defines, lines_of, parses, program
from lib.tasks.protocol import Protocol, cut, fill
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thoughts
from lib.tasks.unit_tests import UnitTest, verdicts

HUB = "google-research-datasets/mbpp"
SECONDS = 20.0  # one row's own solution takes 5
TEST = range(11, 511)  # the ids of the test split; a file may have all of them
PROMPT = (
    "You are an expert Python programmer, and here is your task:\n{text}\n"
    "Your code should pass these tests:\n{test_list}"
)
PREFIX = "\n```python\n"
STOPS = ("\n```",)


def _stream(name: str, config: str, split: str) -> Iterator[Item]:
    """The test questions in the file's order. Raises UserError for any split but test."""
    if split != "test":
        raise UserError(f"{name} has the split test only here, not {split!r}: train on another task")
    for row in load_rows(HUB, config, "test", f"mbpp_{config}.jsonl"):
        if row["task_id"] not in TEST:
            continue
        question = row["text"] if config == "full" else row["prompt"]
        code = lines_of(row["code"])
        setup = [lines_of(row.get("test_setup_code") or ""), *row.get("test_imports", ())]
        yield Item(
            f"{name}/{row['task_id']}",
            fill(PROMPT, text=question, test_list="\n".join(row["test_list"])),
            target=code,
            reference={
                "entry_point": called(code, row["test_list"]),
                "tests": row["test_list"],
                "setup": "\n".join(part for part in setup if part),
                "prefix": PREFIX,
            },
        )


def called(code: str, tests: list[str]) -> str:
    """The function of `code` that the tests call first. Raises ValueError where they call none."""
    own = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for test in tests:
        for node in ast.walk(ast.parse(test)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in own:
                return node.func.id
    raise ValueError("its tests call nothing that its code defines")


def _test(item: Item) -> UnitTest:
    given = item.reference
    # Each test as text: a string of several lines in it keeps its lines.
    entry = "_the_tests_of_the_row"  # one row's own function is named check
    test = f"{given['setup']}\ndef {entry}(_):\n    for test in {given['tests']!r}:\n        exec(test, globals())\n"
    return UnitTest(item.id, given["entry_point"], item.target, test, entry, direct=True)


def solution(item: Item, text: str) -> str:
    """The program in a response, which goes on inside the fence that its prefix opened: up to that fence's end, else
    of the response alone, else behind that end."""
    text = lines_of(text)
    begun = text if text.lstrip().startswith(("```", "~~~")) else f"{PREFIX}{cut(text, STOPS)}"
    name = item.reference["entry_point"]
    found = [program(given, name) for given in (begun, text, f"{PREFIX}{text}")]
    whole = [code for code in found if defines(code, name)]
    return next(filter(parses, whole), whole[0] if whole else text)


@after_thoughts
def score_many(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Right where the row's tests pass; `answer` is the program."""
    programs = [solution(item, text) for item, text in pairs]
    found = verdicts([(_test(item), code) for (item, _), code in zip(pairs, programs, strict=True)], SECONDS)
    return [Score(int(passed), code, status) for code, (passed, status) in zip(programs, found, strict=True)]


def score(item: Item, text: str) -> Score:
    return score_many([(item, text)])[0]


def _protocol(name: str, config: str, count: int, whose: str) -> Protocol:
    stream = partial(_stream, name, config)
    return Protocol(
        Task(name, "code", f"CC BY 4.0 ({HUB})", 256, stream, score, score_many=score_many),
        rows=f"{HUB}, {config}, test",
        count=count,
        prompt=PROMPT,
        judged="the tests of the row pass in the sandbox",
        whose=whose,
        prefix=PREFIX,
        stops=STOPS,
    )


PROTOCOLS = (
    _protocol("mbpp", "full", 500, "TOLERATOR (its harness), without shots"),
    _protocol("mbpp_sanitized", "sanitized", 257, "ours, asked as TOLERATOR asks the full set"),
)
