"""Decoding with AutoDeco's heads, and the controls that tell token-level choice from a better constant."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.autodeco.heads import Heads
from lib.autodeco.heads import settings as settings_of
from lib.decoding.autoregressive import Next, loop
from lib.decoding.distributions import categorical, draw_nucleus, greedy, warp
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded
from lib.errors import UserError

SHUFFLE = 1  # random stream of the permutation; the tokens' is 0


@dataclass(frozen=True)
class AutoDeco(Options):
    """temperature, top_p: multiply the predicted ones (temperature 0 is greedy), as in the authors' server.

    max_new_tokens: length limit. use_cache: False reads the whole text again for each token.
    shuffled: a control. The predictions of a first response are dealt out over the positions of a second one in
    random order: the same settings, but not where the heads wanted them. Its trace counts both responses.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    shuffled: bool = False
    use_cache: bool = True

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")


@decoder("autodeco", AutoDeco)
def decode(model, input_ids: Tensor, options: AutoDeco, *, generator, record=False, **given) -> Decoded:
    """Decode prompts [B, P] with an AutoDecoForCausalLM; recorded events hold T and P of every token.

    `given`: the other keywords of `lib.decoding.autoregressive.loop`.
    """
    if not isinstance(getattr(model, "heads", None), Heads):
        raise UserError("AutoDeco needs a model with heads: AutoDecoForCausalLM.from_base(model, heads)")
    generator = RowGenerator.coerce(generator, len(input_ids))
    limit, cache = options.max_new_tokens, options.use_cache

    def response(settings: Callable[[Next], tuple], record: bool) -> Decoded:
        """Decode by `settings(next)` -> temperature [b], top_p [b], tokens [b]; measure the means."""
        sums = torch.zeros(2, len(input_ids), limit, device=input_ids.device)

        def choose(at: Next) -> tuple[Tensor, dict]:
            temperature, top_p, tokens = settings(at)
            sums[:, at.rows, at.step] = torch.stack([temperature, top_p])
            return tokens, {"temperature": temperature, "top_p": top_p}

        out = loop(model, input_ids, choose, limit, cache, generator=generator, record=record, **given)
        drawn = out.trace.target_forwards  # a forward a token
        mean = _means(sums.cpu().double(), drawn)
        out.trace.measures = {"temperature": mean[0], "top_p": mean[1], "drawn": drawn}
        return out

    first = response(lambda at: predicted(model.heads, at, options), options.shuffled or record)
    if not options.shuffled:
        return first
    dealt = deal(first, generator, limit).to(input_ids.device)

    def shuffled(at: Next) -> tuple[Tensor, Tensor, Tensor]:
        temperature, top_p = dealt[at.rows, at.step].unbind(-1)
        return temperature, top_p, categorical(warp(at.logits, temperature, top_p), at.uniform)

    second = response(shuffled, record)
    for counter in ("target_forwards", "positions", "head_positions", "batch_forwards"):
        setattr(second.trace, counter, getattr(first.trace, counter) + getattr(second.trace, counter))
    return second


def _means(settings: Tensor, drawn: Tensor) -> Tensor:
    """Means [2, B] over the first `drawn` [B] tokens of settings [2, B, limit]."""
    there = torch.arange(settings.shape[-1]) < drawn[:, None]
    return ((settings * there).sum(-1) / drawn).round(decimals=4)


def predicted(heads: Heads, at: Next, options: AutoDeco) -> tuple[Tensor, Tensor, Tensor]:
    """Temperature [b], top-p [b] and the tokens [b] drawn by them."""
    temperature, top_p, probs = settings_of(heads, at.hidden, at.logits, options.temperature, options.top_p)
    if not options.temperature:
        return temperature, top_p, greedy(at.logits)
    return temperature, top_p, draw_nucleus(probs, top_p[:, None], at.uniform)


def deal(first: Decoded, generator: RowGenerator, limit: int) -> Tensor:
    """[B, limit, 2]: each row's own settings in random order, dealt again where they run out."""
    out = torch.empty(len(first.responses), limit, 2)
    taken = [(event["rows"], torch.stack([event["temperature"], event["top_p"]], -1)) for event in first.trace.events]
    for row in range(len(first.responses)):
        settings = torch.cat([pairs[rows == row] for rows, pairs in taken])  # [its tokens, 2]
        here = generator.select(torch.tensor([row]))
        rounds = -(-limit // len(settings))
        order = torch.cat([here.uniform(k, SHUFFLE, len(settings))[0].argsort() for k in range(rounds)])
        out[row] = settings[order[:limit]]
    return out
