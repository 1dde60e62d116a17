"""Hostile programs against the sandbox, and wrong ones against the scorers; `level()` says which sandbox was met.

A hostile program is contained where nothing that it aims at has changed, it is not right, and the honest programs
before and after it are judged as ever.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib.bench.reliability import misscored as answers
from lib.bench.reliability.case import Case
from lib.bench.reliability.hostile_programs import PRELUDE, PROGRAMS
from lib.tasks import sandbox

TIMEOUT = 1.5  # seconds a program
HONEST = "def f(x):\n    return [x, {{'n': {n}}}]"


def cases() -> Iterator[Case]:
    """Programs that must be contained, and not be right."""
    for name, program in PROGRAMS.items():
        yield Case(name, lambda folder, program=program: contained(program, folder))


def misscored() -> Iterator[Case]:
    """Answers that must be scored as they deserve."""
    for name, check in answers.CHECKS.items():
        yield Case(name, lambda folder, check=check: answers.judged(check))


def contained(program: str, folder: Path) -> None:
    """Run one program beside what it aims at. Raises AssertionError where it reached something, or is right."""
    os.environ.setdefault("ALLOW_CODE_EXECUTION", "1")
    # It would hold nothing: some of them would end every process of this user.
    assert sandbox.level() != sandbox.PROCESS, "not tried: model-written programs run as plain processes here"
    with targets(folder) as aims:
        prelude = PRELUDE.format(**aims.names)
        honest = [sandbox.Job(HONEST.format(n=n), "f", ((3,),)) for n in range(2)]
        hostile = sandbox.Job(f"{prelude}\n{program}\n", "f", ((3,),))
        first, found, last = sandbox.run_calls([honest[0], hostile, honest[1]], timeout=TIMEOUT)
        for n, outcome in enumerate((first, last)):
            assert outcome.values == ([3, {"n": n}],), f"an honest program ended as {outcome.status}"
        assert found.values != (aims.secret,), "it is right"
        aims.check()


class Aims:
    """What hostile programs aim at, and whether it is as it was."""

    def __init__(self, folder: Path, victim: subprocess.Popen, servers: list[socket.socket], inside: Path):
        self.folder, self.victim, self.servers = folder, victim, servers
        self.secret = os.urandom(8).hex()
        (folder / "precious").write_text("precious")
        (folder / "secret").write_text(self.secret)
        self.mark = f"h{os.urandom(6).hex()}"  # 13 of the 15 letters that a process's name may have
        self.names = {
            "folder": str(folder),
            "port": servers[0].getsockname()[1],
            "datagram": servers[1].getsockname()[1],
            "socket": str(inside),
            "victim": victim.pid,
            "mark": self.mark,
        }
        self.priority = os.getpriority(os.PRIO_PROCESS, victim.pid)
        self.before = self.state()

    def state(self) -> list:
        """Name, mode, owner, size and time of change of all files."""
        if not self.folder.is_dir():
            return []
        stats = [(path.name, path.lstat()) for path in sorted(self.folder.iterdir())]
        return [(name, s.st_mode, s.st_uid, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats]

    def check(self) -> None:
        assert self.state() == self.before, "it changed files"
        for server in self.servers:
            try:
                server.recv(1) if server.type == socket.SOCK_DGRAM else server.accept()
                raise AssertionError("it used the network")
            except BlockingIOError:
                pass
        status = Path(f"/proc/{self.victim.pid}/stat")
        stopped = status.exists() and status.read_text().rpartition(")")[2].split()[0] == "T"
        assert self.victim.poll() is None and not stopped, "it signalled a process"
        assert os.getpriority(os.PRIO_PROCESS, self.victim.pid) == self.priority, "it slowed a process down"
        time.sleep(0.02)
        left = survivors(self.mark)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"{len(left)} of its processes are alive"


def survivors(mark: str) -> list[int]:
    """Processes of that name that are no zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            start, _, end = entry.read_text().rpartition(")")
        except OSError:
            continue  # it has ended
        if start.partition("(")[2] == mark and end.split()[0] != "Z":
            found.append(int(entry.parent.name))
    return found


@contextmanager
def targets(folder: Path) -> Iterator[Aims]:
    with ExitStack() as stack:
        stream, datagram, local = (
            stack.enter_context(socket.socket(family, kind))
            for family, kind in (
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )
        inside = folder / "s"
        stream.bind(("127.0.0.1", 0))
        datagram.bind(("127.0.0.1", 0))
        local.bind(str(inside))
        stream.listen()
        local.listen()
        for server in (stream, datagram, local):
            server.setblocking(False)
        victim = subprocess.Popen(["sleep", "60"], start_new_session=True)
        try:
            yield Aims(folder, victim, [stream, datagram, local], inside)
        finally:
            victim.kill()
            victim.wait()
