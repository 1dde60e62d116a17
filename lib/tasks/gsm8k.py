"""Math: GSM8K, grade-school word problems, asked without examples.

The hub has `train` and `test`. Here the last 500 rows of its train file are `validation`, the rows before
them `train`; an id names the hub's file and row, `gsm8k/train/6973`.
"""

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

from lib.tasks.base import Item, Score, Task
from lib.tasks.rows import load_rows

VALIDATION = 500
_NUMBER = r"(?:(?<!\d)[-−]\\?[$€£]?)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_SPACES = " \u00a0\u2009\u202f"  # what may stand between groups of three digits


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
    """The answer after the last `####`, else the last \\boxed{...} or number; None without any.

    After `####` it is what stands behind the last equals sign (9 * 2 = 18), a fraction or a sum that was not worked
    out is kept whole, and digits may be in groups (1 000). A currency may stand between a minus and its number.
    """
    _, mark, rest = text.rpartition("####")
    marked = _marked(rest.strip().split("\n")[0]) if mark else None
    boxed = re.findall(r"\\boxed\{(?:[^{}]|\{[^{}]*\})*\}", text)
    return marked or (boxed[-1] if boxed else None) or next(iter(_numbers(text)[::-1]), None)


def _marked(line: str) -> str | None:
    line = re.sub(rf"(?<![\d.,])(\d{{1,3}}(?:[{_SPACES}]\d{{3}})+)(?![\d{_SPACES}]*\d)", _joined, line)
    parts = [part for part in re.split(r"[=≈]", line) if _numbers(part)]
    if not parts:
        return None
    # Behind the last equals sign, or before it where a sum stands behind: 18 = 9 * 2.
    lone = [part for part in parts if len(_numbers(part)) == 1]
    part = (lone or parts)[-1]
    plain = re.sub(r"[\\$€£,]", "", part).replace("−", "-").replace("×", "*").strip(" *.")
    plain = re.sub(r"^(\d+) (\d+/\d+)$", r"\1 + \2", plain)  # 2 1/2
    whole = re.fullmatch(r"-?[\d.]+(\s*[-+*/]\s*-?[\d.]+)+", plain)
    return plain if whole else _numbers(part)[0]


def _joined(found: re.Match) -> str:
    return re.sub(rf"[{_SPACES}]", "", found[1])


def _numbers(text: str) -> list[str]:
    return [re.sub(r"[^\d.-]", "", number.replace("−", "-")) for number in re.findall(_NUMBER, text)]


def score(item: Item, text: str) -> Score:
    """Right where `math-verify` finds the final answer equal to the reference."""
    answer = final_answer(text)
    if answer is None:
        return Score(0)
    return Score(int(_equal(item.reference["answer"], answer)), answer)


def _equal(reference: str, answer: str) -> bool:
    """math-verify's time limit is an alarm, which Python gives to its main thread alone: in another one plain numbers
    need no limit, and all else goes to a process of its own."""
    if threading.current_thread() is threading.main_thread():
        return _verified(reference, answer)
    if re.fullmatch(r"-?[\d.]{1,40}", answer):
        return _verified(reference, answer, limited=False)
    call = f"from math_verify import parse, verify; print(verify(parse({reference!r}), parse({answer!r})))"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", call], capture_output=True, text=True)
    return found.stdout.strip() == "True"


def _verified(reference: str, answer: str, limited: bool = True) -> bool:
    from math_verify import parse, verify  # imported late: it takes a second

    if limited:
        return verify(parse(reference), parse(answer))
    for part in ("parser", "grader"):  # which warn that there is no limit
        logging.getLogger(f"math_verify.{part}").setLevel(logging.ERROR)
    parsed = [parse(text, parsing_timeout=None) for text in (reference, answer)]
    return verify(*parsed, timeout_seconds=None)


TASK = Task(
    name="gsm8k",
    kind="math",
    licence="MIT (openai/gsm8k)",
    max_new_tokens=256,
    stream=stream,
    score=score,
    instruction="Solve step by step. End with #### and the answer as a number.\n\n",
)
