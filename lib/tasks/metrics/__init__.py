"""The maths of the metrics as plain functions, which the reports use; `load` gives the same as `evaluate` modules.

Those are for users of `evaluate`: its loader copies a module into the user's home and reads it there.
"""

from collections.abc import Sequence
from math import comb
from pathlib import Path


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of `k` responses, drawn from `n` of which `c` are right, is right.

    Unbiased for pass@k (Chen et al. 2021): 1 - C(n-c, k) / C(n, k), in whole numbers up to the one division.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} right responses of {n}")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} responses and k >= 1, not {n} responses")
    return (comb(n, k) - comb(n - c, k)) / comb(n, k)


def accuracy(correct: Sequence[int]) -> float:
    """The mean of a list of 0 and 1. Raises ValueError for an empty list."""
    if not len(correct):
        raise ValueError("the accuracy of no items is not defined")
    return sum(correct) / len(correct)


def load(name: str):
    """The `evaluate` module of this folder named `accuracy` or `pass_at_k`."""
    import evaluate  # imported late: it takes seconds

    return evaluate.load(str(Path(__file__).parent / name))
