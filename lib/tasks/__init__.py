"""The registry of tasks."""

from lib.errors import require_known
from lib.tasks import (
    boxed,
    cnn_dailymail,
    country_facts,
    country_sentences,
    gpqa,
    graded_functions,
    gsm8k,
    gsm_symbolic,
    humaneval,
    ifeval,
    instructions,
    livecodebench,
    mbpp,
    mmlu_pro,
    mt_bench,
    small_functions,
    spider,
    spider_execution,
    sudoku,
    triviaqa,
    worded_math,
)
from lib.tasks.base import Item, Task
from lib.tasks.prompt_templates import MARK, with_template
from lib.tasks.protocol import Protocol

SECOND = (  # the test bed of the second edition
    worded_math.WORDED,
    worded_math.TERSE,
    worded_math.NEW,
    sudoku.SIX,
    sudoku.NINE,
    *graded_functions.LEVELS,
    country_sentences.TASK,
)
# The public benchmarks, with how each is asked and judged.
PROTOCOLS: dict[str, Protocol] = {
    protocol.task.name: protocol
    for module in (
        boxed,
        gsm8k,
        gpqa,
        mmlu_pro,
        humaneval,
        mbpp,
        livecodebench,
        triviaqa,
        ifeval,
        spider,
        spider_execution,
        mt_bench,
        cnn_dailymail,
    )
    for protocol in module.PROTOCOLS
}
TASKS: dict[str, Task] = {
    module.TASK.name: module.TASK
    for module in (
        gsm_symbolic,
        country_facts,
        small_functions,
        gsm8k,
        humaneval,
        triviaqa,
        ifeval,
        instructions,
        mt_bench,
        spider,
    )
}
TASKS |= {task.name: task for task in (*SECOND, *(protocol.task for protocol in PROTOCOLS.values()))}

# What a score of a task says beside right and wrong; see `details`.
DETAILS: dict[str, tuple[str, ...]] = {
    "triviaqa": ("inclusion", "exact"),
    "triviaqa_tolerator": ("inclusion", "exact"),
    "gsm8k_tolerator": ("flexible", "strict"),
    "cnn_dailymail": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    "spider_execution": ("execution", "ordered"),
}


def get_task(name: str) -> Task:
    """The task of that name, in a prompt template where `@` and its name follow. Raises UserError listing the names
    that there are."""
    own, mark, template = name.partition(MARK)
    require_known("task", [own], TASKS)
    return with_template(TASKS[own], template) if mark else TASKS[own]


def protocol_of(name: str) -> Protocol:
    """How a public benchmark is asked and judged. Raises UserError listing those that there are."""
    require_known("protocol of a task", [name], PROTOCOLS)
    return PROTOCOLS[name]


def protocol_table(names: list[str]) -> list[dict]:
    """A row a benchmark of `names`, to be shown as a table; tasks that are made here have none and are left out."""
    return [PROTOCOLS[name].row() for name in names if name in PROTOCOLS]


def details(task: str, pairs: list[tuple[Item, str]]) -> list[dict[str, float]]:
    """What DETAILS names of each (item, response), in order: 0 or 1, of ROUGE a number in [0, 1]; 0 for a response
    that has no answer. Empty for a task without details, which is not judged. Raises UserError as the task's scorer
    does, and for a task that there is not."""
    record, names = get_task(task), DETAILS.get(task, ())
    scores = record.score_all(pairs) if names else [None] * len(pairs)
    return [dict.fromkeys(names, 0) | getattr(score, "detail", {}) for score in scores]
