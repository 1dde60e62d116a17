"""A case of `make torture`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`check(folder)` is given an empty folder and raises AssertionError, in a line, where the product failed.

    `name` is unique and stays, because a run that was killed goes on by it.
    """

    name: str
    check: Callable[[Path], None]
