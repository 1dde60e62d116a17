"""Knowledge: MMLU-Pro (Wang et al. 2024), up to ten choices; all 12,032 test questions, or AutoDeco's 100 of them."""

from collections.abc import Iterator
from functools import partial

from lib.errors import UserError
from lib.tasks.base import Item, Task
from lib.tasks.boxed import LINE, TOKENS
from lib.tasks.choices import item, listed, score
from lib.tasks.protocol import Protocol, fill
from lib.tasks.rows import load_rows

PROMPT = f"{{question}}\n{{options}}\nAnswer with the letter of one choice. {LINE}"


def _stream(name: str, hub: str, part: str, split: str) -> Iterator[Item]:
    """The questions in the file's order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"{name} has the split test only, not {split!r}: train on another task")
    for row in load_rows(hub, None, part, f"{name}.jsonl"):
        prompt = fill(PROMPT, options=listed(row["options"]), question=row["question"].strip())
        yield item(f"{name}/{row['question_id']}", prompt, len(row["options"]), row["answer"])


def _protocol(name: str, hub: str, part: str, count: int) -> Protocol:
    task = Task(name, "choice", f"MIT ({hub})", TOKENS, partial(_stream, name, hub, part), score)
    return Protocol(
        task,
        rows=f"{hub}, {part}",
        count=count,
        prompt=PROMPT,
        judged="the letter in the last box, or else as the response says it",
        whose="AutoDeco, who prints no prompt and grader for it: box and length are those of its math, the rest ours",
    )


PROTOCOLS = (
    _protocol("mmlu_pro", "TIGER-Lab/MMLU-Pro", "test", 12_032),
    _protocol("mmlu_pro_100", "koiwave/100MMLUpro", "train", 100),
)
