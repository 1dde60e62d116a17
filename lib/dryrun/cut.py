"""Sizes of a section cut to what two cores do in seconds, by the names of its parameters."""

import ast
from pathlib import Path

import papermill

# Parameter -> its largest value in a dry run; a smaller one stays.
MOST = {
    "items": 2,
    "samples": 2,
    "seeds": 2,
    "validation_items": 2,
    "rounds": 2,
    "prompts": 1,
    "batch": 2,
    "steps": 8,
    "width": 4,
    "fill": 8,
    "forwards": 8,
}
LENGTH = 16  # tokens of a response or a canvas; 0 stands for the task's own length, which may be 32,768
FEW = 2  # numbers that are left of a list of them
OWN = ("profile", "out", "reuse", "device")  # not taken over


def defaults(notebook: Path) -> dict:
    """The parameters that a notebook declares, with their values."""
    return {
        name: ast.literal_eval(found["default"])
        for name, found in papermill.inspect_notebook(notebook).items()
        if name not in OWN
    }


def cut(values: dict, turn: int | None = None) -> dict:
    """All parameters of a section with small values: counts by MOST, lists of numbers to the first FEW, lengths.

    Lists of words, such as tasks, models and methods, stay whole: each of them is to run once. With a `turn` only one
    task is left, another for each turn, and one sample.
    """
    found = {name: _cut(name, value) for name, value in values.items() if name not in OWN}
    if turn is not None:
        if tasks := found.get("tasks"):
            found["tasks"] = [tasks[turn % len(tasks)]]
        found |= {"samples": 1} if "samples" in found else {}
    return found


def _cut(name: str, value):
    if isinstance(value, list | tuple):
        return list(value) if any(isinstance(one, str) for one in value) else list(value)[:FEW]
    if name == "tokens":
        return min(value or LENGTH, LENGTH)
    return min(value, MOST[name]) if name in MOST and not isinstance(value, str | bool) else value
