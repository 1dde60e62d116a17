"""One token more as a compiled step over a cache of fixed shape: CUDA graphs on a GPU, C++ kernels on a CPU.

DECODING_COMPILE is `auto`, `on` or `off`. Compiling takes tens of seconds for each network, batch size and room, and
gives two to four times the speed at batch 1 on a CPU. There the products are other programs than those of the plain
step, so that last bits and near ties differ: `auto`, the default, compiles on a GPU alone.
"""

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import torch
import torch._dynamo
import torch._inductor.config as inductor
from torch import Tensor

from lib.decoding.llama import Llama, grouped_attention
from lib.errors import UserError, why

SWITCH = ("auto", "on", "off")
ROOM = 128  # a room is a multiple of these slots, so that a few compiled steps serve all prompts
FROZEN = {  # weights are packed for the kernel that was fastest here
    "freezing": True,
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "autotune_num_choices_displayed": 0,
}
_FAILED: list[str] = []  # why it cannot be had here, said once
_STEPS: WeakKeyDictionary = WeakKeyDictionary()  # of each network, for compiling takes its time


def compiled_step(network, fast: Llama) -> "CompiledStep":
    """The compiled step of a network, made once and again after its weights changed: in place or by others, but for a
    change through `.data` or inside inference mode, of which torch keeps no count."""
    stamp = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in network.parameters()]
    step = _STEPS.get(network)
    if step is None or step.stamp != stamp:
        if step is not None:  # what was compiled holds the old weights
            torch._dynamo.reset()
            _STEPS.clear()
        step = _STEPS[network] = CompiledStep(fast, stamp)
        _stay(network.parameters())
    return step


def _stay(tensors: Iterable[Tensor]) -> None:
    """Tell CUDA graphs that these keep their places: else they are copied each time, and graphs that write into
    their inputs, as a step writes into its cache, are not made at all. After another place a graph is made anew."""
    for tensor in tensors:
        torch._dynamo.mark_static_address(tensor)


def wanted(device: torch.device) -> bool:
    """Whether steps on this device are to be compiled. Raises UserError for another word in the switch."""
    word = os.environ.get("DECODING_COMPILE", "auto")
    if word not in SWITCH:
        raise UserError(f"DECODING_COMPILE must be {', '.join(SWITCH)}, not {word!r}")
    return not _FAILED and (word == "on" or word == "auto" and device.type == "cuda")


class CompiledStep:
    """Reads one token of each row into a slot of a cache whose keys and values [b, heads, room, D] have one room."""

    def __init__(self, network: Llama, stamp: list):
        self.network, self.stamp, self.shapes = network, stamp, set()
        self.on_cpu = network.norm.device.type == "cpu"
        self.run = torch.compile(self._step, dynamic=False, mode=None if self.on_cpu else "reduce-overhead")

    def __call__(
        self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, slot: int, layers
    ) -> tuple[Tensor, Tensor] | None:
        """What the language-model head sees, [b, 1, H], and its logits [b, 1, V], behind tokens [b, 1]; cos, sin
        [b, 1, D]; mask [b, 1, 1, room] of the slots that are seen.

        None where this machine cannot compile, after a line that says why.
        """
        place = torch.tensor([slot], device=tokens.device)
        keys, values = [layer.keys for layer in layers], [layer.values for layer in layers]
        if not self.on_cpu:
            _stay([*keys, *values])
        try:
            with nullcontext() if mask.shape in self.shapes else self._compiling():
                found = self.run(tokens, cos, sin, mask, place, keys, values)
        except Exception as error:  # of many kinds: no compiler, an operation that it does not know
            _FAILED.append(why(error))
            print(f"steps are not compiled here ({_FAILED[-1]}): going on without", file=sys.stderr)
            return None
        self.shapes.add(mask.shape)
        return found if self.on_cpu else tuple(x.clone() for x in found)  # a graph's next run overwrites its output

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        with (
            warnings.catch_warnings(),
            torch._dynamo.config.patch(recompile_limit=64),
            inductor.patch(FROZEN if self.on_cpu else {}),
        ):
            warnings.simplefilter("ignore")
            yield

    def _step(self, tokens, cos, sin, mask, place, keys, values) -> tuple[Tensor, Tensor]:
        attention = one_by_one if self.on_cpu else grouped_attention

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys[layer].index_copy_(2, place, k)
            values[layer].index_copy_(2, place, v)
            return attention(q, keys[layer], values[layer], mask)

        normed = self.network.normed(self.network.states(tokens, cos, sin, attend))
        return normed, self.network.logits(normed)


def one_by_one(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """`grouped_attention` of one query a row as plain sums, which the compiler makes one pass over the keys and one
    over the values."""
    rows, heads, _, size = q.shape
    q = q.reshape(rows, k.shape[1], heads // k.shape[1], 1, size)
    scores = (q * k[:, :, None]).sum(-1) * size**-0.5
    shares = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return (shares[..., None] * v[:, :, None]).sum(-2).reshape(rows, heads, 1, size)
