"""The three losses: next token, distillation, masked diffusion. Each returns a mean over response positions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.training.study.data import Batch

# Strata of the times: multiples of it modulo 1 are spread evenly, however many there are.
GOLDEN = 0.6180339887498949
SHORTEST = 0.02


def logits_of(model, input_ids: Tensor, seen: Tensor, position: Tensor) -> Tensor:
    """Logits [R, W - 1, V] of the tokens at positions 1, 2, ... of each row; `seen`: [R, W, W], who sees whom."""
    output = model(input_ids=input_ids, attention_mask=seen[:, None], position_ids=position, use_cache=False)
    return output.logits[:, :-1].float()


def token_losses(model, input_ids: Tensor, seen: Tensor, position: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy [R, W - 1] of the tokens `targets` [R, W] from position 1 on."""
    logits = logits_of(model, input_ids, seen, position)
    return F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), reduction="none").view(logits.shape[:2])


def _together(batch: Batch) -> Tensor:
    """[R, W, W] pairs of positions of one sequence; padding sees padding, so that no row is empty."""
    return batch.document[:, :, None] == batch.document[:, None, :]


def _causal(batch: Batch) -> Tensor:
    return _together(batch).tril()


def next_token(model, batch: Batch, *, losses: Callable = token_losses, **_) -> Tensor:
    """Cross-entropy of the response given the prompt."""
    wanted = batch.response[:, 1:]
    each = losses(model, batch.input_ids, _causal(batch), batch.position, batch.input_ids)
    return (each * wanted).sum() / wanted.sum()


def distillation(model, batch: Batch, *, teacher, **_) -> Tensor:
    """KL(target || draft) at every response position, teacher-forced on the reference response."""
    given, wanted = (batch.input_ids, _causal(batch), batch.position), batch.response[:, 1:]
    with torch.no_grad():
        target = F.log_softmax(logits_of(teacher, *given)[wanted], -1)
    draft = F.log_softmax(logits_of(model, *given)[wanted], -1)
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
    corrected: float = 0.0,
    losses: Callable = token_losses,
    **_,
) -> Tensor:
    """Random-mask objective weighted 1/t (LLaDA eq. 3), in a network that keeps the next-token shift (Dream).

    Each sequence draws t ~ U(0.02, 1) and masks every canvas position, EoT padding included, with probability t.
    The lower end bounds the weight. Times are spread evenly over the batch for a steadier gradient. In a share
    `suffixes` of the sequences the last t of the canvas is masked instead, with the same weight: a chain of equations
    is solved from its front, and random masks alone seldom show that state.
    A share `causal` of the rows, below 1, goes to the next-token loss instead, under a causal mask and up to the
    first EoT; the two losses are added. A mask pattern leaves few tokens of a chain to be computed from what is
    there, the next-token loss leaves them all: without it a small model forgets the arithmetic of its start.
    In a share `corrected` of the other rows half of the masked positions are filled before the loss by draws of the
    network itself, all at once as a decoder fills them, and the loss counts the visible positions too, with weight 1:
    the network learns to mend what it wrote and to keep what is right (the idea of ProSeCo, arXiv 2602.11590).
    """
    rows, width = batch.input_ids.shape
    device = batch.input_ids.device

    def uniform() -> Tensor:
        return torch.rand(rows, width, generator=generator).to(device)

    aside, last = int(causal * rows), torch.zeros(rows, width, dtype=torch.long, device=device)
    last[1:] = batch.document.amax(-1).cumsum(0)[:-1, None]
    number = last + batch.document  # of the sequence in the batch
    t = SHORTEST + (1 - SHORTEST) * ((number * GOLDEN + torch.rand((), generator=generator).to(device)) % 1)
    behind = batch.left <= (t * batch.length).ceil()
    by_suffix = uniform().gather(1, batch.document) < suffixes
    masked = torch.where(by_suffix, behind, uniform() < t) & batch.response
    masked[:aside] = False
    seen = _together(batch)
    seen[:aside] = seen[:aside].tril()
    noisy = batch.input_ids.masked_fill(masked, mask_id)
    weight = masked / t
    if mended := int(corrected * (rows - aside)):
        part = slice(rows - mended, rows)
        drawn = _draws(model, noisy[part], seen[part], batch.position[part], generator)
        filled = masked[part] & (uniform()[part] < 0.5)
        noisy[part] = torch.where(filled, drawn, noisy[part])
        weight[part] += batch.response[part] & ~masked[part]
    each = losses(model, noisy, seen, batch.position, batch.input_ids)
    share = torch.where(batch.response, weight, 0.0)[aside:, 1:] / batch.response[aside:].sum().clamp(min=1)
    loss = (each[aside:] * share).sum()
    if aside:
        ended = (batch.input_ids[:aside, :-1] == eot_id) & batch.response[:aside, :-1]
        wanted = batch.response[:aside, 1:] & ~(ended & (batch.left[:aside, :-1] == batch.left[:aside, 1:] + 1))
        loss = loss + (each[:aside] * wanted).sum() / wanted.sum().clamp(min=1)
    return loss


@torch.no_grad()
def _draws(model, input_ids: Tensor, seen: Tensor, position: Tensor, generator: torch.Generator) -> Tensor:
    """Tokens [R, W] drawn from the network's law at each position, independently (Gumbel's way)."""
    logits = logits_of(model, input_ids, seen, position)
    own = torch.Generator(logits.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    noise = torch.empty_like(logits).exponential_(generator=own)
    return F.pad((logits - noise.log()).argmax(-1), (1, 0))


OBJECTIVES = {"next_token": next_token, "distillation": distillation, "masked_diffusion": masked_diffusion}
