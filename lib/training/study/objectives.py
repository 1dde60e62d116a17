"""The three losses: next token, distillation, masked diffusion. Each returns a mean over response positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.decoding.bidirectional import bidirectional_mask, position_ids
from lib.training.study.data import Batch


def _causal_logits(model, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits at the positions before each response token, [N, V], and those tokens, [N]."""
    output = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=position_ids(batch.attention_mask),
        use_cache=False,
        output_hidden_states=False,
    )
    predicts = batch.response[:, 1:]
    return output.logits[:, :-1][predicts], batch.input_ids[:, 1:][predicts]


def next_token(model, batch: Batch, **_) -> Tensor:
    """Cross-entropy of the response given the prompt."""
    return F.cross_entropy(*_causal_logits(model, batch))


def distillation(model, batch: Batch, *, teacher, **_) -> Tensor:
    """KL(target || draft) at every response position, teacher-forced on the reference response."""
    with torch.no_grad():
        target = F.log_softmax(_causal_logits(teacher, batch)[0], -1)
    draft = F.log_softmax(_causal_logits(model, batch)[0], -1)
    return F.kl_div(draft, target, log_target=True, reduction="batchmean")


def masked_diffusion(
    model,
    batch: Batch,
    *,
    mask_id: int,
    eot_id: int,
    generator: torch.Generator,
    suffixes: float = 0.0,
    causal: float = 0.0,
    **_,
) -> Tensor:
    """Random-mask objective weighted 1/t (LLaDA eq. 3), in a network that keeps the next-token shift (Dream).

    Each row draws t ~ U(0.02, 1) and masks every canvas position, EoT padding included, with probability t.
    The lower end bounds the weight. Times are stratified over the batch for a steadier gradient. In a share
    `suffixes` of these rows the last t of the canvas is masked instead, with the same weight: a chain of equations is
    solved from its front, and random masks alone seldom show that state.
    A share `causal` of the rows, below 1, goes to the next-token loss instead, under a causal mask and up to the
    first EoT; the two losses are added. A mask pattern leaves few tokens of a chain to be computed from what is
    there, the next-token loss leaves them all: without it a small model forgets the arithmetic of its start.
    """
    if aside := int(causal * len(batch.input_ids)):
        order = torch.randperm(len(batch.input_ids), generator=generator)
        loss = next_token(model, _until_eot(_rows(batch, order[:aside]), eot_id))
        batch = _rows(batch, order[aside:])
    else:
        loss = 0.0
    rows, device = batch.input_ids.shape[0], batch.input_ids.device
    t = (torch.arange(rows) + torch.rand(rows, generator=generator)) / rows
    t = 0.02 + 0.98 * t[torch.randperm(rows, generator=generator)]
    masked = (torch.rand(batch.input_ids.shape, generator=generator) < t[:, None]).to(device)
    if suffixes:
        left = batch.response.flip(-1).cumsum(-1).flip(-1)  # canvas positions from here to the end
        behind = left <= (t.to(device) * batch.response.sum(-1)).ceil()[:, None]
        rows_behind = torch.rand(rows, generator=generator).to(device) < suffixes
        masked = torch.where(rows_behind[:, None], behind, masked)
    masked = masked & batch.response
    weight = (1 / t.to(device))[:, None].expand(batch.input_ids.shape)[masked]
    logits = model(
        input_ids=batch.input_ids.masked_fill(masked, mask_id),
        attention_mask=bidirectional_mask(batch.attention_mask),
        position_ids=position_ids(batch.attention_mask),
        use_cache=False,
    ).logits[:, :-1][masked[:, 1:]]
    losses = F.cross_entropy(logits, batch.input_ids[masked], reduction="none")
    return loss + (losses * weight).sum() / batch.response.sum()


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(*(tensor[rows.to(tensor.device)] for tensor in vars(batch).values()))


def _until_eot(batch: Batch, eot_id: int) -> Batch:
    """The batch without what follows each row's first EoT."""
    ends = batch.response & (batch.input_ids == eot_id)
    response = batch.response & (ends.cumsum(-1) - ends.long() == 0)
    width = int(response.any(0).nonzero().max()) + 1
    return Batch(batch.input_ids[:, :width], batch.attention_mask[:, :width], response[:, :width])


OBJECTIVES = {"next_token": next_token, "distillation": distillation, "masked_diffusion": masked_diffusion}
