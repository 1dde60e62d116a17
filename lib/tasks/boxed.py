"""Math at contest level: problems whose answer is asked for in a box, as AutoDeco asks for it.

MATH-500 (Hendrycks et al. 2021, the 500 of Lightman et al. 2023), AIME 2024 and 2025, BRUMO 2025, HMMT February 2025
and BeyondAIME. A response without a box is wrong: a number elsewhere in it is never read as its answer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.equality import equal
from lib.tasks.protocol import Protocol, fill
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thought

BOX = "\\boxed{"
_SIGNS = re.compile(r"(\\+boxed\s*\{)|\\.|[{}]", re.S)  # a box, an escaped sign, a brace
LINE = "Make sure you output the final answer within \\boxed{}."  # AutoDeco's, utils/llm_eval.py
PROMPT = f"{{problem}}\n{LINE}"
TOKENS = 32_768  # a thought has room in it


@dataclass(frozen=True)
class Source:
    """Where the problems of a benchmark are: a hub id with its only split, and the name of a file in DATA_DIR.

    All have the fields `problem` and `answer`, which is text or a whole number.
    """

    name: str
    hub: str
    split: str
    count: int
    licence: str
    known: str = (
        "AutoDeco: prompt, length and answer in a box (its code); equality is by math-verify, its own is by text"
    )

    def stream(self, split: str) -> Iterator[Item]:
        """The problems in the file's order. Raises UserError for any split but test: there is no other."""
        if split != "test":
            raise UserError(f"{self.name} has the split test only, not {split!r}: train on another task")
        for index, row in enumerate(load_rows(self.hub, None, self.split, f"{self.name}.jsonl")):
            answer = str(row["answer"]).strip()
            prompt = fill(PROMPT, problem=row["problem"].strip())
            yield Item(f"{self.name}/{index}", prompt, target=f"{BOX}{answer}}}", reference={"answer": answer})


def last_box(text: str) -> str | None:
    """What stands in the last box that is closed and not empty, braces in it balanced; None without one."""
    last, begun, opened = None, -1, []  # the place behind each open brace, and whether it is a box's
    for sign in _SIGNS.finditer(text):
        if sign[1] or sign[0] == "{":
            opened.append((sign.end(), bool(sign[1])))
        elif sign[0] == "}" and opened:
            start, box = opened.pop()
            said = text[start : sign.start()].strip() if box and start > begun else ""
            if said:  # of a box in a box, the inner one
                last, begun = said, start
    return last


@after_thought
def score(item: Item, text: str) -> Score:
    """Right where `math-verify` finds what stands in the last box equal to the reference."""
    answer = last_box(text)
    if not answer:
        return Score(0)
    reference = item.reference["answer"]
    same = answer == reference or equal(f"{BOX}{reference}}}", f"{BOX}{answer}}}")
    return Score(int(same), answer)


def _protocol(source: Source) -> Protocol:
    task = Task(source.name, "math", source.licence, TOKENS, source.stream, score)
    judged = "the last \\boxed{} equals the answer (math-verify); no box is wrong"
    return Protocol(task, f"{source.hub}, {source.split}", source.count, PROMPT, judged, source.known)


MATHARENA = "CC BY-NC-SA 4.0 ({}); problems of the contest's authors"
SOURCES = (
    Source("math500", "HuggingFaceH4/MATH-500", "test", 500, "MIT (openai/prm800k)", "ours, with AutoDeco's prompt"),
    Source(
        "aime24", "HuggingFaceH4/aime_2024", "train", 30, "none stated (HuggingFaceH4/aime_2024); problems (c) MAA"
    ),
    Source("aime25", "MathArena/aime_2025", "train", 30, MATHARENA.format("MathArena/aime_2025")),
    Source("brumo25", "MathArena/brumo_2025", "train", 30, MATHARENA.format("MathArena/brumo_2025")),
    Source("hmmt25", "MathArena/hmmt_feb_2025", "train", 30, MATHARENA.format("MathArena/hmmt_feb_2025")),
    Source("beyondaime", "ByteDance-Seed/BeyondAIME", "test", 100, "CC0-1.0 (ByteDance-Seed/BeyondAIME)"),
)
PROTOCOLS = tuple(map(_protocol, SOURCES))
