"""Hashes of the files that decide a committed model."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from lib.errors import UserError
from lib.models import trend
from lib.models.entries import Entry

CURE = "`git checkout results/checkpoints`, or `make train`"
HEADS_CURE = "`git checkout results/checkpoints`, or `python -m lib.training.autodeco {name}`"
DRAFT_CURE = "`git checkout results/checkpoints`, or `python -m lib.training.mtad`"


def own_fingerprint(entry: Entry, checkpoints: Path) -> str:
    """A hash of the files under `checkpoints` that decide a committed model, its base's left out."""
    folder = checkpoints / entry.source
    if entry.tier == "heads":
        files = (folder / "autodeco_heads.safetensors", folder / "config.json", *sorted(folder.glob("adapter_*")))
        return _hash_of(files, "heads", HEADS_CURE.format(name=entry.name))
    if entry.tier == "trend":  # its weights need not be at hand
        beside = (folder / "config.json", checkpoints / entry.tokenizer / "tokenizer.json")
        found = trend.hash_of(entry, checkpoints) + _hash_of(beside, "checkpoint", CURE)
        return sha256(found.encode()).hexdigest()[:16]
    # Without a config.json transformers would build its default network, of seven billion parameters.
    files = (folder / "model.safetensors", folder / "config.json")
    if entry.tier == "draft":
        return _hash_of(files, "draft", DRAFT_CURE)
    return _hash_of((*files, checkpoints / entry.tokenizer / "tokenizer.json"), "checkpoint", CURE)


def _hash_of(files: tuple[Path, ...], what: str, cure: str) -> str:
    """A hash of files, `what` they hold. Raises UserError, naming the cure, where one is missing."""
    for file in files:
        if not file.exists():
            raise UserError(f"no {what} at {file}: {cure}")
    return hash_of_files(tuple((file, file.stat().st_mtime_ns) for file in files))


@cache
def hash_of_files(files: tuple[tuple[Path, int], ...]) -> str:
    """Of files' bytes; the times of change are there for the cache alone."""
    digest = sha256()
    for file, _ in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
