"""Model-written programs run here and nowhere else; off unless ALLOW_CODE_EXECUTION=1.

A program is given to a process of its own with the calls to make of its function, never with what they should give.
Values come back as plain data (lib/tasks/plain_data.py) and are compared by who asked, so that no object, trace
function, exit status or look into frames and memory makes a wrong program right.

A SQL query is no such program: lib/tasks/databases.py says what one may do.

Each program is a fork of a bare interpreter that has read nothing but that program; `level` says in what:
- `bubblewrap`, where that works: namespaces with the interpreter and its packages, and nothing else of the disk
- `guarded process`: a process that has given up all but computing (lib/tasks/sandbox_guards.py)
- `process`: limits alone, where the kernel has no such guards

Covered at all levels:
- time (CPU and wall clock), memory per process, size of a file, open files, core dumps; processes and
  threads (none are allowed), except for root, whom Linux exempts
- an empty environment, a temporary folder that is removed afterwards, no input, output thrown away
- what a program leaves running is killed before the next one starts
Covered by bubblewrap and the guarded process:
- no network, no signals to others, no process or thread even for root, no reading of the user's files (the data sets
  are among them), no writing but in the program's folder
Covered by bubblewrap only:
- what programs write fills a private /tmp of 64 MB, not the disk; nothing outlives a chunk whatever happens

Not covered:
- the level `process` is no security boundary: a hostile program can write the user's files, use the network,
  kill the user's processes, and leave a command of its own behind if it kills its runner first
- all levels share the kernel, and show the interpreter's packages
- what a function does to its arguments, prints, or raises is not compared; a value that is not plain data is wrong
"""

import inspect
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lib.errors import UserError
from lib.tasks import plain_data, sandbox_guards, sandbox_runner
from lib.tasks.plain_data import decode, encode

CHUNK = 100  # programs of one interpreter
GRACE = 10.0  # seconds that the interpreter may be late with an outcome before it counts as stopped
WARNED = "DECODING_SANDBOX_WARNED"  # set once the user knows, for worker processes too
BUBBLEWRAP, GUARDED, PROCESS = "bubblewrap", "guarded process", "process"
# A virtual environment's interpreter is a link: what it points at needs to be seen, not the environment.
INTERPRETER = [os.path.realpath(sys.executable), "-I", "-S", "-c"]
PACKAGES = sorted({os.path.realpath(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")})
SYSTEM = (
    "/usr /lib /lib32 /lib64 /bin /nix/store /gnu/store /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d "
    "/etc/alternatives /etc/localtime"
).split()
PREFIXES = sorted({os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.base_exec_prefix)})


@dataclass(frozen=True)
class Job:
    """A program, and calls of a function that it defines: the arguments of each, plain data."""

    program: str
    function: str
    calls: tuple[tuple, ...]


@dataclass(frozen=True)
class Outcome:
    """`status`: ran, failed or timeout; `values`: what the calls gave where it ran, else empty."""

    status: str
    values: tuple = ()


@cache
def level() -> str:
    """The strongest of bubblewrap, guarded process and process that works here; a weaker one than the first is said
    once."""
    tried = [(name, _probe(name)) for name in (BUBBLEWRAP, GUARDED)]
    found = next((name for name, fault in tried if fault is None), PROCESS)
    if found != BUBBLEWRAP and not os.environ.get(WARNED):
        os.environ[WARNED] = "1"
        warnings.warn(
            f"bubblewrap does not work here ({tried[0][1]}): model-written programs run as a {found}; "
            "lib/tasks/sandbox.py says what that covers",
            stacklevel=2,
        )
    return found


def require_consent() -> None:
    """Raise UserError unless the user allowed the running of model-written code."""
    if os.environ.get("ALLOW_CODE_EXECUTION") != "1":
        raise UserError(
            "scoring code runs programs that a model wrote: set ALLOW_CODE_EXECUTION=1 to allow it "
            "(lib/tasks/sandbox.py lists what the sandbox covers)"
        )


def run_calls(jobs: list[Job], timeout: float = 5.0, memory_mb: int = 512) -> list[Outcome]:
    """The outcome of each job, in order; equal jobs run once.

    A job ran where its program came to its end and all calls gave plain data, within `timeout` seconds of wall clock
    and `memory_mb` of address space. Raises UserError where code execution is not allowed, RuntimeError where the
    sandbox itself does not start, TypeError for arguments that are not plain data.
    """
    require_consent()
    frames = [
        json.dumps({"program": job.program, "function": job.function, "calls": [encode(call) for call in job.calls]})
        for job in jobs
    ]
    calls = dict(zip(frames, (len(job.calls) for job in jobs), strict=True))
    pending, outcomes = list(calls), {}
    while pending:
        found = _run_chunk(level(), pending[:CHUNK], timeout, memory_mb)
        outcomes.update(zip(pending, found, strict=False))
        pending = pending[len(found) :]
    read = {frame: _read(letter, values, calls[frame]) for frame, (letter, values) in outcomes.items()}
    return [read[frame] for frame in frames]


def _read(letter: bytes, values: bytes, calls: int) -> Outcome:
    """What a program said, if it is what a runner may send: the program may have written it itself."""
    if letter != sandbox_runner.RAN:
        return Outcome("timeout" if letter == sandbox_runner.TIMEOUT else "failed")
    with suppress(ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError):
        found = json.loads(values)
        if type(found) is list and len(found) == calls:
            return Outcome("ran", tuple(map(decode, found)))
    return Outcome("failed")


def _bubblewrap() -> list[str]:
    """Namespaces with what the interpreter needs. /tmp comes first: the environment may lie below it."""
    shown = []
    for path in _readable():
        if os.path.islink(path) and os.path.dirname(path) == "/":
            shown += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            shown += ["--ro-bind", path, path]
    return [
        shutil.which("bwrap") or "bwrap",
        *"--unshare-all --cap-drop ALL --die-with-parent --new-session".split(),
        *"--size 67108864 --tmpfs /tmp --dev /dev --proc /proc".split(),
        *shown,
        # /proc is read-only because a root without capabilities may still write system settings there
        *"--remount-ro /dev --remount-ro /proc --remount-ro / --chdir /tmp".split(),
    ]


def _readable() -> list[str]:
    return [*SYSTEM, *PREFIXES, *PACKAGES]


def _command(name: str, token: str) -> list[str]:
    """The runner's command line, which its forks share; its modules go along as source."""
    sources = [
        (module.__name__, inspect.getsource(module)) for module in (plain_data, sandbox_guards, sandbox_runner)
    ]
    start = (
        f"# {token}\n"
        "import sys, types\n"
        f"for name, source in {sources!r}:\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(source, name, 'exec'), module.__dict__)\n"
        f"module.{sandbox_runner.serve.__name__}()\n"
    )
    return [*(_bubblewrap() if name == BUBBLEWRAP else ()), *INTERPRETER, start]


def _probe(name: str) -> str | None:
    """Why a level does not work here; None where it does."""
    if name == BUBBLEWRAP and shutil.which("bwrap") is None:
        return "it is not installed"
    try:
        job = {"program": "def f(x):\n    return x", "function": "f", "calls": [encode((1,))]}
        found = _run_chunk(name, [json.dumps(job)], 30.0, 512)
        return None if found == [(sandbox_runner.RAN, b"[1]")] else "it does not run a program"
    except (OSError, RuntimeError) as error:
        return str(error)


def _run_chunk(name: str, frames: list[str], timeout: float, memory_mb: int) -> list[tuple[bytes, bytes]]:
    """Letter and values of the first programs, at least one: all, unless one of them harmed the runner."""
    guards = {BUBBLEWRAP: "wanted", GUARDED: "needed", PROCESS: "off"}[name]
    settings = {"timeout": timeout, "memory": memory_mb << 20, "guards": guards}
    settings |= {"readable": _readable(), "packages": PACKAGES}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        tempfile.TemporaryFile() as jobs,  # a pipe would fill while nobody reads
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        for frame in (json.dumps(settings), *frames):
            jobs.write(len(frame).to_bytes(4, "big") + frame.encode())  # JSON is ASCII
        jobs.seek(0)
        token = f"sandbox {os.urandom(8).hex()}"
        command = _command(name, token)
        with subprocess.Popen(command, stdin=jobs, cwd=folder, env={}, start_new_session=True, **pipes) as process:
            try:
                if _next(process, 30 + GRACE) != sandbox_runner.READY:
                    raise RuntimeError(f"the sandbox did not start: {_last_words(process)}")
                found = []
                while len(found) < len(frames):
                    said = _next(process, timeout + GRACE)
                    if said == b"" and process.wait() == 1:  # a traceback of the runner, not a kill
                        if found:  # an earlier program may have filled the disk: go on in a fresh runner
                            return found
                        raise RuntimeError(f"the sandbox failed: {_last_words(process)}")
                    if not said:  # the runner was killed, or stopped (None)
                        return [*found, (sandbox_runner.FAILED if said == b"" else sandbox_runner.TIMEOUT, b"")]
                    found.append((said[:1], said[1:]))
                return found
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                if name == PROCESS:
                    _kill_left(process, token)


def _kill_left(runner: subprocess.Popen, token: str) -> None:
    """End what a program left that ended its runner: a fork has the runner's command line."""
    runner.wait()
    for _ in range(100):  # one may fork while the others are killed
        left = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if token in _line(path)]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.005)


def _line(path: Path) -> str:
    with suppress(OSError):  # it has ended, or is another user's
        return path.read_text(errors="replace")
    return ""


def _next(process: subprocess.Popen, seconds: float) -> bytes | None:
    """The runner's next frame, b'' at its end, None where nothing comes in time."""
    size = _bytes(process, 4, seconds)
    return size and _bytes(process, int.from_bytes(size, "big"), seconds)


def _bytes(process: subprocess.Popen, wanted: int, seconds: float) -> bytes | None:
    found = b""
    while len(found) < wanted:
        if not select.select([process.stdout], [], [], seconds)[0]:
            return None
        part = os.read(process.stdout.fileno(), wanted - len(found))
        if not part:
            return b""
        found += part
    return found


def _last_words(process: subprocess.Popen) -> str:
    process.kill()
    return process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2] or "no message"
