"""One token more as a compiled step over a cache of fixed shape: CUDA graphs on a GPU, C++ kernels on a CPU.

DECODING_COMPILE is `auto`, `on` or `off`. It compiles for tens of seconds, once a batch size. `auto` compiles on a
GPU, where launching small kernels takes longer than running them; on a CPU the plain step is mostly as fast.
"""

import os
import sys
import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lib.decoding.llama import Llama, grouped_attention
from lib.errors import UserError

SWITCH = ("auto", "on", "off")
_FAILED: list[str] = []  # why it cannot be had here, said once


_STEPS: WeakKeyDictionary = WeakKeyDictionary()  # of each network, for compiling takes its time


def compiled_step(network, fast: Llama) -> "CompiledStep":
    """The compiled step of a network, made once."""
    if network not in _STEPS:
        _STEPS[network] = CompiledStep(fast)
    return _STEPS[network]


def wanted(device: torch.device) -> bool:
    """Whether steps on this device are to be compiled. Raises UserError for another word in the switch."""
    word = os.environ.get("DECODING_COMPILE", "auto")
    if word not in SWITCH:
        raise UserError(f"DECODING_COMPILE must be {', '.join(SWITCH)}, not {word!r}")
    return not _FAILED and (word == "on" or word == "auto" and device.type == "cuda")


class CompiledStep:
    """Reads one token of each row into a slot of a cache whose keys and values [b, heads, room, D] have one room."""

    def __init__(self, network: Llama):
        self.network = network
        mode = "reduce-overhead" if network.norm.device.type == "cuda" else None
        self.run = torch.compile(self._step, dynamic=False, mode=mode)

    def __call__(self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, slot: int, layers) -> Tensor | None:
        """States [b, 1, H] behind tokens [b, 1]; cos, sin [b, 1, D]; mask [b, 1, 1, room] of the slots that are seen.

        None where this machine cannot compile, after a line that says why.
        """
        place = torch.tensor([slot], device=tokens.device)
        keys, values = [layer.keys for layer in layers], [layer.values for layer in layers]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.run(tokens, cos, sin, mask, place, keys, values)
        except Exception as error:  # of many kinds: no compiler, an operation that it does not know
            _FAILED.append(str(error).strip().splitlines()[0])
            print(f"steps are not compiled here ({_FAILED[-1]}): going on without", file=sys.stderr)
            return None
        return found.clone() if tokens.device.type == "cuda" else found  # a graph's output is overwritten by the next

    def _step(self, tokens, cos, sin, mask, place, keys, values) -> Tensor:
        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys[layer].index_copy_(2, place, k)
            values[layer].index_copy_(2, place, v)
            return grouped_attention(q, keys[layer], values[layer], mask)

        return self.network.states(tokens, cos, sin, attend)
