"""Programs of contests, as the sandbox runs them: a harness around one, and whether what it gave is right."""

from decimal import Decimal, InvalidOperation
from hashlib import sha256

LARGEST = 100_000  # characters of an output that leaves the sandbox as it is; of a longer one its hash does
# Names that a contest's page gives, there before the program runs, which may begin with an import from `__future__`.
# `builtins` last, for math has a pow of its own.
GIVEN = """\
import bisect, collections, copy, functools, heapq, io, itertools, math, operator, os, random, re, string, sys
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
from builtins import *
sys.setrecursionlimit(50_000)
"""

# Threads are not allowed in the sandbox: a program that starts one for a larger stack has it run at once instead.
READER = """\
import builtins, hashlib, io, os, sys, threading

GIVEN, SOURCE = {given!r}, {source!r}


def _answer(given):
    threading.Thread.start = threading.Thread.run
    threading.Thread.join = lambda self, timeout=None: None
    try:  # for programs that open their input by its number
        with open("input", "wb") as file:
            file.write(given.encode())
        os.dup2(os.open("input", os.O_RDONLY), 0)
    except OSError:
        pass  # longer than a file may be here
    written = io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(written, encoding="utf-8", newline="\\n", write_through=True)
    space = dict(__name__="__main__", __builtins__=builtins, exit=sys.exit, quit=sys.exit)
    exec(GIVEN, space)
    try:
        exec(compile(SOURCE, "<solution>", "exec", dont_inherit=True), space)
    except SystemExit:
        pass
    text = written.getvalue().decode("utf-8", "replace")
    lines = [line.strip() for line in text.strip().split("\\n")]
    text = "\\n".join(lines)
    return text if len(text) <= {largest} else [hashlib.sha256(text.encode()).hexdigest()]
"""

CALLER = """\
exec({given!r}, globals())
exec(compile({source!r}, "<solution>", "exec", dont_inherit=True), globals())


def _answer(*given):
    owner = globals()["Solution"]() if "Solution" in globals() else None
    function = getattr(owner, {name!r}) if owner is not None else globals()[{name!r}]
    return function(*given)
"""


def reader(source: str) -> str:
    """A program with a function `_answer(input)`: what `source` prints when it reads that."""
    return READER.format(given=GIVEN, source=source, largest=LARGEST)


def caller(source: str, name: str) -> str:
    """A program with a function `_answer(*arguments)`: what the function `name` of `source`, or of its class
    Solution, gives."""
    return CALLER.format(given=GIVEN, source=source, name=name)


def printed_right(printed, expected: str) -> bool:
    """Whether an output is the expected one: line by line without outer blanks, lines of numbers as numbers."""
    wanted = [line.strip() for line in expected.strip().split("\n")]
    if isinstance(printed, list):
        return printed == [sha256("\n".join(wanted).encode()).hexdigest()]
    lines = printed.split("\n") if isinstance(printed, str) else []
    return len(lines) == len(wanted) and all(map(_same, lines, wanted))


def _same(line: str, wanted: str) -> bool:
    if line == wanted:
        return True
    try:
        return [Decimal(part) for part in line.split()] == [Decimal(part) for part in wanted.split()]
    except InvalidOperation:
        return False


def returned_right(value, expected) -> bool:
    """Whether a function gave the expected value; a tuple counts as a list."""
    return (list(value) if isinstance(value, tuple) else value) == expected
