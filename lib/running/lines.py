"""The file of a run: one JSON line a response, appended, so that a kill costs no more than its last line."""

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, InstanceOf

from lib.errors import UserError
from lib.running.schema import Count, checked

MEASURED = ("seconds", "joules")  # differ from run to run, so no part of what must be equal
CURE = "remove that line and run again: its response is decoded anew"
Measured = Annotated[float, Field(ge=0)]


class Line(BaseModel):
    """What every line has; a method's own measures stand beside it."""

    item: str
    row: str
    sample: Count
    correct: bool | Annotated[int, Field(ge=0, le=1)]
    status: str
    answer: InstanceOf[str] | None  # of a model's making, so that any character may be in it
    text: InstanceOf[str]
    target_forwards: Count
    positions: Count
    tokens_kept: Count
    draft_forwards: Count | None
    seconds: Measured
    joules: Measured | None


def read_lines(path: Path, shape: type[BaseModel] = Line) -> list[dict]:
    """The whole lines of a run's file, the file left as it is; what a kill left half-written at its end is not one.

    A row that stands there twice counts once. Raises UserError where the two differ, and for a line that is none.
    """
    if not path.exists():
        return []
    raw = path.read_bytes()
    places = [f"line {number} of {path}" for number in range(1, raw.count(b"\n") + 1)]
    return once(
        [(_line(line, place, shape), place) for line, place in zip(raw.split(b"\n")[:-1], places, strict=True)]
    )


def cut(path: Path) -> None:
    """Cut off what a kill left half-written at the end of a file, before more is appended to it.

    For the holder of the run's lock alone: of another process it would cut the line under way.
    """
    if path.exists() and _whole(raw := path.read_bytes()) != len(raw):
        os.truncate(path, _whole(raw))


def once(found: list[tuple[dict, str]]) -> list[dict]:
    """Lines, each with its place, without those that repeat another but for what was measured.

    Raises UserError where two responses to the same row differ.
    """
    kept: dict[tuple, tuple[dict, str]] = {}
    for line, place in found:
        first, before = kept.setdefault((line["item"], line["row"], line["sample"]), (line, place))
        if first is not line and _decoded(first) != _decoded(line):
            raise UserError(
                f"two responses to item {line['item']}, sample {line['sample']} differ: {before} and {place}; "
                "remove the one that other code or weights gave, or both, and run again"
            )
    return [line for line, _ in kept.values()]


def _line(raw: bytes, place: str, shape: type[BaseModel]) -> dict:
    try:
        found = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # such as a block of NUL, as a power cut leaves it
        raise UserError(f"{place} is not JSON ({error}): {CURE}") from error
    return checked(shape, found, place, CURE)


def _whole(raw: bytes) -> int:
    return raw.rfind(b"\n") + 1


def _decoded(line: dict) -> dict:
    return {key: value for key, value in line.items() if key not in MEASURED}
