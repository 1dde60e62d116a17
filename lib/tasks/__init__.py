"""The registry of tasks."""

from lib.errors import require_known
from lib.tasks import (
    country_facts,
    gsm8k,
    gsm_symbolic,
    humaneval,
    ifeval,
    instructions,
    mt_bench,
    small_functions,
    spider,
    triviaqa,
)
from lib.tasks.base import Task

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


def get_task(name: str) -> Task:
    """The task of that name. Raises UserError listing the names that there are."""
    require_known("task", [name], TASKS)
    return TASKS[name]
