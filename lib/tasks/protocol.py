"""How a benchmark is asked and judged, as data: what a notebook quotes beside the scores.

A task holds what a run needs; a protocol adds what a reader needs to compare a score with a printed one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from lib.tasks.base import Score, Task


@dataclass(frozen=True)
class Protocol:
    """`rows`: hub id, config and split; `count`: how many items that gives, or at most, where `rows` says so;
    None where nobody knows.

    `prompt`: what an item shows, {field} for a field of its row; the task's instruction goes before it for a chat
    model. `prefix`: the beginning of the answer that the model is given. `stops`: strings at the first of which the
    scorer cuts a response, whatever the decoder did behind it. `judged`: what makes a response right. `whose`: who
    set this, and what is ours because nobody printed it.
    """

    task: Task
    rows: str
    count: int | None
    prompt: str
    judged: str
    whose: str
    prefix: str = ""
    shots: int = 0
    stops: tuple[str, ...] = ()

    def row(self) -> dict[str, str | int | None]:
        """A row of a table of protocols."""
        return {
            "task": self.task.name,
            "rows": self.rows,
            "items": self.count,
            "shots": self.shots,
            "prompt": f"{self.task.instruction}{self.prompt}",
            "prefix": self.prefix,
            "stops": " ".join(map(repr, self.stops)),
            "tokens": self.task.max_new_tokens,
            "judged": self.judged,
            "settings of": self.whose,
        }


@dataclass(frozen=True)
class Detailed(Score):
    """A score of a task that can be judged in more than one way: `detail` has each by its name."""

    detail: dict[str, float] = field(default_factory=dict)


def fill(template: str, **fields: str) -> str:
    """A template with its {fields} replaced; other braces, such as LaTeX's, stay."""
    for name, value in fields.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def cut(text: str, stops: Iterable[str]) -> str:
    """A response up to the first of `stops` in it."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
