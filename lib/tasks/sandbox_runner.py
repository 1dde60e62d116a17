"""The sandbox's inner side: runs in a bare interpreter, which is given the source of this and of what it imports.

Frames, a length of four bytes before each. In: the settings, then a job each. Out: READY, then an outcome for each
job, a letter, and the JSON of the values where it ran. One job is held at a time, so that a program finds no other's
in its memory.
"""

import builtins
import json
import math
import os
import resource
import select
import shutil
import signal
import sys
import time
import types

from lib.tasks.plain_data import decode, encode
from lib.tasks.sandbox_guards import DEATH_SIGNAL, DUMPABLE, SUBREAPER, apply, available, prctl

READY, RAN, FAILED, TIMEOUT = b"r", b"v", b"f", b"t"
MOST = 1 << 18  # bytes of a program's answers
STARTED = b"s"
SWEEP = 5.0  # seconds in which what a program left must be gone


def serve() -> None:
    """Read the job from the standard input, and answer until it ends."""
    os.environ.clear()
    for library in ("OMP", "OPENBLAS", "MKL"):  # threads are not allowed; os.environ stays empty
        os.putenv(f"{library}_NUM_THREADS", "1")
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a program that interrupts the runner ends it
    jobs, results, null = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    settings = json.loads(_read(jobs))
    if available():
        prctl(SUBREAPER, 1)  # what a program leaves becomes this process's child
        prctl(DUMPABLE, 0)  # and may not look into its memory
        prctl(DEATH_SIGNAL, signal.SIGKILL)  # who started it may be killed
    sys.path += settings["packages"]
    _write(results, READY)
    listener = select.poll()
    listener.register(results, 0)  # an error alone is told: that nobody reads
    while job := _read(jobs):
        _write(results, _outcome(json.loads(job), settings, listener))


def _read(pipe: int) -> bytes:
    """The next frame, unbuffered; b'' at the end."""
    size = os.read(pipe, 4)
    left, parts = int.from_bytes(size, "big"), []
    while left:
        parts.append(os.read(pipe, left))
        left -= len(parts[-1])
    return b"".join(parts)


def _write(pipe: int, frame: bytes) -> None:
    rest = len(frame).to_bytes(4, "big") + frame
    while rest:
        rest = rest[os.write(pipe, rest) :]


def _outcome(job: dict, settings: dict, listener: select.poll) -> bytes:
    """A letter, and the values where the program gave all of them in time.

    A program ends also when nobody reads the results any more: who started this runner has ended, and the death
    signal can be missed, because bubblewrap asks for it only when the program may be running already.
    """
    folder, (heard, said) = os.urandom(8).hex(), os.pipe()  # a name that no earlier program could take
    pid = os.fork()
    if pid == 0:
        try:
            _child(job, settings, folder, said)
        finally:
            os._exit(1)
    os.close(said)
    deadline = time.monotonic() + settings["timeout"]
    message, done, status = b"", 0, 0
    while not done and len(message) <= MOST and (left := deadline - time.monotonic()) > 0 and not listener.poll(0):
        if select.select([heard], [], [], min(left, 0.05))[0]:
            part = os.read(heard, 1 << 16)
            if not part:
                break
            message += part
        else:  # a process that the program made may hold the pipe
            done, status = os.waitpid(pid, os.WNOHANG)
    while not done and len(message) <= MOST and time.monotonic() < deadline and not listener.poll(0):
        done, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0 if done else 0.0002)
    message += _rest(heard, MOST + 1 - len(message)) if done else b""
    os.close(heard)
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left
    if not done:
        os.waitpid(pid, 0)
    _sweep()
    shutil.rmtree(folder, ignore_errors=True)
    if message == b"":
        if done and os.WIFEXITED(status):
            raise RuntimeError("a program's folder, limits or guards could not be set")
        return TIMEOUT  # the machine was too busy to start it
    if len(message) > MOST:
        return FAILED
    if not done or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return TIMEOUT
    return RAN + message[1:] if status == 0 else FAILED


def _rest(heard: int, most: int) -> bytes:
    """What a program that has ended left in the pipe between the last look and its end."""
    os.set_blocking(heard, False)
    found = b""
    while len(found) < most:
        try:
            part = os.read(heard, 1 << 16)
        except BlockingIOError:  # a process that it made holds the pipe
            break
        if not part:
            break
        found += part
    return found


def _child(job: dict, settings: dict, folder: str, said: int) -> None:
    leave = os._exit  # bound before the program runs, which may replace it
    if available():
        prctl(DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    os.dup2(0, 2)
    os.closerange(3, said)
    os.closerange(said + 1, 256)
    os.mkdir(folder)
    os.chdir(folder)
    _limit(settings)
    if settings["guards"] != "off":
        try:
            apply(settings["readable"], os.getcwd())
        except OSError:
            if settings["guards"] == "needed":
                raise
    os.write(said, STARTED)
    try:
        # Not __main__: what a program does when it is started by hand is no part of its function.
        module = sys.modules["solution"] = types.ModuleType("solution")
        module.__dict__["__builtins__"] = builtins
        exec(compile(job["program"], "<solution>", "exec"), module.__dict__)
        values = [encode(module.__dict__[job["function"]](*decode(call))) for call in job["calls"]]
        answer = json.dumps(values).encode()
    except BaseException:
        leave(1)
    while answer:
        answer = answer[os.write(said, answer) :]
    leave(0)


def _limit(settings: dict) -> None:
    seconds = math.ceil(settings["timeout"]) + 1
    limits = [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ]
    if sys.platform == "linux":  # elsewhere a lowered address space is refused
        limits.append((resource.RLIMIT_AS, settings["memory"]))
    if os.getuid() != 0:
        limits.append((resource.RLIMIT_NPROC, 0))
    for limit, value in limits:
        resource.setrlimit(limit, (value, value))


def _sweep() -> None:
    """Kill what a program left, grandchildren included: they have become this process's children."""
    deadline = time.monotonic() + SWEEP
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                if parent == os.getpid():
                    os.kill(pid, signal.SIGKILL)
            except (OSError, ValueError, IndexError):
                continue  # it has ended
        time.sleep(0.001)
