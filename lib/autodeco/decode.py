"""Decoding with AutoDeco's heads, and the controls that tell token-level choice from a better constant."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.autoregressive import loop
from lib.models.registry import Family
from lib.options import Options
from lib.sampling import RowGenerator, categorical, warp
from lib.trace import Decoded

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


@dataclass(frozen=True)
class EntropyTemperature(Options):
    """Dynamic temperature without training (Zhang et al. 2024, EDT): T = highest * base ** (theta / entropy).

    The entropy of the unscaled distribution is in nats: where it is small the token is all but greedy.
    """

    max_new_tokens: int = 64
    highest: float = 1.0
    base: float = 0.8
    theta: float = 0.1
    use_cache: bool = True

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("highest", self.highest > 0, "above 0")
        self.require("base", 0 < self.base < 1, "in (0, 1)")
        self.require("theta", self.theta >= 0, "0 or more")


def autodeco_step(
    logits: Tensor, temperature: Tensor, top_p: Tensor, options: AutoDeco, uniform: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The next token of each row and the settings it was drawn under: logits [B, V], the rest [B]."""
    temperature, top_p = temperature * options.temperature, top_p * options.top_p
    return categorical(warp(logits, temperature, top_p), uniform), temperature, top_p


def entropy_temperature(logits: Tensor, options: EntropyTemperature) -> Tensor:
    """Temperature [B] of logits [B, V]."""
    log_probs = torch.log_softmax(logits.float(), -1)
    entropy = -(log_probs.exp() * log_probs.nan_to_num(neginf=0)).sum(-1)
    return options.highest * options.base ** (options.theta / entropy.clamp(min=1e-6))


def decode(
    model, input_ids: Tensor, options: AutoDeco, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """Decode prompts [B, P] with an AutoDecoForCausalLM; recorded events hold T and P of every token."""
    generator = RowGenerator.coerce(generator, len(input_ids))
    given = {"generator": generator, "family": family, "attention_mask": attention_mask}
    plain = _Plain(model)

    def choose(output, uniform: Tensor, rows: Tensor, step: int):
        tokens, temperature, top_p = autodeco_step(
            output.logits[:, -1], output.temperature[:, -1], output.top_p[:, -1], options, uniform
        )
        return tokens, {"temperature": temperature, "top_p": top_p}

    first = loop(
        plain,
        input_ids,
        choose,
        options.max_new_tokens,
        options.use_cache,
        **given,
        record=record or options.shuffled,
    )
    if not options.shuffled:
        return first
    dealt = deal(first, generator, options.max_new_tokens).to(input_ids.device)

    def choose_shuffled(output, uniform: Tensor, rows: Tensor, step: int):
        temperature, top_p = dealt[rows, step].unbind(-1)
        probs = warp(output.logits[:, -1], temperature, top_p)
        return categorical(probs, uniform), {"temperature": temperature, "top_p": top_p}

    second = loop(
        plain, input_ids, choose_shuffled, options.max_new_tokens, options.use_cache, **given, record=record
    )
    for counter in ("target_forwards", "positions", "head_positions", "batch_forwards"):
        setattr(second.trace, counter, getattr(first.trace, counter) + getattr(second.trace, counter))
    return second


def deal(first: Decoded, generator: RowGenerator, limit: int) -> Tensor:
    """[B, limit, 2]: each row's own settings in random order, dealt again where they run out."""
    out = torch.empty(len(first.responses), limit, 2)
    events = first.trace.events
    for row in range(len(first.responses)):
        settings = torch.stack(
            [
                torch.stack([event["temperature"], event["top_p"]], -1)[event["rows"] == row][0]
                for event in events
                if (event["rows"] == row).any()
            ]
        )
        here = generator.select(torch.tensor([row]))
        rounds = -(-limit // len(settings))
        order = torch.cat([here.uniform(k, SHUFFLE, len(settings))[0].argsort() for k in range(rounds)])
        out[row] = settings[order[:limit]]
    return out


def decode_entropy(
    model, input_ids: Tensor, options: EntropyTemperature, *, generator, family, attention_mask=None, record=False
) -> Decoded:
    """Decode prompts [B, P] of any causal model by the entropy rule."""

    def choose(output, uniform: Tensor, rows: Tensor, step: int):
        logits = output.logits[:, -1]
        temperature = entropy_temperature(logits, options)
        return categorical(warp(logits, temperature), uniform), {"temperature": temperature}

    return loop(
        model,
        input_ids,
        choose,
        options.max_new_tokens,
        options.use_cache,
        generator=generator,
        family=family,
        attention_mask=attention_mask,
        record=record,
    )


class _Plain:
    """An AutoDeco model called for its base logits, which the step here scales itself."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def __call__(self, **inputs):
        return self.model(**inputs, with_heads=False)
