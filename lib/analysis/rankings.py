"""Do methods keep their order when the same items are asked in another frame? Kendall's tau over pairs of frames."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lib.analysis.bootstrap import SEED, drawn_weights, interval

SHUFFLES = 2_000


@dataclass(frozen=True)
class Agreement:
    """tau: Kendall's tau-b of the methods' order, the mean over all pairs of frames; low, high: 95 %, drawing items.

    expected: the same of the frames shuffled within every item, which is what one order in all frames gives with so
    many items. p: how often shuffled frames agree as little as these do, or less; one-sided. n: items.
    """

    tau: float
    low: float
    high: float
    expected: float
    p: float
    n: int


def agreement(scores: np.ndarray) -> Agreement:
    """Of `scores` [frames, methods, items], the same items in every frame.

    Scores near one another change places by chance, so that tau is below 1 even where the frame changes nothing, and
    a resample has a lower one still: read it beside `expected`. A frame that is harder for all methods alike changes
    neither. Shuffling asks whether the *differences* between methods are alike in all frames, which they may not be
    though the order stays. Raises ValueError for less than two frames or methods.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 3 or min(scores.shape[:2]) < 2 or scores.shape[2] == 0:
        raise ValueError(f"scores must be [frames, methods, items], two of either at least, not {scores.shape}")
    frames, _, items = scores.shape
    own = float(mean_tau(scores.mean(-1)))
    drawn = mean_tau(np.einsum("bi,fmi->bfm", drawn_weights(items), scores))
    rng, shuffled = np.random.default_rng(SEED), np.empty(SHUFFLES)
    for draw in range(SHUFFLES):
        order = rng.permuted(np.tile(np.arange(frames), (items, 1)), axis=1)  # [items, frames]
        mixed = scores[order.T, :, np.arange(items)]  # [frames, items, methods]
        shuffled[draw] = mean_tau(mixed.mean(1))
    p = (1 + int((shuffled <= own + 1e-9).sum())) / (SHUFFLES + 1)
    return Agreement(own, *interval(drawn), float(shuffled.mean()), p, items)


def mean_tau(means: np.ndarray) -> np.ndarray:
    """Kendall's tau-b between frames of `means` [..., frames, methods], the mean over their pairs: [...].

    Equal scores count as neither order; where all methods of a frame are equal its tau is 0.
    """
    frames, methods = means.shape[-2:]
    first, second = np.triu_indices(methods, 1)
    means = means.round(9)  # equal scores, but for the order of a sum
    signs = np.sign(means[..., first] - means[..., second])
    size = np.abs(signs).sum(-1)
    found = []
    for f, g in combinations(range(frames), 2):
        scale = np.sqrt(size[..., f] * size[..., g])
        found.append((signs[..., f, :] * signs[..., g, :]).sum(-1) / np.maximum(scale, 1))
    return np.mean(found, axis=0)


def flipped(differences: dict[tuple, dict[tuple, str]]) -> tuple[int, int]:
    """Of pairs of methods, each with its differences' verdicts by frame ('higher', 'lower' or 'tied'): how many are
    higher in one frame and lower in another, and how many there are."""
    found = [{"higher", "lower"} <= set(by_frame.values()) for by_frame in differences.values()]
    return sum(found), len(found)
