"""Options of the decoders: frozen dataclasses that refuse what they do not know."""

from dataclasses import asdict, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any

import numpy as np
from torch import Tensor

from lib.errors import UserError


class Options:
    """Base of every method's options. Subclasses are frozen dataclasses and check themselves in `check`.

    Numbers of numpy and torch become Python's, and a list of them a tuple.
    """

    def __new__(cls, *given, **named) -> "Options":
        """A misspelt, a missing or one option too many is an error that lists those that there are."""
        names = [field.name for field in fields(cls)]
        cls._refuse_unknown(named)
        if len(given) > len(names):
            raise UserError(f"{cls.__name__} has {len(names)} options ({', '.join(names)}), not {len(given)}")
        for name in names[: len(given)]:
            if name in named:
                raise UserError(f"{cls.__name__}.{name} is given twice")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            plain = _plain(value)
            if plain is not value:
                object.__setattr__(self, field.name, plain)
                value = plain
            kinds = (float, int) if kind is float else (kind,)
            if isinstance(kind, type) and type(value) not in kinds:
                raise UserError(f"{type(self).__name__}.{field.name} must be of type {kind.__name__}, not {value!r}")
            if isinstance(value, float) and not isfinite(value):
                raise UserError(f"{type(self).__name__}.{field.name} must be a finite number, not {value!r}")
        self.check()

    def check(self) -> None:
        """Raise UserError, naming the option and its range, where a value cannot be used."""

    def require(self, name: str, holds: bool, range_: str) -> None:
        if not holds:
            raise UserError(f"{type(self).__name__}.{name} must be {range_}, not {getattr(self, name)!r}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Options":
        """Options from a mapping; a key that the method does not have is an error that lists those it has."""
        cls._refuse_unknown(values)
        return cls(**values)

    @classmethod
    def _refuse_unknown(cls, values: dict[str, Any]) -> None:
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                hint = f": did you mean {near[0]}?" if near else ""
                raise UserError(f"{cls.__name__} has no option {key!r}; it has {', '.join(known)}{hint}")

    def to_dict(self) -> dict[str, Any]:
        """What is hashed and stored with a result."""
        return {"method": type(self).__name__, **asdict(self)}


def _plain(value):
    """A number of numpy or torch as one of Python's, a list as a tuple; else the value itself."""
    if isinstance(value, np.generic) or isinstance(value, np.ndarray | Tensor) and value.ndim == 0:
        return value.item()
    if isinstance(value, list) or isinstance(value, tuple) and any(isinstance(x, np.generic | Tensor) for x in value):
        return tuple(map(_plain, value))
    return value
