"""A causal language model with the KV cache of rows that advance by different counts."""

import torch
from torch import Tensor
from transformers import DynamicCache

from lib.decoding.distributions import Distribution, distribution_of
from lib.errors import UserError

SLACK = 64  # slots that no row sees any more are taken out of the cache when there are so many


class Session:
    """One model and its cache over B rows.

    A cache slot belongs to a row or to none: what a row rejects stays in memory, unseen, until enough of it is
    there to be worth a copy. Positions count the slots that a row sees, so that holes move nothing. Slots of
    `forward` are tentative, and which of them a later one sees is its caller's to say, until `keep` settles them.

    A draft that can say but some tokens (lib/mtad/distilled.py) is asked for the logits of those alone.
    """

    def __init__(self, model, rows: int):
        config = model.config.get_text_config()
        layers = getattr(config, "layer_types", None) or []
        window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        if any(kind != "full_attention" for kind in layers) or not layers and window:
            raise UserError(
                f"{type(model).__name__} does not attend to the whole text in every layer: its cache cannot be "
                "rolled back to an accepted prefix; take a model with full attention"
            )
        if "flash" in str(getattr(config, "_attn_implementation", "")):
            raise UserError("flash attention takes no tree mask: load the model with attn_implementation='sdpa'")
        self.model, self.cache = model, DynamicCache()
        first = next(model.parameters())
        self.dtype, self.device = first.dtype, first.device
        self.rows = torch.arange(rows)
        self.valid = torch.zeros(rows, 0, dtype=torch.bool, device=self.device)
        self.tentative, self.took = self.valid, []
        self.small = getattr(model, "vocabulary", None)

    @property
    def length(self) -> Tensor:
        """[b] tokens that each row has in the cache."""
        return self.valid.sum(-1)

    def forward(self, tokens: Tensor, real: Tensor, among: Tensor, heads: int, **given) -> Tensor:
        """Logits [b, heads, V] at the last `heads` of tokens [b, Q].

        `real` [b, Q] is False at padding; `among` [b, Q, R + Q]: which of the R tentative slots and of these tokens
        each of them sees, itself included. Its position is that of the settled slots and those it sees. `given` goes
        to the model.
        """
        seen = torch.cat([self.valid[:, None].expand(-1, tokens.shape[1], -1), among], -1)
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        mask.masked_fill_(~seen, torch.finfo(self.dtype).min)
        output = self.model(
            input_ids=tokens,
            attention_mask=mask[:, None],
            position_ids=(self.length[:, None] + among.sum(-1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=heads,
            **given,
        )
        self.took.append((self.rows, real, heads))
        self.tentative = torch.cat([self.tentative, real], 1)
        return output.logits

    def distribution(self, options, tokens: Tensor, real: Tensor, among: Tensor, heads: int) -> Distribution:
        """The distributions [b, heads, K] that follow from `forward`, after the warp of `options`."""
        warp = (options.temperature, options.top_p, options.top_k)
        if self.small is None or options.temperature and not options.top_k:
            return distribution_of(self.forward(tokens, real, among, heads), *warp)
        distribution = distribution_of(self.forward(tokens, real, among, heads, whole=False), *warp)
        return Distribution(distribution.probs, self.small[distribution.everywhere()])

    def counts(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row of the batch [rows]: calls in which it took part, positions computed for it, and those of them
        at which the language-model head was needed."""
        found = torch.zeros(3, rows, dtype=torch.long)
        for at, real, heads in self.took:
            real = real.cpu()
            found[:, at] += torch.stack([real.any(-1).long(), real.sum(-1), real[:, -heads:].sum(-1)])
        return found[0], found[1], found[2]

    def keep(self, kept: Tensor) -> None:
        """Settle the tentative slots: of the last n, kept [b, n] are those that the rows go on with."""
        before = self.tentative[:, : self.tentative.shape[1] - kept.shape[1]]
        self.valid = torch.cat([self.valid, before, kept], 1)
        self.tentative = kept[:, :0]
        longest = int(self.length.max())
        if self.valid.shape[1] - longest >= SLACK:
            self._gather(self.valid.sort(dim=1, stable=True).indices[:, -longest:])  # unseen slots come first

    def select(self, rows: Tensor) -> None:
        """Go on with some of the rows: bool [b]."""
        self.cache.batch_select_indices(rows.nonzero().squeeze(-1))
        self.valid, self.tentative, self.rows = self.valid[rows], self.tentative[rows], self.rows[rows.cpu()]

    def _gather(self, slots: Tensor) -> None:
        for layer in self.cache.layers:
            heads, width = layer.keys.shape[1], layer.keys.shape[3]
            index = slots[:, None, :, None].expand(-1, heads, -1, width)
            values = slots[:, None, :, None].expand(-1, heads, -1, layer.values.shape[3])
            layer.keys, layer.values = layer.keys.gather(2, index), layer.values.gather(2, values)
        self.valid = self.valid.gather(1, slots)
