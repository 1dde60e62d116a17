"""Science: GPQA (Rein et al. 2023), graduate questions with four choices: 198 «diamond» and 448 of the main set.

The rows are gated, and their authors ask that nobody publishes them in plain text: none is kept here.
"""

from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Task
from lib.tasks.boxed import LINE, TOKENS
from lib.tasks.choices import item, listed, score, score_last, shuffled
from lib.tasks.protocol import Protocol, fill
from lib.tasks.rows import NotLoaded, load_rows

HUB = "Idavidrein/gpqa"
GATED = (
    f"GPQA is gated: accept its terms at https://huggingface.co/datasets/{HUB} and run `hf auth login`, or put its "
    "rows as JSON Lines into DATA_DIR"
)
DIAMOND = f"{{Question}}\n{{choices}}\nAnswer with the letter of one choice. {LINE}"
MAIN = "What is the correct answer to this question:{Question}\nChoices:\n{choices}\nLet's think step by step: "
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def _stream(config: str, template: str, split: str) -> Iterator[Item]:
    """The questions in the file's order, choices by a seed of each. Raises UserError for any split but test, and,
    with how to have them, where the hub gives no rows."""
    if split != "test":
        raise UserError(f"{config} has the split test only, not {split!r}: train on another task")
    try:
        rows = load_rows(HUB, config, "train", f"{config}.jsonl")
    except NotLoaded as error:
        raise NotLoaded(f"{GATED} ({error})") from error
    for row in rows:
        name = f"{config}/{row['Record ID']}"
        options, letter = shuffled(name, row["Correct Answer"], [row[key] for key in WRONG])
        prompt = fill(template, choices=listed(options), Question=row["Question"].strip())
        yield item(name, prompt, len(options), letter)


def diamond(split: str) -> Iterator[Item]:
    return _stream("gpqa_diamond", DIAMOND, split)


def main(split: str) -> Iterator[Item]:
    return _stream("gpqa_main", MAIN, split)


LICENCE = f"CC BY 4.0 ({HUB}, gated)"
PROTOCOLS = (
    Protocol(
        Task("gpqa_diamond", "choice", LICENCE, TOKENS, diamond, score),
        rows=f"{HUB}, gpqa_diamond, train",
        count=198,
        prompt=DIAMOND,
        judged="the letter in the last box, or else as the response says it",
        whose="AutoDeco, who prints no prompt and grader for it: box and length are those of its math, the rest ours",
    ),
    Protocol(
        Task("gpqa_main", "choice", LICENCE, 256, main, score_last),
        rows=f"{HUB}, gpqa_main, train",
        count=448,
        prompt=MAIN,
        judged="the last letter in brackets (flexible extract)",
        whose="TOLERATOR (its harness); whether it reports strict or flexible is not known; the order is ours",
        stops=("</s>",),
    ),
)
