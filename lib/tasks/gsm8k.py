"""Math: GSM8K, grade-school word problems, asked without examples.

The hub has `train` and `test`. Here the last 500 rows of its train file are `validation`, the rows before
them `train`; an id names the hub's file and row, `gsm8k/train/6973`.
"""

import re
from collections.abc import Iterator

from lib.tasks.base import Item, Score, Task
from lib.tasks.rows import load_rows

VALIDATION = 500
_NUMBER = r"(?:(?<!\d)-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"


def stream(split: str) -> Iterator[Item]:
    """Items of a split in the file's order. Raises UserError where the rows cannot be had."""
    name = "test" if split == "test" else "train"
    rows = list(enumerate(load_rows("openai/gsm8k", "main", name, f"gsm8k_{name}.jsonl")))
    if split != "test":
        cut = max(len(rows) - VALIDATION, 0)
        rows = rows[:cut] if split == "train" else rows[cut:]
    for index, row in rows:
        yield Item(
            id=f"gsm8k/{name}/{index}",
            prompt=f"{row['question']}\n",
            target=row["answer"],
            reference={"answer": final_answer(row["answer"])},
        )


def final_answer(text: str) -> str | None:
    """The number after the last `####`, else the last \\boxed{...} or number; None without any."""
    _, mark, rest = text.rpartition("####")
    marked = re.findall(_NUMBER, rest.strip().split("\n")[0]) if mark else []
    boxed = re.findall(r"\\boxed\{(?:[^{}]|\{[^{}]*\})*\}", text)
    found = marked[:1] or boxed or re.findall(_NUMBER, text)
    return found[-1].replace(",", "") if found else None


def score(item: Item, text: str) -> Score:
    """Right where `math-verify` finds the final answer equal to the reference."""
    from math_verify import parse, verify  # imported late: it takes a second

    answer = final_answer(text)
    if answer is None:
        return Score(0)
    return Score(int(verify(parse(item.reference["answer"]), parse(answer))), answer)


TASK = Task(
    name="gsm8k",
    kind="math",
    licence="MIT (openai/gsm8k)",
    max_new_tokens=256,
    stream=stream,
    score=score,
    instruction="Solve step by step. End with #### and the answer as a number.\n\n",
)
