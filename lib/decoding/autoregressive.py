"""Autoregressive decoding, greedy or sampled, batched with a cache: the reference beside every method."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decoding.distributions import check_nan, draw
from lib.decoding.family import Family
from lib.decoding.listening import Listener
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.registry import decoder
from lib.decoding.session import Session
from lib.decoding.trace import Decoded, Trace

LOOK = 16  # steps between two looks at an accelerator for rows that have ended


@dataclass(frozen=True)
class Autoregressive(Options):
    """max_new_tokens: length limit. temperature: 0 is greedy. top_p, top_k: filter after the temperature.

    use_cache: False reads the whole text again for each token.
    """

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


@dataclass(frozen=True)
class Next:
    """What a token is chosen from: logits [b, V] and hidden [b, H] behind the text, uniform [b] (None where nothing
    is drawn), the rows [b] of the batch that are still decoding, and the step."""

    logits: Tensor
    hidden: Tensor | None
    uniform: Tensor | None
    rows: Tensor
    step: int


def sample_step(logits: Tensor, options: Autoregressive, uniform: Tensor | None) -> Tensor:
    """The next token of each row: logits [b, V], uniform [b] -> [b]."""
    return draw(logits, uniform, options.temperature, options.top_p, options.top_k)


@decoder("autoregressive", Autoregressive)
def decode(model, input_ids: Tensor, options: Autoregressive, **given) -> Decoded:
    """Decode prompts [B, P], left-padded, at one setting for all tokens; `given`: the keywords of `loop`."""

    def choose(at: Next) -> tuple[Tensor, dict]:
        return sample_step(at.logits, options, at.uniform), {}

    given["draws"] = bool(options.temperature)
    return loop(model, input_ids, choose, options.max_new_tokens, options.use_cache, **given)


@torch.inference_mode()
def loop(
    model,
    input_ids: Tensor,
    choose: Callable[[Next], tuple[Tensor, dict]],
    limit: int,
    use_cache: bool = True,
    *,
    generator,
    family: Family,
    attention_mask=None,
    record=False,
    draws=True,
) -> Decoded:
    """Token by token up to `limit`. A row that has ended leaves the batch and is charged no more.

    `choose` is given what there is to choose from for the rows still decoding, and returns their next tokens [b] with
    what the trace shall record of the step, [b] by name. `draws`: whether it wants random numbers.
    """
    rows, device = len(input_ids), input_ids.device
    generator = RowGenerator.coerce(generator, rows)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    ends = torch.tensor(family.eot_ids, device=device)
    responses = torch.full((rows, limit), family.eot_ids[0], device=device)
    trace = Trace.start(rows, record)
    forwards = 0
    session = Session(model, rows, input_ids.shape[1] + limit, rollback=False)
    active = torch.arange(rows, device=device)  # rows still decoding; all tensors below hold these rows only
    going = torch.ones(rows, dtype=torch.bool, device=device)
    left = active.new_full((rows,), limit)  # tokens that each row of the batch has made
    every = look_every(device, trace.listener)
    uniforms = generator.uniforms(0, limit, 0, device) if draws else None
    logits = session.prefill(input_ids, mask)
    for step in range(limit):
        uniform = None if uniforms is None else uniforms[active, step]
        hidden = None if session.hidden is None else session.hidden[:, -1]
        tokens, event = choose(Next(logits[:, -1], hidden, uniform, active, step))
        responses[active, step] = tokens
        if trace.events is not None:
            shown = {"stage": "next", "step": step, "rows": active, "tokens": tokens, **event}
            trace.events.append({k: v[going].cpu() if isinstance(v, Tensor) else v for k, v in shown.items()})
        if trace.per_token is not None:
            for name, value in event.items():
                table = trace.per_token.setdefault(name, torch.full((rows, limit), torch.nan, device=device))
                table[active, step] = value.float()
        ended = torch.isin(tokens, ends) & going
        if trace.listener is not None:
            ended = ended | trace.listener.heard(active, tokens[:, None], going[:, None])[1]
        left[active] = torch.where(ended, step + 1, left[active])
        going = going & ~ended
        if step + 1 == limit:
            break
        if (step + 1) % every == 0 and not bool(going.all()):
            if not bool(going.any()):
                break
            stay = session.staying(going)
            if not bool(stay.all()):
                active, tokens, going = active[stay], tokens[stay], going[stay]
                session.select(stay)
        if use_cache:
            logits = session.step(tokens)
        else:
            forwards += len(session.took)
            session = Session(model, len(active), input_ids.shape[1] + limit, rollback=False)
            text = torch.cat([input_ids[active], responses[active, : step + 1]], 1)
            logits = session.prefill(text, torch.cat([mask[active], mask.new_ones(len(active), step + 1)], 1))
    check_nan()
    forwards += len(session.took)
    _charge(trace, left.cpu(), mask.sum(-1).cpu(), use_cache)
    trace.batch_forwards = forwards
    behind = torch.arange(limit, device=device) >= left[:, None]
    if trace.per_token is not None:
        trace.per_token = {k: v.masked_fill(behind, torch.nan).cpu() for k, v in trace.per_token.items()}
    return Decoded.close(responses.masked_fill(behind, family.eot_ids[0]), family.eot_ids, trace)


def look_every(device: torch.device, listener: Listener | None) -> int:
    """Steps between two looks for rows that have ended: none is saved where every step is read on the host anyway."""
    return 1 if device.type == "cpu" or listener is not None and listener.looks else LOOK


def _charge(trace: Trace, made: Tensor, prompt: Tensor, use_cache: bool) -> None:
    """The counters of rows that made so many tokens [B], one a forward, behind prompts of so many [B]."""
    trace.target_forwards = trace.head_positions = made
    if use_cache:
        trace.positions = prompt + made - 1
    else:
        trace.positions = prompt * made + made * (made - 1) // 2
