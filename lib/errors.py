"""A user's mistake, and how every command of this repository ends."""

import sys
from collections.abc import Callable, Collection


class UserError(Exception):
    """Shown without a traceback by the command line; the message says what is wrong and what cures it."""


def require_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """UserError for the first of `names` that is not known."""
    for name in names:
        if name not in known:
            raise UserError(f"there is no {kind} {name!r}; known: {', '.join(known)}")


def exit_status(command: Callable[[], None]) -> int:
    """Run a command: 0, or 1 after the one line of a UserError, or 130 after Ctrl-C."""
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
