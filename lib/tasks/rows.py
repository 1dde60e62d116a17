"""Rows of public data sets: from a folder of JSON Lines (`DATA_DIR`), from `data/` here, or from the hub."""

import gzip
import os
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel

from lib.errors import UserError, why
from lib.running.schema import checked, parsed
from lib.tasks.row_shapes import SHAPES

COMMITTED = Path(__file__).parent / "data"  # see its SOURCES.md


class NotLoaded(UserError):
    """The hub did not give the rows: it cannot be reached, or they are gated."""


class _Object(BaseModel):
    """A row of a file that SHAPES does not know."""


def load_rows(hub_id: str, config: str | None, split: str, file: str, revision: str | None = None) -> list[dict]:
    """The rows of one split, in order, with the field names of the hub.

    With DATA_DIR set they are the lines of `$DATA_DIR/<file>`, else those committed here, and where there are none
    they come from the hub at `revision` (None: the newest). Raises UserError where that one place does not have
    them: no other is tried; and for a row that is not of the file's shape, or repeats another's id.
    """
    path, cure = _place(hub_id, split, file)
    if path is None:
        return _sound(_of_the_hub(hub_id, config, split, file, revision), file, cure)
    return _sound(_lines(path, cure), file, cure)


class FileRows(Sequence):
    """The rows of a file of JSON Lines, each read when it is asked for: for rows too large to be held together."""

    def __init__(self, path: Path, shape: type[BaseModel], cure: str):
        self.path, self.shape, self.cure = path, shape, cure
        self.places, at = [], 0
        with path.open("rb") as file:
            for line in file:
                self.places += [at] if line.strip(b"\xef\xbb\xbf \t\r\n") else []
                at += len(line)
        if not self.places:
            raise UserError(f"{path} has no rows: {cure}")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict:
        with self.path.open("rb") as file:
            file.seek(self.places[index])
            line = file.readline().removeprefix(BOM_UTF8)
        row = parsed(line, f"{self.path} is not JSON Lines: row {index + 1}", self.cure)
        return checked(self.shape, row, self.where(index), self.cure)

    def where(self, index: int) -> str:
        """The name of a row, for an error."""
        return f"{self.path}, row {index + 1}"


class HubRows(Sequence):
    """The same of a memory-mapped data set of the hub, named `name`."""

    def __init__(self, rows: Sequence[dict], name: str, shape: type[BaseModel], cure: str):
        self.rows, self.name, self.shape, self.cure = rows, name, shape, cure

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return checked(self.shape, self.rows[index], self.where(index), self.cure)

    def where(self, index: int) -> str:
        """The name of a row, for an error."""
        return f"{self.name}, row {index + 1}"


def open_rows(
    hub_id: str, config: str | None, split: str, file: str, revision: str | None = None
) -> FileRows | HubRows:
    """What `load_rows` gives, but on disk: of the hub a memory-mapped data set, of DATA_DIR a file."""
    path, cure = _place(hub_id, split, file)
    shape = SHAPES.get(file, (_Object, None))[0]
    if path is not None:
        return FileRows(path, shape, cure)
    return HubRows(_dataset(hub_id, config, split, file, revision), _named(hub_id, split), shape, cure)


def _place(hub_id: str, split: str, file: str) -> tuple[Path | None, str]:
    """Where the rows are, None for the hub, and what cures bad ones."""
    folder, here = os.environ.get("DATA_DIR"), COMMITTED / f"{file}.gz"
    path = Path(folder, file) if folder else here if here.is_file() else None
    if path is not None and not path.is_file():
        raise UserError(f"no file {path}: put {hub_id} ({split}) there as JSON Lines, or unset DATA_DIR")
    if path is None:
        return None, f"take another revision of {hub_id}"
    return path, "correct it, or unset DATA_DIR" if folder else "`git checkout lib/tasks/data`"


def _lines(path: Path, cure: str) -> list[tuple[str, dict]]:
    """The rows of a file, each with its place. Raises UserError for a line that is no JSON."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): {cure}") from error
    found = []
    for number, line in enumerate(raw.removeprefix(BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            at = f"{path}, line {number}"
            found.append((at, parsed(line, f"{path} is not JSON Lines: line {number}", cure)))
    if not found:
        raise UserError(f"{path} has no rows: {cure}")
    return found


def _sound(rows: Iterable[tuple[str, dict]], file: str, cure: str) -> list[dict]:
    """Rows without their places. Raises UserError where one has not the shape of its file, or an id stands twice."""
    shape, identity = SHAPES.get(file, (_Object, None))
    found, places = [], {}
    for place, row in rows:
        found.append(checked(shape, row, place, cure))
        if identity and places.setdefault(row[identity], place) != place:
            raise UserError(f"{place}: {identity} {row[identity]!r} is that of {places[row[identity]]} too: {cure}")
    return found


def _of_the_hub(
    hub_id: str, config: str | None, split: str, file: str, revision: str | None
) -> list[tuple[str, dict]]:
    rows = _dataset(hub_id, config, split, file, revision).to_list()
    return [(f"{_named(hub_id, split)}, row {number}", row) for number, row in enumerate(rows, 1)]


def _named(hub_id: str, split: str) -> str:
    return f"{hub_id} (split {split})"


def _dataset(hub_id: str, config: str | None, split: str, file: str, revision: str | None):
    import datasets  # imported late: it takes seconds

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:  # `datasets` raises many kinds, from three libraries
        reason = why(error)
        raise NotLoaded(
            f"{_named(hub_id, split)} did not load from the Hugging Face hub: set DATA_DIR to a folder with "
            f"{file} ({reason})"
        ) from error
