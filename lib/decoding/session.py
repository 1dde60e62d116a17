"""A causal language model with its cache: the one that all autoregressive and drafting decoders share.

A cache slot belongs to all rows or to some: what a row rejects stays in memory, unseen, until the room is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from lib.decoding.cache import Slots, unsettled, windows
from lib.decoding.compiled import ROOM, compiled_step, wanted
from lib.decoding.distributions import Distribution, distribution_of, filtered
from lib.decoding.llama import Llama, grouped_attention
from lib.decoding.networks import context_of
from lib.errors import UserError

PREFILL = 512  # prompt tokens a forward: the mask of all at once would be as long as the prompt squared
SLACK = 64  # slots beyond prompt and limit, for what is drafted and rejected
_WATCHING: list[Callable[[object, bool], None]] = []


@contextmanager
def watching(watch: Callable[[object, bool], None]) -> Iterator[None]:
    """Inside, `watch(network, begins)` is called before and after every forward of any session."""
    _WATCHING.append(watch)
    try:
        yield
    finally:
        _WATCHING.remove(watch)


class Session:
    """One network and its cache over B rows.

    Positions count the slots that a row sees, so that holes move nothing. Slots of `forward` are tentative, and which
    of them a later one sees is its caller's to say, until `keep` settles them. After a forward `hidden` [b, heads, H]
    is what the language-model head saw.

    `room`: slots that are likely to be needed. `rollback`: whether rows may go on from fewer tokens than they read;
    a network whose cache cannot do that is refused then, and else has a cache of its own.
    A draft that can say but some tokens (lib/models/distilled.py) is asked for the logits of those alone.
    """

    def __init__(self, network, rows: int, room: int = 0, rollback: bool = True):
        self.network, self.fast = network, Llama.of(network)
        config = network.config.get_text_config()
        first = next(network.parameters())
        self.dtype, self.device = first.dtype, first.device
        self.window, self.windowed = windows(config)
        # Drafts run on behind the last position where it is a row of a table; what is drafted there is cut.
        self.last = None if self.fast or getattr(config, "rope_parameters", None) else context_of(network)
        reason = None if self.fast else unsettled(network, config)
        if reason and rollback:
            name = type(network).__name__
            raise UserError(f"{name} {reason}: its cache cannot be rolled back to an accepted prefix")
        self.own = bool(reason)
        self.compiled = compiled_step(network, self.fast) if self.fast and wanted(self.device) else None
        room += SLACK if rollback else 0
        room = -(-room // ROOM) * ROOM if self.compiled else room
        layers = [Slots(room) for _ in range(config.num_hidden_layers)]
        self.cache = DynamicCache(config=network.config) if self.own else Cache(layers=layers)
        self.rows = torch.arange(rows)
        self.valid = torch.zeros(rows, 0, dtype=torch.bool, device=self.device)
        self.places = torch.zeros(rows, 0, dtype=torch.long, device=self.device)
        self.length = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.tentative, self.took, self.hidden, self.slots = self.valid, [], None, 0
        self.dense = True  # every row sees every slot
        self.small = getattr(network, "vocabulary", None)
        self.angles = self.fast.angles(max(room, 1)) if self.fast else None

    def prefill(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Read prompts [B, P], left-padded; logits [B, 1, V] behind them. Equal prompts are read once."""
        rows = len(ids)
        both = torch.cat([ids, mask.long()], 1)
        _, which = torch.unique(both, dim=0, return_inverse=True)
        once = torch.full((int(which.max()) + 1,), rows, device=ids.device).scatter_reduce(
            0, which, torch.arange(rows, device=ids.device), "amin"
        )
        shared = len(once) < rows and not self.own
        whole = bool(mask.all())
        part, real = (ids[once], mask[once].bool()) if shared else (ids, mask.bool())
        if shared:
            self.valid, self.places, self.length = (x[once] for x in (self.valid, self.places, self.length))
            self.tentative = self.valid
        for start in range(0, ids.shape[1], PREFILL):
            there = real[:, start : start + PREFILL]
            causal = torch.ones(there.shape[1], there.shape[1], dtype=torch.bool, device=ids.device).tril()
            logits = self.forward(part[:, start : start + PREFILL], there, causal & there[:, None], 1)
            self.keep(there, whole=whole)
        if shared:
            self.took = [(self.rows, part.bool(), 1) for part in mask.split(PREFILL, 1)]
            self._index(which)
            logits = logits[which]
            if self.hidden is not None:  # a network without an output head
                self.hidden = self.hidden[which]
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of each row [b]; logits [b, 1, V] behind it."""
        column = torch.ones_like(tokens, dtype=torch.bool)[:, None]
        if self.compiled and self.slots >= self._room():
            self.compiled = None
        logits = self.forward(
            tokens[:, None], column, column[:, None], 1, everything=self.dense and self.compiled is None
        )
        self.keep(column, whole=True)
        return logits

    def forward(
        self, tokens: Tensor, real: Tensor, among: Tensor, heads: int, everything: bool = False, **given
    ) -> Tensor:
        """Logits [b, heads, V] at the last `heads` of tokens [b, Q].

        `real` [b, Q] is False at padding; `among` [b, Q, R + Q]: which of the R tentative slots and of these tokens
        each of them sees, itself included. Its position is that of the settled slots and those it sees.
        `everything`: all see all that there is. `given` goes to the network.
        """
        places = (self.length[:, None] + among.sum(-1) - 1).clamp(0, self.last and self.last - 1)
        self.slots += tokens.shape[1]
        if self.window:
            self.places = torch.cat([self.places, places], 1)
        for watch in _WATCHING:
            watch(self.network, True)
        if self.fast:
            mask = None if everything else self._seen(among)[:, None]
            logits = self._fast(tokens, places, mask, heads, **given)
        else:
            logits = self._plain(tokens, real, places, among, heads, **given)
        for watch in _WATCHING:
            watch(self.network, False)
        self.took.append((self.rows, real, heads))
        self.tentative = torch.cat([self.tentative, real], 1)
        return logits

    def _seen(self, among: Tensor) -> Tensor:
        """[b, Q, S] which slots each token sees."""
        width = among.shape[1]
        seen = torch.cat([self.valid[:, None].expand(-1, width, -1), among], -1)
        if width > 1:  # padding before a text sees itself, for softmax over nothing is NaN; nobody sees padding
            seen.diagonal(seen.shape[2] - width, 1, 2).logical_or_((self.length == 0)[:, None])
        return seen

    def _fast(self, tokens: Tensor, places: Tensor, mask: Tensor | None, heads: int, whole: bool = True) -> Tensor:
        if self.slots > len(self.angles[0]):
            self.angles = self.fast.angles(2 * self.slots)
        cos, sin = (table[places] for table in self.angles)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return grouped_attention(q, *self.cache.layers[layer].update(k, v), mask)

        single = tokens.shape[1] == 1 and self.slots <= self._room() and not self.fast.head_is_hooked()
        found = self._by_graph(tokens, cos, sin, mask) if self.compiled and single else None
        if found is None:
            self.hidden = self.fast.normed(self.fast.states(tokens, cos, sin, attend)[:, -heads:])
            logits = self.fast.logits(self.hidden)
        else:
            self.hidden, logits = found
        if self.small is None or not whole:
            return logits
        return self.network.spread(logits)

    def _by_graph(self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> tuple[Tensor, Tensor] | None:
        """The same by the compiled step over the whole room; None where it cannot be had."""
        layers = self.cache.layers
        mask = torch.nn.functional.pad(mask, (0, self._room() - mask.shape[-1]))
        found = self.compiled(tokens, cos, sin, mask, self.slots - 1, layers)
        if found is None:
            self.compiled = None
            return None
        for layer in layers:
            layer.used = self.slots
        return found

    def _plain(self, tokens: Tensor, real: Tensor, places: Tensor, among: Tensor, heads: int, **given) -> Tensor:
        if self.own:
            mask = torch.cat([self.valid, real], 1).long()
        else:
            mask = self._masks(self._seen(among), places)
        seen: list[Tensor] = []
        head = self.network.get_output_embeddings()
        handle = None
        if head is not None:
            handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            output = getattr(self.network, "base_forward", self.network)(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=places,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=heads,
                **given,
            )
        finally:
            if handle is not None:
                handle.remove()
        self.hidden = seen[0][:, -heads:] if seen else None
        return output.logits

    def _masks(self, seen: Tensor, places: Tensor) -> Tensor | dict[str, Tensor]:
        """What a `transformers` network takes: added to the scores, [b, 1, Q, S], one a kind of layer."""
        if not self.window:
            return self._added(seen)
        near = seen & (self.places[:, None] > places[..., None] - self.window)
        if not self.windowed:
            return self._added(near)
        return {"full_attention": self._added(seen), self.windowed: self._added(near)}

    def _added(self, seen: Tensor) -> Tensor:
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]

    def distribution(self, options, tokens: Tensor, real: Tensor, among: Tensor, heads: int) -> Distribution:
        """The distributions [b, heads, K] that follow from `forward`; see `law`."""
        if self.small is None or options.temperature and (not options.top_k or self._heads(options) is not None):
            return self.law(options, self.forward(tokens, real, among, heads))
        found = self.law(options, self.forward(tokens, real, among, heads, whole=False))
        return Distribution(found.probs, self.small[found.everywhere()])

    def law(self, options, logits: Tensor) -> Distribution:
        """The distributions [b, n, K] of the logits [b, n, V] of the last forward, after the warp of `options`.

        With `options.heads`, of a network that has AutoDeco's, temperature and top_p multiply what these say there.
        """
        if (heads := self._heads(options)) is None:
            return distribution_of(logits, options.temperature, options.top_p, options.top_k)
        _, top_p, probs = heads.settings(self.hidden, logits, options.temperature, options.top_p)
        return filtered(probs, top_p, options.top_k)

    def _heads(self, options):
        """AutoDeco's heads where they decide: at temperature 0 the likeliest token does, whatever they say."""
        return getattr(self.network, "heads", None) if options.heads and options.temperature else None

    def counts(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row of the batch [rows]: calls in which it took part, positions computed for it, and those of them
        at which the language-model head was needed. A prompt that several rows share is charged to each."""
        found = torch.zeros(3, rows, dtype=torch.long)
        for at, real, heads in self.took:
            real = real.cpu()
            found[:, at] += torch.stack([real.any(-1).long(), real.sum(-1), real[:, -heads:].sum(-1)])
        return found[0], found[1], found[2]

    def keep(self, kept: Tensor, whole: bool = False) -> None:
        """Settle the tentative slots: of the last n, kept [b, n] are those that the rows go on with.

        `whole`: all rows keep all of them, which need not be looked up.
        """
        before = self.tentative[:, : self.tentative.shape[1] - kept.shape[1]]
        new = torch.cat([before, kept], 1) if before.shape[1] else kept
        self.valid = torch.cat([self.valid, new], 1)
        self.length = self.length + new.sum(-1)
        self.dense = self.dense and whole
        self.tentative = kept[:, :0]
        if not self.own and self.valid.shape[1] >= self._room():
            self._compact()

    def _room(self) -> int:
        layer = self.cache.layers[0]
        return layer.keys.shape[2] if layer.is_initialized else layer.room

    def _compact(self) -> None:
        """Take out the slots that no row sees, where there are some."""
        longest = int(self.length.max())
        if self.valid.shape[1] - longest < SLACK // 2:
            return
        slots = self.valid.sort(dim=1, stable=True).indices[:, -longest:]  # unseen slots come first
        for layer in self.cache.layers:
            layer.gather(slots)
        self.valid, self.slots = self.valid.gather(1, slots), longest
        if self.window:
            self.places = self.places.gather(1, slots)

    def staying(self, going: Tensor) -> Tensor:
        """The rows [b] to go on with where those of `going` [b] are wanted: for a compiled step some more of them,
        up to a power of two, because each batch size is compiled."""
        count = int(going.sum())
        size = 1 << max(count - 1, 0).bit_length()
        if not self.compiled or not count:
            return going
        if size >= len(going):
            return torch.ones_like(going)
        stay = going.clone()
        stay[(~going).nonzero().squeeze(-1)[: size - count]] = True
        return stay

    def select(self, rows: Tensor) -> None:
        """Go on with some of the rows: bool [b]."""
        self._index(rows.nonzero().squeeze(-1))
        self.rows = self.rows[rows.cpu()]

    def _index(self, index: Tensor) -> None:
        if self.own:
            self.cache.batch_select_indices(index)
        else:
            for layer in self.cache.layers:
                layer.rows(index)
        self.valid, self.tentative = self.valid[index], self.tentative[index]
        self.places, self.length = self.places[index], self.length[index]
