"""Decoding with AutoDeco's heads, and the controls that tell token-level choice from a better constant."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.autodeco.attach import distribution
from lib.decoding.autoregressive import loop
from lib.decoding.distributions import categorical, warp
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded

SHUFFLE = 1  # random stream of the permutation; the tokens' is 0


@dataclass(frozen=True)
class AutoDeco(Options):
    """temperature and top_p multiply the predicted ones (temperature 0 is greedy), as in the authors' server.

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
    generator = RowGenerator.coerce(generator, len(input_ids))
    limit, cache = options.max_new_tokens, options.use_cache

    def response(settings: Callable, record: bool) -> Decoded:
        """Decode by `settings(output, rows, step)` -> temperature [b], top_p [b], probs [b, V]; measure the means."""
        sums, counts = torch.zeros(len(input_ids), 2, dtype=torch.float64), torch.zeros(len(input_ids))

        def choose(output, uniform: Tensor, rows: Tensor, step: int):
            temperature, top_p, probs = settings(output, rows, step)
            sums[rows.cpu()] += torch.stack([temperature, top_p], -1).double().cpu()
            counts[rows.cpu()] += 1
            return categorical(probs, uniform), {"temperature": temperature, "top_p": top_p}

        out = loop(model, input_ids, choose, limit, cache, generator=generator, record=record, **given)
        means = (sums / counts[:, None]).round(decimals=4).unbind(-1)
        out.trace.measures = {"temperature": means[0], "top_p": means[1], "drawn": counts.long()}
        return out

    first = response(lambda output, rows, step: predicted(output, options), record or options.shuffled)
    if not options.shuffled:
        return first
    dealt = deal(first, generator, limit).to(input_ids.device)

    def shuffled(output, rows: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        temperature, top_p = dealt[rows, step].unbind(-1)
        return temperature, top_p, warp(output.logits[:, -1], temperature, top_p)

    second = response(shuffled, record)
    for counter in ("target_forwards", "positions", "head_positions", "batch_forwards"):
        setattr(second.trace, counter, getattr(first.trace, counter) + getattr(second.trace, counter))
    return second


def predicted(output, options: AutoDeco) -> tuple[Tensor, Tensor, Tensor]:
    """Temperature [B], top-p [B] and the distribution [B, V] that the last position's token is drawn from."""
    temperature, top_p = output.temperature * options.temperature, output.top_p * options.top_p
    probs = distribution(output, options.temperature, options.top_p)
    return temperature[:, -1], top_p[:, -1], probs[:, -1]


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
