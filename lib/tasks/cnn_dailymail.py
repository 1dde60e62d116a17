"""Summaries: CNN/DailyMail 3.0.0 (See et al. 2017), test articles; judged by ROUGE against the highlights.

No summary is right or wrong: `answer` is ROUGE-L, the detail has all four (lib/tasks/metrics).
"""

import re
from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.metrics import rouge
from lib.tasks.protocol import Detailed, Protocol, fill
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thought

HUB, CONFIG = "abisee/cnn_dailymail", "3.0.0"
PROMPT = "Summarize: {article}"
WORDS = 350  # of an article: MTAD cuts prompts at 512 tokens, which is about as much, and needs no tokenizer here


def stream(split: str) -> Iterator[Item]:
    """The test articles in the file's order, cut after `WORDS`. Raises UserError for any split but test."""
    if split != "test":
        raise UserError(f"cnn_dailymail has the split test only here, not {split!r}: train on another task")
    for row in load_rows(HUB, CONFIG, "test", "cnn_dailymail_test.jsonl"):
        article = re.match(rf"(?:\s*\S+){{0,{WORDS}}}", row["article"])[0].strip()
        reference = {"highlights": row["highlights"]}
        yield Item(f"cnn_dailymail/{row['id']}", fill(PROMPT, article=article), row["highlights"], reference)


@after_thought
def score(item: Item, text: str) -> Score:
    """`answer` is ROUGE-L as text, `detail` all measures; the status is `rated`."""
    found = rouge(text, item.reference["highlights"])
    return Detailed(0, f"{found['rougeL']:.4f}", "rated", found)


PROTOCOLS = (
    Protocol(
        Task(
            "cnn_dailymail",
            "summary",
            f"Apache-2.0 (card of {HUB}); articles (c) their publishers",
            128,
            stream,
            score,
        ),
        rows=f"{HUB}, {CONFIG}, test",
        count=11_490,
        prompt=PROMPT,
        judged="ROUGE-1, -2, -L, -Lsum against the highlights (F-measure, no stemmer)",
        whose=f"MTAD (MJSD's code): the first 100, 128 new tokens, prompts cut at 512 tokens (here at {WORDS} words)",
    ),
)
