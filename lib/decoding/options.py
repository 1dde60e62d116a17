"""Options of the decoders: frozen dataclasses that refuse what they do not know."""

from dataclasses import asdict, fields
from typing import Any

from lib.errors import UserError


class Options:
    """Base of every method's options. Subclasses are frozen dataclasses and check themselves in `check`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            kinds = (float, int) if kind is float else (kind,)
            if isinstance(kind, type) and type(value) not in kinds:
                raise UserError(f"{type(self).__name__}.{field.name} must be of type {kind.__name__}, not {value!r}")
        self.check()

    def check(self) -> None:
        """Raise UserError, naming the option and its range, where a value cannot be used."""

    def require(self, name: str, holds: bool, range_: str) -> None:
        if not holds:
            raise UserError(f"{type(self).__name__}.{name} must be {range_}, not {getattr(self, name)!r}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Options":
        """Options from a mapping; a key that the method does not have is an error that lists those it has."""
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise UserError(f"{cls.__name__} has no option {key!r}; it has {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """What is hashed and stored with a result."""
        return {"method": type(self).__name__, **asdict(self)}
