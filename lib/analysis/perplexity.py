"""How likely a text is to a model: perplexity under its unwarped distribution, and how much a text repeats itself."""

import numpy as np
import torch
from tqdm import tqdm

from lib.analysis.bootstrap import drawn_means, interval, p_of_zero, tail_of
from lib.analysis.stats import Estimate
from lib.decoding.bidirectional import position_ids
from lib.models.registry import Model


@torch.inference_mode()
def surprises(
    model: Model, pairs: list[tuple[str, str, bool]], instruction: str = "", batch: int = 32
) -> list[float]:
    """Mean -log p of the tokens of each (prompt, response, ended), at temperature 1 without top-k and top-p.

    The response is tokenised anew from its text, which may differ from the tokens that were drawn. `ended`: it
    stopped by itself, so that its end of text counts as a token. NaN for a response without tokens.
    """
    found = [float("nan")] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    for start in tqdm(range(0, len(order), batch), desc="perplexity", unit="batch", leave=False):
        part = order[start : start + batch]
        values = _surprises(model, [pairs[i] for i in part], instruction)
        for i, value in zip(part, values, strict=True):
            found[i] = value
    return found


def _surprises(model: Model, pairs: list[tuple[str, str, bool]], instruction: str) -> list[float]:
    prompts, mask = model.encode([prompt for prompt, _, _ in pairs], instruction)
    end = model.family.eot_ids[0]
    responses = [model.tokenizer.encode(text, add_special_tokens=False) + [end] * ended for _, text, ended in pairs]
    width = max(map(len, responses))
    if not width:
        return [float("nan")] * len(pairs)
    tail = torch.tensor([row + [end] * (width - len(row)) for row in responses], device=prompts.device)
    real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in responses], device=prompts.device)
    ids, mask = torch.cat([prompts, tail], 1), torch.cat([mask, real], 1)
    logits = model.network(
        input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), logits_to_keep=width + 1, use_cache=False
    ).logits[:, :-1]
    logp = logits.float().log_softmax(-1).gather(-1, tail[..., None]).squeeze(-1)
    count = real.sum(-1)
    mean = -(logp * real).sum(-1) / count
    return [float(value) if n else float("nan") for value, n in zip(mean, count, strict=True)]


def perplexity(surprise: np.ndarray, level: float = 0.95) -> Estimate:
    """exp of the mean over items: surprise [items, samples]; NaN is left out. Percentile bootstrap over items."""
    items = _means(surprise)
    low, high = interval(np.exp(drawn_means(items)), tail_of(level))
    return Estimate(float(np.exp(items.mean())), low, high, len(items))


def perplexity_change(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Estimate:
    """Perplexity of a over that of b minus 1, in %, paired: both [items, samples] of the same items.

    Interval: percentile bootstrap over items. p: twice the smaller share of resamples on one side of 0. An item
    that has no tokens in either is left out.
    """
    a, b = (np.asarray(x, dtype=float) for x in (a, b))
    kept = ~(np.isnan(a).all(1) | np.isnan(b).all(1))
    items = _means(a[kept]) - _means(b[kept])
    drawn = 100 * np.expm1(drawn_means(items))
    low, high = interval(drawn, tail_of(level))
    return Estimate(float(100 * np.expm1(items.mean())), low, high, len(items), p_of_zero(drawn))


def _means(surprise: np.ndarray) -> np.ndarray:
    """The mean of each item's samples, [items]; items without any token are left out."""
    rows = np.asarray(surprise, dtype=float)
    return np.nanmean(rows[~np.isnan(rows).all(1)], axis=1)


def repeated(text: str, n: int = 4) -> float:
    """The share of a text's n-grams of words that stood in it before; 0 for a text of fewer than n words."""
    words = text.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: list[str], n: int = 2) -> float:
    """Different n-grams of words over all n-grams, of all texts together; NaN without any."""
    grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")
