"""The registry of tasks."""

from lib.errors import require_known
from lib.tasks import (
    country_facts,
    country_sentences,
    graded_functions,
    gsm8k,
    gsm_symbolic,
    humaneval,
    ifeval,
    instructions,
    mt_bench,
    small_functions,
    spider,
    sudoku,
    triviaqa,
    worded_math,
)
from lib.tasks.base import Task

SECOND = (  # the test bed of the second edition
    worded_math.WORDED,
    worded_math.TERSE,
    worded_math.NEW,
    sudoku.SIX,
    sudoku.NINE,
    *graded_functions.LEVELS,
    country_sentences.TASK,
)
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
} | {task.name: task for task in SECOND}


def get_task(name: str) -> Task:
    """The task of that name. Raises UserError listing the names that there are."""
    require_known("task", [name], TASKS)
    return TASKS[name]
