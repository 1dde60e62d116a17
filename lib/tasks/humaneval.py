"""Code: HumanEval, signature and docstring in, body out; right where its unit tests pass in the sandbox."""

import re
from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.rows import load_rows
from lib.tasks.sandbox import run_programs

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


def program(item: Item, text: str) -> str:
    """The program that the sandbox runs: the solution and the item's unit tests."""
    return f"{solution(item, text)}\n{item.reference['test']}\ncheck({item.reference['entry_point']})\n"


def score_many(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Right where every unit test passes in the sandbox."""
    outcomes = run_programs([program(item, text) for item, text in pairs])
    return [
        Score(int(outcome == "passed"), truncate(text), "timeout" if outcome == "timeout" else "ok")
        for (_, text), outcome in zip(pairs, outcomes, strict=True)
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
