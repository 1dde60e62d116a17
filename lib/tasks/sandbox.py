"""Model-written programs run here and nowhere else; off unless ALLOW_CODE_EXECUTION=1.

A SQL query is no such program: lib/tasks/databases.py says what one may do.

Each program is a fork of a bare interpreter that has read nothing but the programs; inside bubblewrap where
that works, else as a plain process (`level` says which).

Covered at both levels:
- time (CPU and wall clock), memory per process, size of a file, open files, core dumps; processes and
  threads (none are allowed), except for root, whom Linux exempts
- an empty environment, a temporary folder, no input, output thrown away
- an outcome comes from an exit status and a secret written after the last line: a program that prints,
  exits early or kills its runner does not pass
Covered by bubblewrap only:
- no network, no processes but its own, nothing outlives its chunk
- no writing but to a private /tmp of 64 MB, gone afterwards

Not covered:
- the process level is no security boundary: a hostile program can write the user's files, use the network,
  kill the user's processes and leave some behind
- bubblewrap shares the kernel and shows every file that the user may read, except /run and /tmp
- a program that looks for the secret in its interpreter's memory, or for its runner's pipes, can pass
- programs of one chunk share the disk: each starts in its own folder, but may look into another's
- for root, the number of processes: only the time limit and bubblewrap's cleaning up end a fork bomb
"""

import inspect
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache

from lib.errors import UserError

CHUNK = 100  # programs of one interpreter
GRACE = 10.0  # seconds that the interpreter may be late with an outcome before it counts as stopped
OUTCOMES = {b"p": "passed", b"f": "failed", b"t": "timeout"}
READY = b"r"

# /proc is read-only because a root without capabilities may still write system settings there; /run is
# hidden because a socket such as Docker's needs no network.
BUBBLEWRAP = [
    shutil.which("bwrap") or "bwrap",
    *"--ro-bind / / --dev /dev --proc /proc --tmpfs /run --size 67108864 --tmpfs /tmp --chdir /tmp".split(),
    *"--remount-ro /dev --remount-ro /proc --remount-ro /run".split(),
    *"--unshare-all --cap-drop ALL --die-with-parent".split(),
]
INTERPRETER = [sys.executable, "-I", "-S", "-c"]


@cache
def level() -> str:
    """'bubblewrap' where it is installed and starts an interpreter, else 'process'."""
    with suppress(OSError, subprocess.TimeoutExpired):
        command = [*BUBBLEWRAP, *INTERPRETER, "pass"]
        if subprocess.run(command, env={}, capture_output=True, timeout=30).returncode == 0:
            return "bubblewrap"
    return "process"


def require_consent() -> None:
    """Raise UserError unless the user allowed the running of model-written code."""
    if os.environ.get("ALLOW_CODE_EXECUTION") != "1":
        raise UserError(
            "scoring code runs programs that a model wrote: set ALLOW_CODE_EXECUTION=1 to allow it "
            "(lib/tasks/sandbox.py lists what the sandbox covers)"
        )


def run_programs(programs: list[str], timeout: float = 5.0, memory_mb: int = 512) -> list[str]:
    """'passed', 'failed' or 'timeout' for each program, in order; equal programs run once.

    A program passes where it runs to its end without an exception within `timeout` seconds of wall clock
    and `memory_mb` of address space. Raises UserError where code execution is not allowed, RuntimeError
    where the sandbox itself does not start.
    """
    require_consent()
    pending, outcomes = list(dict.fromkeys(programs)), {}
    while pending:
        found = _run_chunk(pending[:CHUNK], timeout, memory_mb)
        outcomes.update(zip(pending, found, strict=False))
        pending = pending[len(found) :]
    return [outcomes[program] for program in programs]


def _run_chunk(programs: list[str], timeout: float, memory_mb: int) -> list[str]:
    """Outcomes of the first programs, at least one: all, unless one of them harmed the runner."""
    command = [*(BUBBLEWRAP if level() == "bubblewrap" else ()), *INTERPRETER]
    command.append(f"{inspect.getsource(_serve)}\n_serve()\n")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        subprocess.Popen(command, cwd=folder, env={}, start_new_session=True, **pipes) as process,
    ):
        try:
            with suppress(BrokenPipeError):  # the runner did not start: no READY follows
                job = {"programs": programs, "timeout": timeout, "memory": memory_mb << 20}
                process.stdin.write(json.dumps(job).encode())
                process.stdin.close()
            found = []
            if _next(process, 30 + GRACE) != READY:
                raise RuntimeError(f"the sandbox did not start: {_last_words(process)}")
            while len(found) < len(programs):
                letter = _next(process, timeout + GRACE)
                if letter == b"" and process.wait() == 1:  # a traceback of the runner, not a kill
                    if found:  # an earlier program may have filled the disk: go on in a fresh runner
                        return found
                    raise RuntimeError(f"the sandbox failed: {_last_words(process)}")
                if letter not in OUTCOMES:  # the runner was killed, or stopped (None)
                    return [*found, "failed" if letter == b"" else "timeout"]
                found.append(OUTCOMES[letter])
            return found
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _next(process: subprocess.Popen, seconds: float) -> bytes | None:
    """The runner's next byte, b'' at its end, None where nothing comes in time."""
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return os.read(process.stdout.fileno(), 1) if ready else None


def _last_words(process: subprocess.Popen) -> str:
    process.kill()
    return process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2] or "no message"


def _serve() -> None:
    """The runner: its source is all that the fresh interpreter is given, so it imports what it needs.

    Reads the job from stdin, writes READY, then a letter per program to stdout.
    """
    import builtins
    import json
    import math
    import os
    import resource
    import signal
    import sys
    import time
    import types

    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a program that interrupts the runner ends it
    job = json.load(sys.stdin.buffer)
    results, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    seconds = math.ceil(job["timeout"]) + 1
    limits = [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ]
    if sys.platform == "linux":  # elsewhere a lowered address space is refused
        limits.append((resource.RLIMIT_AS, job["memory"]))
    if os.getuid() != 0:
        limits.append((resource.RLIMIT_NPROC, 0))

    def child(program, said, secret):
        # Bound before the program runs, which may replace them.
        leave, write, getpid, pid = os._exit, os.write, os.getpid, os.getpid()
        os.setsid()
        os.dup2(null, 2)
        os.close(results)
        folder = os.urandom(8).hex()  # a name that no earlier program could take
        os.mkdir(folder)
        os.chdir(folder)
        for limit, value in limits:
            resource.setrlimit(limit, (value, value))
        write(said, b"s")
        try:
            module = sys.modules["__main__"] = types.ModuleType("__main__")
            module.__dict__["__builtins__"] = builtins
            exec(compile(program, "<program>", "exec"), module.__dict__)
        except BaseException:
            leave(1)
        if getpid() == pid:  # not a fork that the program made
            write(said, secret)
        leave(0)

    def outcome(program):
        secret, (heard, said) = os.urandom(16), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(program, said, secret)
            finally:
                os._exit(1)
        os.close(said)
        deadline = time.monotonic() + job["timeout"]
        done, status = os.waitpid(pid, os.WNOHANG)
        while not done and time.monotonic() < deadline:
            time.sleep(0.0005)
            done, status = os.waitpid(pid, os.WNOHANG)
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.set_blocking(heard, False)
        try:
            message = os.read(heard, 64)
        except BlockingIOError:
            message = b"s"  # a process of another session still holds the pipe
        os.close(heard)
        if not done or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return b"t"
        if message == b"":
            raise RuntimeError("a program's folder or limits could not be set")
        return b"p" if status == 0 and message == b"s" + secret else b"f"

    os.write(results, b"r")
    for program in job["programs"]:
        os.write(results, outcome(program))
