"""Math: GSM8K, grade-school word problems, asked without examples.

The hub has `train` and `test`. Here the last 500 rows of its train file are `validation`, the rows before
them `train`; an id names the hub's file and row, `gsm8k/train/6973`.
"""

import re
from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.equality import equal
from lib.tasks.protocol import Detailed, Protocol, cut, fill
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thought

VALIDATION = 500
QA = "Q: {question}\nA:"  # TOLERATOR's, from the harness's gsm8k_cot
STOPS = ("Q:", "</s>", "<|im_end|>")
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


def stream_qa(split: str) -> Iterator[Item]:
    """The test questions as TOLERATOR asks them. Raises UserError for any split but test."""
    if split != "test":
        raise UserError(f"gsm8k_tolerator has the split test only, not {split!r}: train on gsm8k")
    for index, row in enumerate(load_rows("openai/gsm8k", "main", "test", "gsm8k_test.jsonl")):
        reference = {"answer": final_answer(row["answer"])}
        yield Item(f"gsm8k_tolerator/{index}", fill(QA, question=row["question"]), row["answer"], reference)


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


@after_thought
def score(item: Item, text: str) -> Score:
    """Right where `math-verify` finds the final answer equal to the reference."""
    answer = final_answer(text)
    if answer is None:
        return Score(0)
    return Score(int(equal(item.reference["answer"], answer)), answer)


@after_thought
def score_last(item: Item, text: str) -> Score:
    """Right where the last number before a stop is the reference: the harness's «flexible extract»; `strict` is
    judged by what stands after the first «The answer is»."""
    text = cut(text, STOPS)
    found, reference = _numbers(text), item.reference["answer"]
    said = re.search(r"The answer is (-?[\d.,]+)", text)
    strict = said is not None and _numbers(said[1])[:1] == [reference]
    right = bool(found) and equal(reference, found[-1])
    return Detailed(int(right), found[-1] if found else None, detail={"flexible": int(right), "strict": int(strict)})


TASK = Task(
    name="gsm8k",
    kind="math",
    licence="MIT (openai/gsm8k)",
    max_new_tokens=256,
    stream=stream,
    score=score,
    instruction="Solve step by step. End with #### and the answer as a number.\n\n",
)
PROTOCOLS = (
    Protocol(
        TASK,
        rows="openai/gsm8k, main, test",
        count=1319,
        prompt="{question}\n",
        judged="what stands after ####, else the last box or number, equals the answer (math-verify)",
        whose="ours",
    ),
    Protocol(
        Task("gsm8k_tolerator", "math", TASK.licence, 256, stream_qa, score_last),
        rows="openai/gsm8k, main, test",
        count=1319,
        prompt=QA,
        judged="the last number (flexible extract); detail: strict, after «The answer is»",
        whose="TOLERATOR (its harness, without shots); whether it reports strict or flexible is not known",
        stops=STOPS,
    ),
)
