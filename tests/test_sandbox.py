"""The sandbox: outcomes, limits, what it keeps programs from, and that values are compared outside of them."""

import json
import math
import os
import shutil
import signal
import time
import warnings
from collections import Counter, OrderedDict, namedtuple

import numpy as np
import pytest

from lib.bench.reliability import hostile, misscored, misscored_programs
from lib.bench.reliability.hostile_programs import PROGRAMS
from lib.errors import UserError
from lib.tasks import sandbox, small_functions
from lib.tasks.plain_data import LONGEST, decode, encode
from lib.tasks.sandbox import BUBBLEWRAP, GUARDED, PROCESS, Job, Outcome, run_calls


def works(name: str):
    return pytest.param(
        name, marks=pytest.mark.skipif(sandbox._probe(name) is not None, reason=f"{name} does not work here")
    )


LEVELS = (PROCESS, works(GUARDED), works(BUBBLEWRAP))


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    monkeypatch.setattr(sandbox, "level", lambda: request.param)
    return request.param


@pytest.fixture(params=LEVELS[1:])
def boundary(request, monkeypatch):
    """The levels that are to hold a hostile program."""
    monkeypatch.setattr(sandbox, "level", lambda: request.param)
    return request.param


def runs(programs: list[str], **limits) -> list[str]:
    """Of programs that may define f(): how they ended."""
    jobs = [Job(f"f = lambda: None\n{program}", "f", ((),)) for program in programs]
    return [outcome.status for outcome in run_calls(jobs, **limits)]


def test_refuses_without_opt_in(monkeypatch):
    monkeypatch.delenv("ALLOW_CODE_EXECUTION")
    with pytest.raises(UserError, match="ALLOW_CODE_EXECUTION=1"):
        runs(["pass"])


ENDS = {
    "assert 1 + 1 == 2": "ran",
    "from typing import List\ndef g(x: List[int]): return sum(x)\nassert g([1, 2]) == 3": "ran",
    "import os\nassert not os.environ": "ran",
    "import os\nassert os.listdir() == []\nopen('x', 'w').write('x')": "ran",
    "import sys\nassert sys.stdin.read() == ''\nprint('x' * 10**7)": "ran",
    "import sys\nassert 'solution' in sys.modules and __name__ == 'solution'": "ran",
    "if __name__ == '__main__':\n    raise SystemExit(1)": "ran",
    "import numpy\nassert numpy.ones((50, 50)).dot(numpy.ones(50)).sum() == 2500": "ran",
    "assert 1 + 1 == 3": "failed",
    "def f(:": "failed",
    "x = '\ud800'": "failed",
    "while True: pass": "timeout",
    "import time\ntime.sleep(60)": "timeout",
    "def f():\n    while True: pass": "timeout",
    "import os\nos.closerange(3, 64)\nimport time\ntime.sleep(60)": "timeout",
    "import sys\nsys.exit(0)": "failed",
    "import os\nos._exit(0)": "failed",
    "import os, builtins\nos._exit = os.write = builtins.exec = None\nassert False": "failed",
    "x = bytearray(2**31)": "failed",
    "f = lambda: f()\nf()": "failed",
    "def f(): return object()": "failed",
    "def f(): return 'x' * 10**7": "failed",
    "with open('big', 'wb') as f: f.write(bytes(2**21))": "failed",
    "files = [open('/dev/null') for _ in range(100)]": "failed",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(60)": "failed",
}


@pytest.mark.slow
def test_outcomes(level):
    assert dict(zip(ENDS, runs(list(ENDS), timeout=1.0), strict=True)) == ENDS


def test_values_come_back_and_equal_jobs_run_once(level):
    started = time.monotonic()
    jobs = [
        Job("def f(x, y=2): return [x, y, {x: (y, None)}]", "f", ((1,), ("a", 3.5))),
        Job("def f(): pass", "g", ((),)),
        Job("while True: pass", "f", ((),)),
    ]
    expected = [
        Outcome("ran", ([1, 2, {1: (2, None)}], ["a", 3.5, {"a": (3.5, None)}])),
        Outcome("failed"),
        Outcome("timeout"),
    ]
    assert run_calls(jobs * 7, timeout=1.0) == expected * 7
    assert time.monotonic() - started < 5
    assert run_calls([]) == []


def test_a_stopped_runner_is_a_timeout(monkeypatch):
    monkeypatch.setattr(sandbox, "level", lambda: PROCESS)
    monkeypatch.setattr(sandbox, "GRACE", 1.0)
    stop = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)"
    assert runs(["pass", stop, "x = 1"], timeout=1.0) == ["ran", "timeout", "ran"]


def test_more_programs_than_a_chunk(level):
    programs = [f"assert {i} % 3" for i in range(sandbox.CHUNK + 20)]
    assert runs(programs) == ["ran" if i % 3 else "failed" for i in range(sandbox.CHUNK + 20)]


MARK = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(15, {mark!r}.encode(), 0, 0, 0)
def stay():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
"""


@pytest.mark.parametrize("then", ["pass", "os._exit(0)", "os.kill(os.getppid(), signal.SIGKILL)", "time.sleep(60)"])
def test_no_process_outlives_its_program(level, then):
    mark = f"t{os.urandom(5).hex()}"
    program = f"{MARK.format(mark=mark)}\nfor _ in range(20):\n    stay()\ntime.sleep(0.1)\n{then}"
    runs([program, "pass"], timeout=1.0)
    time.sleep(0.05)
    assert hostile.survivors(mark) == []


def _until(wanted, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not wanted() and time.monotonic() < deadline:
        time.sleep(0.02)
    return wanted()


def test_a_program_ends_with_who_started_it(level):
    mark = f"t{os.urandom(5).hex()}"
    pid = os.fork()
    if pid == 0:
        try:
            runs([f"{MARK.format(mark=mark)}\ntime.sleep(60)"], timeout=60.0)
        finally:
            os._exit(0)
    assert _until(lambda: hostile.survivors(mark))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert _until(lambda: not hostile.survivors(mark))


def test_a_program_ends_with_who_started_it_where_the_death_signal_is_missed(monkeypatch):
    if sandbox._probe(sandbox.BUBBLEWRAP) is not None:
        pytest.skip("bubblewrap does not work here")
    command = [part for part in sandbox._bubblewrap() if part != "--die-with-parent"]
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda: command)
    test_a_program_ends_with_who_started_it(sandbox.BUBBLEWRAP)


CHOSEN = (
    "files: delete a file",
    "files: read a secret",
    "files: read a secret through a root",
    "files: change a mode",
    "network: connect",
    "network: a socket's file",
    "processes: kill a process",
    "processes: kill everybody it may",
    "processes: a fork bomb",
    "processes: leave 150 behind",
    "processes: threads",
    "answers: frames to all pipes",
)


@pytest.mark.parametrize("name", CHOSEN)
def test_hostile_programs_are_contained(boundary, name, tmp_path):
    hostile.contained(PROGRAMS[name], tmp_path)


def test_hostile_programs_are_not_tried_where_nothing_holds_them(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "level", lambda: PROCESS)
    with pytest.raises(AssertionError, match="not tried"):
        hostile.contained("pass", tmp_path)


def test_the_cases_are_many_and_have_names_of_their_own():
    for cases in (hostile.cases, hostile.misscored):
        names = [case.name for case in cases()]
        assert len(set(names)) == len(names) >= 60


def test_wrong_programs_are_wrong_and_right_ones_right(boundary):
    """At the level `process` a program can read the rows' files; all else is wrong there too."""
    rows = [(text, 0) for text in misscored_programs.WRONG.values()]
    rows += [(text, 1) for text in misscored_programs.RIGHT.values()]
    scores = small_functions.score_many([(misscored.SUM, text) for text, _ in rows])
    assert [text for (text, right), score in zip(rows, scores, strict=True) if score.correct != right] == []


def test_a_program_is_told_no_expectation(monkeypatch):
    """What is sent are its text, the function's name and the arguments."""
    sent = []
    run = sandbox._run_chunk
    monkeypatch.setattr(
        sandbox, "_run_chunk", lambda name, frames, *more: sent.extend(frames) or run(name, frames, *more)
    )
    item = misscored.SUM
    small_functions.score_many([(item, item.target)])
    assert [json.loads(frame) for frame in sent[-1:]] == [
        {
            "program": f"{item.prompt}{item.target}\n",
            "function": "total",
            "calls": [["tuple", ["list", *argument]] for argument, _ in item.reference["tests"]],
        }
    ]


def test_a_weaker_level_is_said_once(monkeypatch):
    monkeypatch.delenv(sandbox.WARNED, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sandbox.level.cache_clear()
    try:
        with pytest.warns(UserWarning, match="bubblewrap does not work here .it is not installed.*run as a"):
            found = sandbox.level()
        assert found in (GUARDED, PROCESS)
        sandbox.level.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert sandbox.level() == found, "another process of the same run does not say it again"
    finally:
        sandbox.level.cache_clear()
        os.environ.pop(sandbox.WARNED, None)


def test_an_environment_below_tmp_is_seen(level, monkeypatch, tmp_path_factory):
    """The private /tmp must not hide the interpreter or its packages."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "of_a_package.py").write_text("x = 7")
    monkeypatch.setattr(sandbox, "PACKAGES", [str(folder)])
    found = run_calls([Job("from of_a_package import x\ndef f(): return x", "f", ((),))])
    assert found == [Outcome("ran", (7,))]
    assert not os.path.islink(sandbox.INTERPRETER[0])


def test_a_sandbox_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(sandbox, "INTERPRETER", ["/bin/false"])
    monkeypatch.setattr(sandbox, "level", lambda: PROCESS)
    with pytest.raises(RuntimeError, match="did not start"):
        runs(["pass", "#" * 2**20])


Pair = namedtuple("Pair", "a b")
DATA = (
    (None, True, False, 0, -7, 2**53, -(10**6000), 1.5, -0.0, math.inf, 1j, "", "é\ud800\0", b"\xff"),
    ([], [1, [2]], (), (1, (2,)), set(), {1, "a"}, frozenset({2}), {}, {(1, 2): {3: [4]}}, {None: None}),
)


@pytest.mark.parametrize("value", [value for values in DATA for value in values], ids=lambda v: type(v).__name__)
def test_plain_data_comes_back_as_it_was(value):
    found = decode(json.loads(json.dumps(encode(value))))
    assert found == value and type(found) is type(value)


def test_what_is_like_plain_data_goes_as_what_it_holds():
    class Any(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    like = {
        "int": (Any(3), 3),
        "dict": (Counter("aab"), {"a": 2, "b": 1}),
        "ordered": (OrderedDict(a=1), {"a": 1}),
        "tuple": (Pair(1, 2), (1, 2)),
        "numpy int": (np.int64(3), 3),
        "numpy float": (np.float32(0.5), 0.5),
        "numpy bool": (np.bool_(True), True),
    }
    for name, (value, plain) in like.items():
        found = decode(json.loads(json.dumps(encode(value))))
        assert type(found) is type(plain) and found == plain, name
    assert list(decode(encode(x for x in [1, 2]))) == [1, 2]


class _False:
    __class__ = list

    def __eq__(self, other):
        return True


@pytest.mark.parametrize(
    "value", [object(), _False(), len, np.ones(2), range(3), iter(range(LONGEST + 1))], ids=lambda v: type(v).__name__
)
def test_what_is_no_plain_data_is_refused(value):
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize("data", [["eval", "1"], [], {"a": 1}, ["dict", [["list"], 1]], ["int", "x"], ["dict", 1]])
def test_what_encode_does_not_write_is_refused(data):
    with pytest.raises((ValueError, TypeError)):
        decode(data)


def test_answers_that_are_no_answers_are_failures():
    for said in (b"", b"[", b"[" * 10**6, b'[["eval", 1]]', b"[1, 2]", b"3", b"null", b'{"a": 1}', b"\xff"):
        assert sandbox._read(b"v", said, 1) == Outcome("failed"), said[:20]
    assert sandbox._read(b"v", b"[1]", 1) == Outcome("ran", (1,))
