"""Keys and values of a layer in one preallocated room, and which networks can have such a cache."""

from torch import Tensor
from transformers.cache_utils import DynamicLayer

from lib.decoding.networks import ALIBI, by_alibi


class Slots(DynamicLayer):
    """Keys and values of one layer, [B, heads, room, D], filled from the left; windowed layers are kept whole."""

    def __init__(self, room: int):
        super().__init__()
        self.room, self.used = room, 0

    def update(self, key_states: Tensor, value_states: Tensor, *_, **__) -> tuple[Tensor, Tensor]:
        """Put new ones behind the others; all that there are, [B, heads, used, D]."""
        end = self.used + key_states.shape[2]
        if not self.is_initialized:
            self.is_initialized, self.dtype, self.device = True, key_states.dtype, key_states.device
            self.keys, self.values = (self._room_for(x, end) for x in (key_states, value_states))
        elif end > self.keys.shape[2]:
            self.keys, self.values = (self._grown(x, 2 * end) for x in (self.keys, self.values))
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _room_for(self, states: Tensor, end: int) -> Tensor:
        return states.new_zeros(*states.shape[:2], max(self.room, end), states.shape[3])

    def _grown(self, states: Tensor, room: int) -> Tensor:
        grown = states.new_zeros(*states.shape[:2], room, states.shape[3])
        grown[:, :, : self.used] = states[:, :, : self.used]
        return grown

    def get_seq_length(self) -> int:
        return self.used

    def rows(self, index: Tensor) -> None:
        """Go on with these rows, some of them repeated."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(len(index), *old.shape[1:])
            new[:, :, : self.used] = old[:, :, : self.used].index_select(0, index)
            setattr(self, name, new)

    def gather(self, slots: Tensor) -> None:
        """Keep the slots [B, n], from the left."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            index = slots[:, None, :, None].expand(-1, old.shape[1], -1, old.shape[3])
            old[:, :, : slots.shape[1]] = old.gather(2, index)
        self.used = slots.shape[1]


def windows(config) -> tuple[int, str]:
    """The window of sliding layers, 0 where none slide, and how their mask is called where others do not."""
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) or 0
    if kinds:
        return (window, "sliding_attention") if "sliding_attention" in kinds else (0, "")
    return (window if getattr(config, "use_sliding_window", True) else 0), ""


def unsettled(network, config) -> str | None:
    """Why a network cannot have this cache; None where it can."""
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"has layers of the kind {', '.join(sorted(kinds))}"
    if "flash" in str(getattr(config, "_attn_implementation", "")):
        return "is loaded with flash attention, which takes no tree mask (load it with attn_implementation='sdpa')"
    if "local" in (getattr(config, "attention_layers", None) or ()):  # GPT-Neo
        return "has local layers, whose window goes by the slot"
    if by_alibi(config):
        return ALIBI
    return None
