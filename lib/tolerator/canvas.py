"""The canvas: what the diffusion decoders share. Prompts stay as they are, only the canvas changes."""

import math

import torch
from torch import Tensor

from lib.decoding.bidirectional import PromptKeys, canvas_logits
from lib.decoding.distributions import check_nan, draw, gather
from lib.decoding.family import Family
from lib.decoding.listening import require_no_stops
from lib.decoding.randomness import RowGenerator
from lib.decoding.trace import Decoded, Trace
from lib.errors import UserError

EOT_FORMS = ("off", "prob_div", "logit_div")
# Streams of randomness within a step (see RowGenerator.uniform).
TOKENS, POSITIONS, TRANSITIONS = 0, 1, 2


class Canvas:
    """Prompt ids [B, P] and a canvas of G positions behind them; counts every forward.

    `tokens` [B, G] starts as all masks, `confidence` [B, G] is the untempered probability that each token had when it
    was drawn. Steps are pure functions of them; the loops assign their results.
    """

    def __init__(
        self,
        model,
        family: Family,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        width: int,
        generator,
        record,
        prompt_cache=False,
        heads=False,
    ):
        if family.mask_id is None:
            raise UserError(f"{family.name} is autoregressive: a diffusion decoder needs a model with a mask token")
        if heads and not hasattr(getattr(model, "heads", None), "settings"):
            raise UserError(
                "heads asks for a mask model with AutoDeco's heads, such as study-dlm-autodeco: give "
                "AutoDecoForCausalLM.from_base(model, heads), or leave it out"
            )
        require_no_stops(record)
        rows = input_ids.shape[0]
        self.model, self.family, self.width = model, family, width
        self.prompt = input_ids
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self.attention_mask = torch.cat([mask, mask.new_ones(rows, width)], 1)
        self.tokens = torch.full((rows, width), family.mask_id, device=input_ids.device)
        self.confidence = torch.zeros(rows, width, dtype=torch.float64, device=input_ids.device)
        self.generator = RowGenerator.coerce(generator, rows)
        self.trace = Trace.start(rows, record)
        if self.trace.per_token is not None:
            self.trace.per_token["step"] = torch.zeros_like(self.tokens)
        self._took: list[tuple[Tensor | None, Tensor, bool]] = []
        self._prompt_keys = PromptKeys(model) if prompt_cache else None
        self.heads, self._hidden = model.heads if heads else None, None

    def masked(self) -> Tensor:
        """[B, G], true where the canvas holds a mask."""
        return self.tokens == self.family.mask_id

    def uniform(self, step: int, stream: int, rows: Tensor | None = None) -> Tensor:
        """[B, G] draws of this step; `rows` selects some of the batch."""
        generator = self.generator if rows is None else self.generator.select(rows)
        return generator.uniform(step, stream, self.width, self.tokens.device)

    @torch.inference_mode()
    def logits(self, tokens: Tensor, needed: Tensor, rows: Tensor | None = None) -> Tensor:
        """One forward over prompt and `tokens`: float32 logits [M, V] at the M positions of `needed` [B, G], by rows.

        The mask token is at minus infinity: differs from the released code, which lets LLaDA draw [MASK] as an
        answer. Confidences are ranked in float32 whatever the model's dtype is: the released code ranks a bfloat16
        model's by softmax in bfloat16, where many tie. `rows` (indices) are those that still take part; only they
        are computed and charged.
        """
        self.count(tokens, needed.sum(-1), rows, bool(self._prompt_keys and self._prompt_keys.layers))
        prompt, mask = (x if rows is None else x[rows] for x in (self.prompt, self.attention_mask))
        ids = torch.cat([prompt, tokens], 1)
        seen: list[Tensor] | None = [] if self.heads else None
        found = canvas_logits(self.model, ids, mask, needed, self.family, self._prompt_keys, rows, seen).float()
        found[:, self.family.mask_id] = -torch.inf
        self._hidden = seen[0] if seen else None
        return found

    @torch.inference_mode()
    def settings(self, logits: Tensor, temperature: float, top_p: float) -> tuple[float | Tensor, float | Tensor]:
        """Temperature and top-p of the draws from the `logits` [M, V] of the last forward: those given, or [M] what
        the heads say times these. Temperature 0 is greedy, whatever the heads say."""
        if self.heads is None or not temperature:
            return temperature, top_p
        said, share, _ = self.heads.settings(self._hidden, logits, temperature, top_p)
        return said, share

    def count(self, tokens: Tensor, heads: Tensor, rows: Tensor | None = None, without_prompt: bool = False) -> None:
        """Count a forward over `tokens` [b, G], with logits at so many positions of each row [b]."""
        self._took.append((rows, heads, without_prompt))
        if self.trace.per_token is not None:
            at, steps = slice(None) if rows is None else rows, self.trace.per_token["step"]
            # Rows that have left do not come back, so that the batch's count of forwards is that of each row.
            steps[at] = steps[at].masked_fill(tokens == self.family.mask_id, len(self._took))

    def record(self, **event) -> None:
        """A step is done: tell the listener, and keep the event if the caller asked for them."""
        if self.trace.listener is not None:
            self.trace.listener.drafted(event.get("rows"), event["tokens"])
        if self.trace.events is not None:
            self.trace.events.append({k: v.cpu().clone() if isinstance(v, Tensor) else v for k, v in event.items()})

    def close(self) -> Decoded:
        check_nan()
        lengths, every = self.attention_mask.sum(-1).cpu(), torch.arange(len(self.prompt))
        for rows, heads, without_prompt in self._took:
            at = every if rows is None else rows.cpu()
            self.trace.target_forwards[at] += 1
            self.trace.positions[at] += self.width + int(self.family.shift) if without_prompt else lengths[at]
            self.trace.head_positions[at] += heads.cpu()
        self.trace.batch_forwards = len(self._took)
        if self.trace.per_token is not None:
            self.trace.per_token["step"] = self.trace.per_token["step"].masked_fill(self.masked(), 0).cpu()
        return Decoded.close(self.tokens, self.family.eot_ids, self.trace)


def draw_at(
    where: Tensor, logits: Tensor, uniform: Tensor, temperature: float, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Draw a token at each of the M positions of `where` [B, G] from their logits [M, V] with uniform [B, G].

    Returns the tokens and the untempered probability of each, [B, G]; both are 0 elsewhere.
    """
    drawn = draw(logits, uniform[where], temperature, top_p)
    sure = gather(torch.softmax(logits, -1), drawn)
    return spread(drawn, where), spread(sure.double(), where)


def spread(values: Tensor, where: Tensor) -> Tensor:
    """Values [M] at the M positions that `where` [B, G] marks, 0 elsewhere."""
    out = values.new_zeros(where.shape)
    out[where] = values
    return out


def top_count(score: Tensor, eligible: Tensor, count: Tensor | int) -> Tensor:
    """[B, G] mask of the `count` ([B] or one number) eligible positions with the highest score.

    Ties go to the earlier position; fewer are chosen where fewer are eligible.
    """
    ranked = torch.argsort(score.masked_fill(~eligible, -torch.inf), dim=-1, descending=True, stable=True)
    places = torch.arange(score.shape[-1], device=score.device).expand_as(ranked)
    rank = torch.empty_like(ranked).scatter_(-1, ranked, places)
    count = torch.as_tensor(count, device=score.device).reshape(-1, 1)
    return (rank < count) & eligible


def penalise_eot(logits: Tensor, eot_id: int, form: str, lambda_: float) -> Tensor:
    """The EoT penalty on logits [..., V], in either published form.

    `prob_div`, the paper's formula: p(EoT) is divided by lambda before normalising, z - log(lambda).
    `logit_div`, the released code and the paper's prose: z / lambda, which *raises* a negative logit.
    """
    if form == "off" or lambda_ == 1:
        return logits
    logits = logits.clone()
    if form == "prob_div":
        logits[..., eot_id] -= math.log(lambda_)
    else:
        logits[..., eot_id] /= lambda_
    return logits
