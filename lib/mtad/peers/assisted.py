"""What users have: `transformers`' own assisted generation with the same pair, and its beam search."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from lib.decoding.distributions import COLDEST, check_nan, refuse_nan
from lib.decoding.family import Family
from lib.decoding.listening import Listener, require_no_stops
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.decoding.registry import decoder
from lib.decoding.trace import Decoded, Trace
from lib.errors import UserError
from lib.mtad.loop import Drafting, require_pair


@dataclass(frozen=True)
class Assisted(Drafting):
    """`generate(assistant_model=...)`, a row at a time, for it takes no batch.

    confidence: the draft stops when it is less sure of its token; 0 is off, and gamma 20 with 0.4 are the defaults
    there. ensemble: the weight w of its lossy rule, accept with min(1, 1 - w + w p/q); 1 is off, lossless.
    """

    confidence: float = 0.0
    ensemble: float = 1.0

    def check(self) -> None:
        super().check()
        self.require("confidence", 0 <= self.confidence < 1, "in [0, 1)")
        self.require("ensemble", 0 < self.ensemble <= 1, "in (0, 1]")
        self.require("heads", not self.heads, "False, for transformers' assisted generation knows none")


@dataclass(frozen=True)
class BeamSearch(Options):
    """`generate(num_beams=width)` on the target, a row at a time: the likeliest text, not the likeliest token.

    By the sum of log-probabilities, temperature 1, without top-k and top-p.
    """

    max_new_tokens: int = 64
    width: int = 4

    def check(self) -> None:
        self.require("max_new_tokens", self.max_new_tokens >= 1, "1 or more")
        self.require("width", self.width >= 1, "1 or more")


@decoder("assisted", Assisted, drafts=True)
def decode(
    model,
    input_ids: Tensor,
    options: Assisted,
    *,
    draft=None,
    generator,
    family: Family,
    attention_mask=None,
    record=False,
) -> Decoded:
    """Decode prompts [B, P]. Raises UserError where `transformers` has no ensemble weight, or events are asked."""
    require_pair(model, draft)
    sampling = {"do_sample": False}
    if options.temperature:
        sampling = {"do_sample": True, "temperature": max(options.temperature, COLDEST), "top_p": options.top_p}
        sampling["top_k"] = options.top_k
    if options.ensemble < 1:
        if not hasattr(model.generation_config, "assistant_ensemble_weight"):
            raise UserError("this transformers has no assistant_ensemble_weight: set ensemble to 1, or upgrade it")
        sampling["assistant_ensemble_weight"] = options.ensemble
    own = draft.generation_config
    try:
        return _rows(
            model, input_ids, attention_mask, options.max_new_tokens, generator, family, record, draft,
            lambda: {"assistant_model": _assistant(draft, own, options), **sampling},
        )  # fmt: skip
    finally:
        draft.generation_config = own


@decoder("beam", BeamSearch)
def decode_beams(
    model, input_ids: Tensor, options: BeamSearch, *, generator, family: Family, attention_mask=None, record=False
) -> Decoded:
    """Decode prompts [B, P]."""
    given = {"do_sample": False, "num_beams": options.width, "length_penalty": 0.0}  # by the sum of log P
    return _rows(
        model, input_ids, attention_mask, options.max_new_tokens, generator, family, record, None, lambda: given
    )


def _assistant(draft, own, options: Assisted):
    """The draft with a fresh configuration: `transformers` moves the threshold from call to call."""
    draft.generation_config = deepcopy(own)
    draft.generation_config.num_assistant_tokens = options.gamma
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = options.confidence
    return draft


class RefuseNan(LogitsProcessor):
    """`generate` takes the first token where all logits are NaN and nothing is drawn; here that is a UserError."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        refuse_nan(scores.amax(-1))  # the largest of a row with one NaN is NaN
        return scores


class Told(BaseStreamer):
    """Tells a listener of the tokens that `generate` streams for one row: it puts the prompt first."""

    def __init__(self, listener: Listener, row: int, device: torch.device):
        self.listener, self.row, self.prompt = listener, torch.tensor([row], device=device), True

    def put(self, value: Tensor) -> None:
        if not self.prompt:
            tokens = value.reshape(1, -1).to(self.row.device)
            self.listener.heard(self.row, tokens, torch.ones_like(tokens, dtype=torch.bool))
        self.prompt = False

    def end(self) -> None:
        """The listener sees the end by itself."""


class Count:
    """Calls of a network and the positions they computed, by a hook on it."""

    def __init__(self, network):
        self.calls = self.positions = 0
        self.handle = network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _, args, given) -> None:
        self.calls += 1
        self.positions += (args[0] if args else given["input_ids"]).numel()


def _rows(model, input_ids, mask, limit, generator, family, record, draft, arguments) -> Decoded:
    if record and not isinstance(record, Listener):
        raise UserError("transformers' generate tells nothing of its steps: leave record=True out")
    require_no_stops(record)
    rows = len(input_ids)
    generator = RowGenerator.coerce(generator, rows)
    mask = torch.ones_like(input_ids) if mask is None else mask
    trace = Trace.start(rows)
    if draft is not None:
        trace.draft_forwards, trace.draft_positions = (
            torch.zeros_like(trace.positions),
            torch.zeros_like(trace.positions),
        )
    trace.head_positions = None
    responses = torch.full((rows, limit), family.eot_ids[0], device=input_ids.device)
    for i in range(rows):
        ids = input_ids[i : i + 1, mask[i].bool()]
        told = record and record.looks and draft is not None  # beams are not put before they are done
        counts = [Count(network) for network in (model, draft) if network is not None]
        with torch.random.fork_rng(devices=[ids.device] if ids.device.type == "cuda" else []):
            torch.manual_seed(int(generator.keys[i]))
            try:
                out = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=limit,
                    eos_token_id=list(family.eot_ids),
                    pad_token_id=family.eot_ids[0],
                    logits_processor=LogitsProcessorList([RefuseNan()]),
                    **arguments(),
                    **({"streamer": Told(record, i, ids.device)} if told else {}),
                )
            finally:
                for count in counts:
                    count.handle.remove()
        new = out[0, ids.shape[1] :][:limit]
        responses[i, : len(new)] = new
        trace.target_forwards[i], trace.positions[i] = counts[0].calls, counts[0].positions
        if draft is not None:
            trace.draft_forwards[i], trace.draft_positions[i] = counts[1].calls, counts[1].positions
    check_nan()
    trace.batch_forwards = int(trace.target_forwards.sum())
    return Decoded.close(responses, family.eot_ids, trace)
