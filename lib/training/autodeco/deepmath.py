"""DeepMath-103K (zwhe99/DeepMath-103K, MIT), whose problems AutoDeco's trajectories are drawn for.

Asked and judged as its benchmarks of mathematics are (lib/tasks/boxed.py); training problems alone, in an order that
is mixed by their text, so that the first ones are of all topics and difficulties.
"""

from collections.abc import Iterator
from hashlib import sha256

from lib.errors import UserError
from lib.tasks.base import Item, Task
from lib.tasks.boxed import BOX, PROMPT, score
from lib.tasks.protocol import fill
from lib.tasks.rows import load_rows

TOKENS = 16_384  # the paper's longest training sequence
FILE = "deepmath_103k.jsonl"


def stream(split: str) -> Iterator[Item]:
    """The problems that have an answer. Raises UserError for any split but train, and for rows of another form."""
    if split != "train":
        raise UserError(f"deepmath has the split train only, not {split!r}: it is there to be trained on")
    rows = load_rows("zwhe99/DeepMath-103K", None, "train", FILE)
    found = {}
    for row in rows:
        question, answer = (str(row.get(name) or "").strip() for name in ("question", "final_answer"))
        if question and answer:
            found.setdefault(sha256(question.encode()).hexdigest(), (question, answer))
    if not found:
        raise UserError(f"{FILE} has no rows with `question` and `final_answer`: take those of zwhe99/DeepMath-103K")
    for name, (question, answer) in sorted(found.items()):
        prompt, target = fill(PROMPT, problem=question), f"{BOX}{answer}}}"
        yield Item(f"deepmath/{name[:16]}", prompt, target=target, reference={"answer": answer})


TASK = Task("deepmath", "math", "MIT (zwhe99/DeepMath-103K)", TOKENS, stream, score)
