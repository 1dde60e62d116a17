"""A user's mistake, what a machine lacks, and how every command of this repository ends; no secret is said."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

STOPPED = "stopped; the same command goes on from here"
ROOM = "make room and run the same command: it goes on from what is written"
RIGHTS = "give this user the right to write there, or run from a folder of your own"
MEMORY = "memory ran out: free some, or allow fewer processes, and run the same command: it goes on"
CURES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: ROOM,
    errno.EROFS: RIGHTS,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run the same command",
    errno.ENFILE: "raise the limit of open files (ulimit -n) and run the same command",
    errno.EIO: "the disk failed to read or write: look at it before the same command is run again",
}
# How libraries say that memory ran out where they raise no MemoryError.
OUT_OF_MEMORY = (
    "bad_alloc",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "unable to allocate",
    "can't start new thread",
)
SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?)(_|$)", re.IGNORECASE)
SECRET_FORM = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[0-9A-Z]{16}|sk-[\w-]{30,})"
)
SHORTEST_SECRET = 8  # a shorter value, such as `true`, is part of ordinary words


class UserError(Exception):
    """Shown without a traceback by the command line; the message says what is wrong and what cures it."""

    status = 1


class MachineError(UserError):
    """What the machine lacks: room on a disk, a right, memory. Nothing that was written is lost."""

    status = 2


class Terminated(KeyboardInterrupt):
    """A signal that asks to end, as Ctrl-C does; `status` is what a shell expects of it."""

    def __init__(self, number: int):
        super().__init__()
        self.status = 128 + number


def why(error: BaseException) -> str:
    """The first line of an error's words, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """UserError for the first of `names` that is not known."""
    for name in names:
        if name not in known:
            raise UserError(f"there is no {kind} {name!r}; known: {', '.join(known)}")


def lacking(error: BaseException) -> str | None:
    """What the machine lacked, in one line with the cure, where an error or what caused it says so; else None."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, MemoryError) or says_out_of_memory(str(error)):
            return MEMORY
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return MEMORY
        if isinstance(error, OSError) and error.errno in CURES:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{os.strerror(error.errno)}: {CURES[error.errno]}"
        error = error.__cause__ or error.__context__
    return None


def says_out_of_memory(text: str) -> bool:
    """Whether the words of an error of PyTorch, NumPy, CUDA or the loader say that memory ran out."""
    return any(words in text.lower() for words in OUT_OF_MEMORY)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP inside raise Terminated, so that they end a command as Ctrl-C does.

    Whoever set them to something else, such as `nohup`, keeps that; only the main thread may set them.
    """

    def end(number, _):
        raise Terminated(number)

    before = {}
    with suppress(ValueError):
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(command: Callable[[], None]) -> int:
    """Run a command: 0, or after one line 1 for a mistake of the user, 2 for what the machine lacks, 130 for Ctrl-C,
    143 for SIGTERM. What was written stays, whichever it is."""
    try:
        with ended_by_signals():
            command()
    except UserError as error:
        return _said(f"error: {error}", error.status)
    except KeyboardInterrupt as error:
        return _said(STOPPED, getattr(error, "status", 130))
    except Exception as error:
        lack = lacking(error)
        if lack is None:
            raise
        return _said(f"error: {lack}", MachineError.status)
    return 0


def _said(line: str, status: int) -> int:
    with suppress(OSError):  # the terminal may be gone, or the disk behind it full
        print(redacted(line), file=sys.stderr, flush=True)
    return status


def redacted(text: str) -> str:
    """`text` without secrets: the values of environment variables such as HF_TOKEN, and what has a token's form."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET and value in text:
            text = text.replace(value, f"[{name}]")
    return SECRET_FORM.sub("[secret]", text)
