"""A result takes its place as a whole, by one rename; a result that says the same is left as it is."""

import ctypes
import errno
import os
import shutil
from pathlib import Path

from lib.reporting.compare import compare

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def publish(files: list[Path], target: Path, again: bool = False) -> str:
    """Move `files` into a folder that takes the place of `target` as a whole, and say what came of it.

    A target with the same bytes is left alone, and so is one that differs only in what was measured by the clock (see
    compare.py): the files then stay where they are. `again`: nothing was measured anew, so that whatever differs is
    published. A kill at any point leaves the earlier or the new result, and at most a hidden folder beside it, which
    nothing reads and the next publishing removes.
    """
    recover(target)
    said = "new"
    if target.exists():
        if _bytes(files) == _bytes(target.iterdir()):
            for file in files:
                file.unlink()
            return "unchanged"
        changed, measured = compare({file.name: file for file in files}, target)
        if not changed and not again:
            where = ", ".join(sorted({str(file.parent) for file in files}))
            return f"unchanged but for times ({'; '.join(measured)}): left as it is, the new ones are in {where}"
        said = f"changed: {'; '.join(changed or measured)}"
    _put(files, target)
    return said


def recover(target: Path) -> None:
    """Clear away what a kill left of an earlier publishing, and put back a result that it had moved aside."""
    new, old = _hidden(target)
    if old.exists() and not target.exists():
        os.replace(old, target)
    for left in (new, old):
        if left.exists():
            shutil.rmtree(left)


def _put(files: list[Path], target: Path) -> None:
    new, old = _hidden(target)
    new.mkdir(parents=True)
    try:
        for file in files:
            shutil.copy2(file, new / file.name)
    except OSError:  # such as a full disk; the files are where they were
        shutil.rmtree(new, ignore_errors=True)
        raise
    if not target.exists():
        os.replace(new, target)
    elif not exchange(new, target):
        os.replace(target, old)
        os.replace(new, target)
    for left in (new, old):  # one of them is the earlier result now
        shutil.rmtree(left, ignore_errors=True)
    for file in files:
        file.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places, as one step; False where the system or its disk cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _hidden(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _bytes(files) -> dict[str, bytes | None]:
    return {file.name: file.read_bytes() if file.is_file() else None for file in files}
