"""The soft top-p and the training objectives of AutoDeco: arXiv 2510.26697, equations 1-3."""

import torch
from torch import Tensor

OBJECTIVES = ("paper", "code")
EPSILON = 1e-9  # of the renormalisation and of the logarithm, as in the released code


def soft_top_p(probs: Tensor, top_p: Tensor, alpha: float = 30.0) -> Tensor:
    """p * exp(-alpha ReLU(c - P)), renormalised: probs [..., V], top_p [...] -> [..., V].

    c is the inclusive cumulative sum of the sorted probabilities, so the token that crosses P is damped, which
    the hard nucleus keeps. Where P lies below the largest probability every weight has the same factor: P has
    no gradient there, and the result is almost one-hot.
    """
    ordered, order = torch.sort(probs, dim=-1, descending=True, stable=True)
    weights = torch.exp(-alpha * torch.relu(ordered.cumsum(-1) - top_p[..., None]))
    kept = probs * torch.zeros_like(probs).scatter(-1, order, weights)
    return kept / (kept.sum(-1, keepdim=True) + EPSILON)


def token_losses(logits: Tensor, temperature: Tensor, top_p: Tensor, tokens: Tensor, alpha: float) -> Tensor:
    """-log of the soft top-p probability of each token: logits [N, V], others [N] -> [N]."""
    probs = torch.softmax(logits / temperature.clamp(min=1e-8)[:, None], -1)
    soft = soft_top_p(probs, top_p, alpha).gather(-1, tokens[:, None]).squeeze(-1)
    return -torch.log(soft + EPSILON)


def objective(
    form: str,
    logits: Tensor,
    temperature: Tensor,
    top_p: Tensor,
    tokens: Tensor,
    kept: Tensor,
    weights: Tensor,
    alpha: float = 30.0,
    train: tuple[str, ...] = ("temperature", "top_p"),
) -> Tensor:
    """The loss of N positions: logits [N, V], the rest [N]; `kept` marks those that easy-token masking leaves.

    `weights` are the dynamic fine-tuning weights, ones where that is off. `paper`: one cross-entropy through
    temperature and soft top-p, on the kept positions. `code`, the released sum: a cross-entropy through the
    temperature alone on the kept positions, and one through both on all. A head that is not in `train` is
    taken out of the distribution: without top-p there is no mask, without temperature it is 1.
    """
    if "temperature" not in train:
        temperature = torch.ones_like(temperature)
    scaled = torch.nn.functional.cross_entropy(
        logits / temperature.clamp(min=0.01)[:, None], tokens, reduction="none"
    )
    if "top_p" not in train:
        return _mean(weights * scaled, kept)
    soft = token_losses(logits, temperature, top_p, tokens, alpha)
    if form == "paper":
        return _mean(weights * soft, kept)
    both = (weights * soft).mean()
    return both + _mean(weights * scaled, kept) if "temperature" in train else both


def _mean(losses: Tensor, kept: Tensor) -> Tensor:
    """Mean over the kept positions; 0 where none is."""
    return (losses * kept).sum() / kept.sum().clamp(min=1)
