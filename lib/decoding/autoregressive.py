"""Autoregressive decoding, greedy or sampled, batched with a KV cache: the reference beside every method."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from lib.decoding.bidirectional import position_ids
from lib.decoding.distributions import categorical, warp
from lib.decoding.family import Family
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded, Trace


@dataclass(frozen=True)
class Autoregressive(Options):
    """max_new_tokens: length limit. temperature 0 is greedy. top_p and top_k filter after the temperature."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    use_cache: bool = True

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("temperature", self.temperature >= 0, "0 or more")
        self.require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self.require("top_k", self.top_k >= 0, "0 (off) or more")


def sample_step(logits: Tensor, options: Autoregressive, uniform: Tensor) -> Tensor:
    """The next token of each row: logits [B, V], uniform [B] -> [B]."""
    return categorical(warp(logits, options.temperature, options.top_p, options.top_k), uniform)


@decoder("autoregressive", Autoregressive)
def decode(model, input_ids: Tensor, options: Autoregressive, **given) -> Decoded:
    """Decode prompts [B, P], left-padded, at one setting for all tokens; `given`: the keywords of `loop`."""

    def choose(output, uniform: Tensor, rows: Tensor, step: int) -> tuple[Tensor, dict]:
        return sample_step(output.logits[:, -1], options, uniform), {}

    return loop(model, input_ids, choose, options.max_new_tokens, options.use_cache, **given)


@torch.inference_mode()
def loop(
    model,
    input_ids: Tensor,
    choose: Callable,
    limit: int,
    use_cache: bool = True,
    *,
    generator,
    family: Family,
    attention_mask=None,
    record=False,
) -> Decoded:
    """Token by token up to `limit`. A row that has ended leaves the batch and is charged no more.

    `choose(output, uniform [b], rows [b], step)` is given the model's output for the rows still decoding and
    returns their next tokens [b], with what the trace shall record of the step.
    """
    rows, device = len(input_ids), input_ids.device
    generator = RowGenerator.coerce(generator, rows)
    trace = Trace.start(rows, record)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    ends = torch.tensor(family.eot_ids, device=device)
    responses = torch.full((rows, limit), family.eot_ids[0], device=device)
    active = torch.arange(rows, device=device)  # rows still decoding; all tensors below hold these rows only
    ids, fed = input_ids, 0
    cache = DynamicCache(config=model.config) if use_cache else None
    for step in range(limit):
        in_trace = torch.isin(torch.arange(rows, device=device), active)
        computed = torch.zeros(rows, dtype=torch.long)
        computed[active.cpu()] = mask[:, fed:].sum(-1).cpu()
        trace.forward(in_trace, computed, in_trace.long())
        output = model(
            input_ids=ids[:, fed:],
            attention_mask=mask,
            position_ids=position_ids(mask)[:, fed:],
            past_key_values=cache,
            use_cache=use_cache,
            logits_to_keep=1,
        )
        uniform = generator.select(active).uniform(step, 0, 1, device)[:, 0]
        tokens, event = choose(output, uniform, active, step)
        responses[active, step] = tokens
        if trace.events is not None:
            shown = {"stage": "next", "step": step, "rows": active, "tokens": tokens, **event}
            trace.events.append({k: v.cpu() if isinstance(v, Tensor) else v for k, v in shown.items()})
        going = ~torch.isin(tokens, ends)
        if use_cache:
            fed = ids.shape[1]
        ids = torch.cat([ids, tokens[:, None]], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        if not going.all():
            active, ids, mask = active[going], ids[going], mask[going]
            if not len(active):
                break
            if cache is not None:
                cache.batch_select_indices(going.nonzero().squeeze(-1))
    return Decoded.close(responses, family.eot_ids, trace)
