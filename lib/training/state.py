"""The state of a training on disk: whole or not at all, and checked bit by bit when it is read again."""

import io
import os
import zipfile
from hashlib import sha256
from pathlib import Path

import torch
from pydantic import BaseModel

from lib.errors import UserError, lacking, why
from lib.running.schema import checked

CURE = "remove it to train anew"
DIGEST = 64  # characters of the hash behind the archive
END = -22  # where an archive of `torch.save` without a hash has its last record, of an earlier version


def save_state(state: dict, path: Path) -> None:
    """`state` into `path`: what `torch.save` writes, and behind it a hash of that, which torch.load passes over."""
    written = io.BytesIO()
    torch.save(state, written)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".tmp").open("wb") as file:
        file.write(written.getbuffer())
        file.write(_digest(written.getbuffer()))
        file.flush()
        os.fsync(file.fileno())
    os.replace(path.with_suffix(".tmp"), path)


def read_state(path: Path, shape: type[BaseModel], device: str = "cpu") -> dict:
    """What `save_state` wrote. Raises UserError where a bit of it changed, or where it is something else.

    By torch.load alone a flipped bit would go on as another training.
    """
    try:
        raw = path.read_bytes()
        if raw[END:].startswith(b"PK\5\6"):
            _require_sums(raw)
        elif _digest(memoryview(raw)[:-DIGEST]) != raw[-DIGEST:]:
            raise ValueError("its checksum does not hold")
        state = torch.load(io.BytesIO(raw), weights_only=True, map_location=device)
    except Exception as error:  # of many kinds, as a damaged archive looks like anything
        if lacking(error):  # the machine's fault and not the file's
            raise
        raise UserError(f"{path} is damaged ({why(error)}): {CURE}") from error
    return checked(shape, state, str(path), CURE)


def _digest(raw: memoryview) -> bytes:
    return sha256(raw).hexdigest().encode()


def _require_sums(raw: bytes) -> None:
    """The archive's own checksums, all that a state of an earlier version has: of its parts, not of its directory."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        if broken := archive.testzip():
            raise ValueError(f"the checksum of {broken} does not hold")
