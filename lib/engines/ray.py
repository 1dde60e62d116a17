"""Work shared out over a Ray cluster: an actor a GPU, or a core where there are none.

The process that asks hands out one unit an actor at a time and takes what comes back: it alone writes. An actor loads
a model once and keeps it for later work. A unit whose actor died, with its node or without, goes to another.

Every machine of the cluster has this repository at the same path, with its checkpoints and `.venv`; on one machine
nothing need be started, Ray starts itself. RAY_ADDRESS names a cluster.
"""

import atexit
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.errors import MachineError, UserError, why
from lib.paths import ROOT

TRIES = 3  # of a unit whose actors die: then it is the unit that kills them
PATIENCE = 600  # seconds that no actor of a cluster may be there
# What decides how a unit is done, besides the code: an actor gets it from the process that asks.
PASSED = ("ALLOW_CODE_EXECUTION", "DATA_DIR", "DECODING_COMPILE", "DECODING_STUDY_CACHE", "HF_HOME", "HF_HUB_OFFLINE",
          "HUB_REVISION", "MODEL_BITS")  # fmt: skip
_POOLS: dict[tuple, "Pool"] = {}


def results(work: Callable, units: list, start: Callable, device: str = "cpu") -> Iterator:
    """`work(unit)` of every unit, in the order in which they are done; `start` is called in each new actor.

    Raises what `work` raised, and MachineError where units kill their actors or the cluster has no room.
    """
    if not units:
        return
    if device not in ("cpu", "cuda"):
        raise UserError(f"Ray gives each actor its own GPU: set device to 'cuda', not {device!r}")
    if os.environ.get("MODEL_PLACE"):
        raise UserError("MODEL_PLACE is for several GPUs, and ENGINE=ray gives each actor one: leave one of them out")
    key = (device, start, tuple(os.environ.get(name) for name in PASSED))
    if key not in _POOLS:
        release()  # an actor for other settings holds a GPU
        _POOLS[key] = Pool(start, device)
    yield from _POOLS[key].results(work, units)


class Pool:
    """Actors on the GPUs, or the cores, of a cluster."""

    def __init__(self, start: Callable, device: str):
        self.ray, self.device = _ray(), device
        kind = "CPU" if device == "cpu" else "GPU"
        self.most = int(self.ray.cluster_resources().get(kind, 0))
        if not self.most:
            raise UserError(f"the Ray cluster has no {kind}: start it where there are some, or set device to 'cpu'")
        needs = {"num_cpus": 1} if device == "cpu" else {"num_gpus": 1}
        self.settings = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment = {"env_vars": self.settings}
        self.actor = self.ray.remote(Worker).options(max_restarts=0, runtime_env=environment, **needs)
        self.start, self.failed = start, 0  # actors in a row that ended while they started
        self.ready: list = []  # actors that have nothing to do
        self.coming: dict = {}  # reference to what says that an actor is there -> the actor, whether it is new

    def results(self, work: Callable, units: list) -> Iterator:
        """See the module's `results`."""
        waiting = deque((unit, 1) for unit in units)  # with the number of the try
        busy: dict = {}  # reference to a result -> actor, unit, try
        handle = self.ray.put(work)
        self._call()
        try:
            while waiting or busy:
                self._hire(min(len(waiting), self.most - len(busy)))
                while waiting and self.ready:
                    unit, attempt = waiting.popleft()
                    actor = self.ready.pop()
                    busy[actor.do.remote(handle, unit)] = (actor, unit, attempt)
                done = self._wait([*busy, *self.coming], bool(busy))
                if done in self.coming:
                    self._arrived(done)
                    continue
                actor, unit, attempt = busy.pop(done)
                try:
                    found = self.ray.get(done)
                except self.ray.exceptions.RayTaskError as error:
                    self.ready.append(actor)
                    raise self._cause(error) from None
                except self.ray.exceptions.RayError as error:  # the actor or its node is gone
                    if attempt == TRIES:
                        raise MachineError(
                            f"a unit of work ended {TRIES} Ray actors ({type(error).__name__}), as when memory runs "
                            "out: the same command goes on, with a smaller model or shorter responses to its end"
                        ) from error
                    waiting.appendleft((unit, attempt + 1))
                    self._call()
                    continue
                self.ready.append(actor)
                yield found
        finally:
            for actor, *_ in busy.values():  # work that was given up
                self.ray.kill(actor)

    def _call(self) -> None:
        """Ask those that have had nothing to do whether they are still there: one that is not has begun no unit."""
        self.coming |= {actor.there.remote(): (actor, False) for actor in self.ready}
        self.ready = []

    def _hire(self, wanted: int) -> None:
        """See to it that so many actors are free or on their way."""
        for _ in range(wanted - len(self.ready) - len(self.coming)):
            actor = self.actor.remote(self.start, str(ROOT), self.settings)
            self.coming[actor.there.remote()] = (actor, True)

    def _wait(self, references: list, working: bool):
        done, _ = self.ray.wait(references, num_returns=1, timeout=None if working else PATIENCE)
        if not done:
            raise MachineError(f"no Ray actor could start within {PATIENCE} s: free a GPU or core, or add a node")
        return done[0]

    def _arrived(self, reference) -> None:
        actor, new = self.coming.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise self._cause(error) from None
        except self.ray.exceptions.RayError as error:  # it is gone; another is asked for
            self.failed += new
            if self.failed < TRIES:
                return
            self.failed = 0
            cause = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise MachineError(
                f"{TRIES} Ray actors ended while they started ({cause}): every machine of the cluster needs {ROOT} "
                "with its environment, and memory for a process more"
            ) from error
        self.failed = 0
        self.ready.append(actor)

    @staticmethod
    def _cause(error) -> BaseException:
        """What the work itself raised."""
        return error.cause if isinstance(error.cause, BaseException) else error

    def close(self) -> None:
        for actor in [*self.ready, *(actor for actor, _ in self.coming.values())]:
            self.ray.kill(actor)


class Worker:
    """An actor's process."""

    def __init__(self, start: Callable, root: str, settings: dict[str, str]):
        for name in set(PASSED) - set(settings):  # as Ray was started with
            os.environ.pop(name, None)
        os.chdir(root)
        start()

    def there(self) -> None:
        """Answers once the actor has started."""

    def do(self, work: Callable, unit):
        return work(unit)


def release() -> None:
    """End the actors, and give their GPUs back."""
    for key in list(_POOLS):
        _POOLS.pop(key).close()


def close() -> None:
    """End the actors, and Ray where this process started it."""
    if _POOLS:
        ray = next(iter(_POOLS.values())).ray
        _POOLS.clear()
        ray.shutdown()


def _ray():
    """Ray, connected. Raises UserError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError(f"ENGINE=ray needs Ray: {_cure()}") from error
    if not ray.is_initialized():
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", runtime_env=environment)
        except Exception as error:  # of many kinds, and of none
            raise MachineError(
                f"Ray does not start ({why(error)}): see RAY_ADDRESS and /tmp/ray, or wait for a machine less busy"
            ) from error
        atexit.register(close)
    return ray


def _cure() -> str:
    """How Ray comes into the environment in use."""
    by_vllm = Path(sys.prefix).name == ".venv-vllm"
    command = "`make env-vllm`" if by_vllm else "`make env ENGINE=ray`"
    return f"{command} puts it into {sys.prefix}, or leave ENGINE unset"
