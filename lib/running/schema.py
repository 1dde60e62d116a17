"""What is read is what it should be: JSON against a shape of pydantic, and the first thing amiss as one line."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, Field, ValidationError

from lib.errors import UserError

Number = Annotated[float, AllowInfNan(False)]
Count = Annotated[int, Field(ge=0)]
SHOWN = 60  # characters of a value that is amiss


def checked(shape: type[BaseModel], value: Any, where: str, cure: str) -> Any:
    """`value` as it is. Raises UserError, naming `where`, the field and the cure, where it has not that shape."""
    try:
        shape.model_validate(value, strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_words(error)}: {cure}") from error
    return value


def parsed(raw: bytes, where: str, cure: str) -> Any:
    """JSON in UTF-8. Raises UserError where it is none; a key that stands twice and NaN are none either."""
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_refused)
    except (ValueError, RecursionError) as error:  # bytes that are no text, text that is no JSON
        raise UserError(f"{where} is not JSON ({error}): {cure}") from error


def rows_of(path: Path, shape: type[BaseModel], cure: str) -> list[dict]:
    """The rows of a file of JSON lines, none where there is no file. Raises UserError for the first that is amiss."""
    places = [(f"{path}, line {number}", line) for number, line in enumerate(_lines(path), 1)]
    return [checked(shape, parsed(line, place, cure), place, cure) for place, line in places]


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.is_file() else []


def _once(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _words(error: ValidationError) -> str:
    """The first thing that is amiss: `turns.0 must be a valid string, not 3`."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"])) or "it"
    if first["type"] == "missing":
        return f"{field} is missing"
    what = re.sub(r"^(Value error,|\w+ should) (must )?", "must ", first["msg"])
    if not first["loc"] and first["type"] == "value_error":  # of the whole, and says of which fields
        return f"{field} {what}"
    shown = ascii(first["input"])
    return f"{field} {what}, not {shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'}"
