"""Counters of responses beside lm-eval's log of samples: a line of JSON a response, added as they are made."""

import json
from dataclasses import dataclass

from lm_eval.api.instance import Instance
from lm_eval.utils import handle_non_serializable, hash_string

LOGGED = "decoding_trace"  # where a request's arguments, which --log_samples writes, have the counters


@dataclass(frozen=True)
class Place:
    """Whose answer it is: `doc_hash` is that of lm-eval's log of samples, the same in every subset of a task."""

    task: str
    doc_id: int | None
    doc_hash: str
    sample: int

    @classmethod
    def of(cls, request: Instance, sample: int) -> "Place":
        """The place of a request's `sample`-th answer; a request without a document is known by its prompt."""
        doc = request.doc or request.args[0]
        text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
        return cls(request.task_name or "", request.doc_id, hash_string(text), sample)

    @property
    def item(self) -> str:
        """The id by which random numbers are drawn."""
        return f"{self.task}/{self.doc_hash}"

    def line(self, counters: dict) -> dict:
        return {**vars(self), **counters}


def log(request: Instance, line: dict) -> None:
    """Put the counters into what --log_samples writes of a request, its arguments: a list, one a sample."""
    prompt, given, *more = request.args
    request.arguments = (prompt, {**given, LOGGED: [*given.get(LOGGED, []), line]}, *more)


def append(path: str, lines: list[dict]) -> None:
    """Add lines to a file, which a killed run and the one that goes on from it share."""
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
