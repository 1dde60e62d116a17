"""The two heads of AutoDeco (arXiv 2510.26697, section 2): temperature and top-p from a hidden state."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.decoding.distributions import COLDEST, tempered
from lib.decoding.options import Options
from lib.errors import UserError

STATISTICS = 4
BLOCK = 128  # entries that `largest` compares at once
HEADS = ("temperature", "top_p")


@dataclass(frozen=True)
class HeadsConfig(Options):
    """Shape of the heads; the defaults are those of the released code.

    hidden_size: width of the base's hidden state. width: of the layer between. hottest: temperatures lie in
    (0, hottest). statistics: the top-p head also sees four numbers of the scaled distribution (not in the
    paper). detach: no gradient flows from the top-p head into the predicted temperature. heads: those that are
    used; without one its setting is 1 everywhere.
    """

    hidden_size: int
    width: int = 256
    hottest: float = 2.0
    statistics: bool = True
    detach: bool = True
    heads: tuple[str, ...] = HEADS

    def check(self) -> None:
        self.require("hidden_size", self.hidden_size >= 1, "1 or more")
        self.require("width", self.width >= 1, "1 or more")
        self.require("hottest", self.hottest > 0, "above 0")
        self.require(
            "heads", bool(self.heads) and set(self.heads) <= set(HEADS), f"one or both of {', '.join(HEADS)}"
        )


def statistics(scaled: Tensor, probs: Tensor) -> Tensor:
    """Largest probability, entropy in nats, variance over the vocabulary, mass of the five likeliest.

    Of probs = softmax(scaled), both [..., V] and finite -> [..., 4]. The released code's numbers, without a pass
    over the vocabulary for each of them: that is most of what heads can cost.
    """
    size, top = probs.shape[-1], largest(probs, 5)
    # -sum p log p = log Z - sum p z, and log Z follows from the likeliest token: its p is exp(z) / Z.
    entropy = scaled.amax(-1) - top[..., 0].log() - torch.linalg.vecdot(probs, scaled)
    variance = (torch.linalg.vecdot(probs, probs) - 1 / size) / (size - 1)
    return torch.stack([top[..., 0], entropy, variance, top.sum(-1)], -1)


def largest(values: Tensor, k: int) -> Tensor:
    """The k largest of values [..., V] in descending order [..., k]; fewer where V is less.

    The k blocks with the largest maxima hold them, so only those are searched: a fifth of topk's time.
    """
    whole = values.shape[-1] // BLOCK * BLOCK
    if whole < 2 * k * BLOCK:
        return values.topk(min(k, values.shape[-1]), -1).values
    blocks, rest = values[..., :whole].unflatten(-1, (-1, BLOCK)), values[..., whole:]
    chosen = blocks.amax(-1).topk(k, -1).indices
    found = blocks.gather(-2, chosen[..., None].expand(*chosen.shape, BLOCK)).flatten(-2)
    return torch.cat([found, rest], -1).topk(k, -1).values


class Heads(nn.Module):
    """T-hat = hottest * sigmoid(MLP(h)); P-hat = sigmoid(MLP(h, T-hat, statistics)), equation 4."""

    def __init__(self, config: HeadsConfig):
        super().__init__()
        self.config = config
        self.temp_head = _mlp(config.hidden_size, config.width)
        self.top_p_head = _mlp(config.hidden_size + 1 + STATISTICS * config.statistics, config.width)

    @classmethod
    def saying(cls, config: HeadsConfig, temperature: float = 1.0, top_p: float = 1.0) -> "Heads":
        """Heads that say the same everywhere; by default T = 1 and P = 1, which leaves the base as it is."""
        heads = cls(config)
        with torch.no_grad():
            for head, share in ((heads.temp_head, temperature / config.hottest), (heads.top_p_head, top_p)):
                head.mlp[-1].weight.zero_()
                # The sigmoid of 40 is 1 in float32, and that of 0 exactly one half.
                head.mlp[-1].bias.fill_(40.0 if share >= 1 else torch.logit(torch.tensor(share)).item())
        return heads

    def temperature(self, hidden: Tensor) -> Tensor:
        """hidden [..., H] -> T-hat [...] in float32."""
        if "temperature" not in self.config.heads:
            return hidden.new_ones(hidden.shape[:-1], dtype=torch.float32)
        return self.config.hottest * torch.sigmoid(self.temp_head(hidden).squeeze(-1).float())

    def top_p(self, hidden: Tensor, temperature: Tensor, scaled: Tensor, probs: Tensor) -> Tensor:
        """hidden [..., H], T-hat [...], logits / T-hat and their softmax [..., V] -> P-hat [...] in float32."""
        if "top_p" not in self.config.heads:
            return torch.ones_like(temperature)
        parts = [hidden, temperature[..., None].to(hidden.dtype)]
        if self.config.statistics:
            parts.append(statistics(scaled, probs).to(hidden.dtype))
        return torch.sigmoid(self.top_p_head(torch.cat(parts, -1)).squeeze(-1).float())

    def forward(self, hidden: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """T-hat [...], P-hat [...] and softmax(logits / T-hat) [..., V] for hidden [..., H] and logits [..., V].

        T-hat below COLDEST, as where the sigmoid rounds to 0, divides as COLDEST does. Raises UserError for NaN.
        """
        temperature = self.temperature(hidden)
        seen = temperature.detach() if self.config.detach else temperature
        scaled = logits.float() / seen.clamp(min=COLDEST)[..., None]
        scaled = scaled.clamp_(min=torch.finfo(torch.float32).min)  # -inf times a probability of 0 would be NaN
        probs = torch.softmax(scaled, -1)
        top_p = self.top_p(hidden, seen, scaled, probs)
        if torch.isnan(temperature + top_p + probs[..., 0]).any():  # the softmax of a row with one NaN is all NaN
            raise UserError("the model or its heads gave NaN: load them in float32, or check the weights")
        return temperature, top_p, probs

    def settings(
        self, hidden: Tensor, logits: Tensor, temperature: float = 1.0, top_p: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` under a user's settings; see `settings` of this module."""
        return settings(self, hidden, logits, temperature, top_p)


def settings(
    heads, hidden: Tensor, logits: Tensor, temperature: float, top_p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What heads say under a user's temperature and top_p, which multiply the predicted ones: T [...], P [...] and
    softmax(logits / T) [..., V], the nucleus at P not yet cut. A temperature of 0 is greedy: the caller's to do.
    """
    said, share, probs = heads(hidden, logits)
    said, share = said * temperature, share * top_p
    if temperature not in (0, 1):  # the heads have scaled by their own
        probs = tempered(logits, said)
    return said, share, probs


def _mlp(inputs: int, width: int) -> nn.Sequential:
    """Two layers, under the authors' key `mlp`."""
    layers = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 1))
    return nn.Sequential(OrderedDict(mlp=layers))
