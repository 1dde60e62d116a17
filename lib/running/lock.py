"""One process at a time: a lock that ends with its process, and a word on who holds it."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

POLL = 0.2  # seconds


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold `<path>.lock` inside; while another process holds it, say so once and wait.

    `what`: the thing that is locked, as the waiting user reads it. The system frees a lock when its process ends,
    however it ends, so that the small files which stay behind bar nobody; they are kept because removing one could
    let two processes in. Raises OSError where the folder cannot be written.
    """
    lock, note = FileLock(_beside(path, ".lock")), _beside(path, ".holder")
    tries = 0
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if tries == 1:  # by now the holder has signed
                print(f"{what} is in use by {holder(note)}: waiting for it to end", file=sys.stderr, flush=True)
            tries += 1
            time.sleep(POLL)
    try:
        _sign(note)
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def holder(note: Path) -> str:
    """Who holds a lock, by the note beside it; another process may be about to write that."""
    try:
        found = json.loads(note.read_text())
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _sign(note: Path) -> None:
    mine = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now().isoformat(" ", "seconds")}
    note.write_text(json.dumps(mine))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
