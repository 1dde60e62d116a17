"""How many responses are decoded at once: as many as memory holds. A batch changes no response.

The first batch of a run follows an estimate; on an accelerator what it took is measured, and the later ones follow
that. A batch that does not fit all the same is decoded in halves.
"""

import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from lib.errors import MachineError

MOST = 64  # on a CPU more save nothing; a GPU takes four times as many
CANVASES = 16  # of a masked diffusion model on a CPU: more leave its cache, 64 take 1.2 times as long
SHARE = 0.4  # of what is free, for one process of `workers`
MEASURED_SHARE = 0.8  # where what a row takes was measured
FLOAT = 4  # bytes
CUBLAS = "CUBLAS_STATUS_ALLOC_FAILED"  # its own way to say that memory ran out
_FITTED: dict = {}  # what is decoded -> rows that went at once where more did not fit


def batch_size(model, prompt: int, response: int, device: str = "cpu", workers: int = 1) -> int:
    """Responses of up to `response` tokens to prompts of `prompt` tokens that fit at once, at least 1."""
    config, diffusion = model.network.config.get_text_config(), model.family.mask_id is not None
    most = (CANVASES if diffusion else MOST) if device == "cpu" else 4 * MOST
    room = min(map(free, devices_of(model.network, device)))
    fits = SHARE * room / workers / bytes_a_row(config, diffusion, prompt, response)
    return max(1, min(most, int(fits)))


def devices_of(network, device: str) -> list[str]:
    """The GPUs that a network was shared out to by MODEL_PLACE; else `device` alone."""
    places = set((getattr(network, "hf_device_map", None) or {}).values())
    names = {f"cuda:{place}" if isinstance(place, int) else str(place) for place in places}
    return sorted(name for name in names if name.startswith("cuda")) or [device]


@dataclass
class Measured:
    """How many rows as those of a batch fit at once, by the memory that it took; None where it was not measured."""

    fits: int | None = None


@contextmanager
def measured(rows: int, devices: list[str], what=None) -> Iterator[Measured]:
    """Measure the memory of accelerators that decoding so many rows inside takes; the tightest one says what fits.

    `what`: as for `in_halves`; rows that went in parts measure nothing.
    """
    found = Measured()
    if devices == ["cpu"] or not rows:
        yield found
        return
    before = {}
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
        before[device] = torch.cuda.memory_allocated(device)
    yield found
    if _FITTED.get(what, rows) < rows:
        return
    fits = []
    for device in devices:
        a_row = max(1, torch.cuda.max_memory_allocated(device) - before[device]) / rows
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for what comes
        fits.append(MEASURED_SHARE * (free(device) + kept) / a_row)
    found.fits = max(1, min(4 * MOST, int(min(fits))))


def in_halves(decode: Callable[[list], list], rows: list, what) -> list:
    """`decode` of rows, all at once, and in halves where an accelerator's memory runs out, down to one row.

    `what`: what is decoded; its later rows go in parts of the size that was found to fit. Raises MachineError where
    one row does not fit.
    """
    done: list = []
    while len(done) < len(rows):
        part = rows[len(done) :][: _FITTED.get(what, len(rows))]
        try:
            done += decode(part)
            continue
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and CUBLAS not in str(error):
                raise
            if len(part) == 1:
                raise MachineError(
                    "one response alone does not fit into the memory of the GPU: make responses shorter, load the "
                    "model in fewer bits (MODEL_BITS=8), or take a larger GPU"
                ) from error
            _FITTED[what] = len(part) // 2
        gc.collect()  # behind the handler: the error holds the frames that hold the tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return done


def bytes_a_row(config, diffusion: bool, prompt: int, response: int) -> int:
    """What one response needs besides the weights: cache, activations of a forward, and logits in float32."""
    length, heads = prompt + response, config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    wide = 8 * config.hidden_size + 3 * getattr(config, "intermediate_size", 4 * config.hidden_size)
    open_positions = response if diffusion else 1
    logits = 3 * open_positions * config.vocab_size  # logits, probabilities, their sum in float64 is of one row
    cache = 0 if diffusion else 2 * config.num_hidden_layers * keys * size * length
    return FLOAT * (logits + cache + wide * (length if diffusion else prompt))


def free(device: str) -> int:
    """Bytes of memory that are free on a device; on a CPU no more than what a container or a limit of this process
    (`ulimit -v`) leaves."""
    if device != "cpu":
        return torch.cuda.mem_get_info(device)[0]
    return max(0, min([psutil.virtual_memory().available, *_container(), *_limit()]))


def _limit() -> list[int]:
    """What the process's own limit of address space leaves, where it has one."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if most == resource.RLIM_INFINITY else [most - psutil.Process().memory_info().vms]


def _container(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What the limit of a Linux container leaves, where it has one; files kept in memory count as free."""
    for folder, most, used, files in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit, taken = (folder / most).read_text().strip(), int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        return [] if limit == "max" else [int(limit) - taken + int(stat.get(files, 0))]
    return []
