"""Code: HumanEval, signature and docstring in, body out; right where its unit tests pass in the sandbox.

Asked in two ways: with an instruction, and as TOLERATOR asks, where the answer is begun for the model.
"""

from collections.abc import Iterator

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.code_text import STOPS, completed
from lib.tasks.protocol import Protocol, cut, fill
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thoughts
from lib.tasks.unit_tests import UnitTest, verdicts

ASKED = "Write a solution to the following problem and make sure that it passes the tests:\n```{prompt}"
BEGUN = "Here is the completed function:\n```python\n{prompt}\n"


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


def stream_begun(split: str) -> Iterator[Item]:
    """The same with the beginning of the answer, `prefix`, and the function's `prompt` in the reference."""
    for item in stream(split):
        begun = {"prompt": item.prompt, "prefix": fill(BEGUN, prompt=item.prompt)}
        name = item.id.replace("HumanEval", "humaneval_tolerator")
        yield Item(name, fill(ASKED, prompt=item.prompt), item.target, item.reference | begun)


def truncate(text: str) -> str:
    """The response up to the first stop string: what follows the body is not part of the answer."""
    return cut(text, STOPS)


def solution(item: Item, text: str) -> str:
    """The program that a response makes of its item's prompt; see `code_text.completed`.

    Where the answer was begun for the model, the response goes on inside that fence.
    """
    given = item.reference
    if "prefix" in given:
        text = f"{given['prefix']}{truncate(text)}"
    return completed(given.get("prompt", item.prompt), text, given["entry_point"])


def _test(item: Item) -> UnitTest:
    given = item.reference
    return UnitTest(item.id, given["entry_point"], f"{given.get('prompt', item.prompt)}{item.target}", given["test"])


@after_thoughts
def score_many(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Right where the row's unit tests pass; `answer` is the response up to the first stop string."""
    found = verdicts([(_test(item), solution(item, text)) for item, text in pairs])
    return [
        Score(int(passed), truncate(text), status) for (_, text), (passed, status) in zip(pairs, found, strict=True)
    ]


def score(item: Item, text: str) -> Score:
    return score_many([(item, text)])[0]


TASK = Task(
    name="humaneval",
    kind="code",
    licence="MIT (openai/openai_humaneval)",
    max_new_tokens=256,
    stream=stream,
    score=score,
    score_many=score_many,
    instruction="Complete this Python function. Answer with the whole function in one code block.\n\n",
)
JUDGED = "the unit tests pass in the sandbox"
PROTOCOLS = (
    Protocol(
        TASK,
        rows="openai/openai_humaneval, test",
        count=164,
        prompt="{prompt}",
        judged=JUDGED,
        whose="ours; the bare prompt for a model without a chat template is that of Chen et al. and of MTAD",
        stops=STOPS,
    ),
    Protocol(
        Task("humaneval_tolerator", "code", TASK.licence, 256, stream_begun, score, score_many=score_many),
        rows="openai/openai_humaneval, test",
        count=164,
        prompt=ASKED,
        judged=JUDGED,
        whose="TOLERATOR (its harness)",
        prefix=BEGUN,
        stops=STOPS,
    ),
)
