"""The maths of the metrics as plain functions, which the reports use; `load` gives the same as `evaluate` modules.

Those are for users of `evaluate`: its loader copies a module into the user's home and reads it there.
"""

import re
from collections import Counter
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


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """ROUGE-1, -2, -L and -Lsum (Lin 2004) of a summary, as F-measures in [0, 1].

    Words are runs of a-z and 0-9 in lower case, without a stemmer: what `evaluate`'s own module gives. -L is of the
    longest common subsequence of all words; -Lsum of the union, line by line of the reference, with all lines of the
    prediction, each word at most as often as either text has it. 0 where either text has no word.
    """
    ours, theirs = _words(prediction), _words(reference)
    scores = {f"rouge{n}": _f_measure(*_shared(ours, theirs, n)) for n in (1, 2)}
    scores["rougeL"] = _f_measure(len(_common(theirs, ours)), len(ours), len(theirs))
    lines = [[words for line in text.split("\n") if (words := _words(line))] for text in (prediction, reference)]
    return scores | {"rougeLsum": _summary(*lines)}


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _shared(ours: list[str], theirs: list[str], n: int) -> tuple[int, int, int]:
    """The n-grams that both have, as often as both, and how many each has."""
    a, b = (Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (ours, theirs))
    return (a & b).total(), a.total(), b.total()


def _f_measure(shared: int, ours: int, theirs: int) -> float:
    precision, recall = shared / max(ours, 1), shared / max(theirs, 1)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


def _common(a: list[str], b: list[str]) -> list[int]:
    """The places in `a` of a longest common subsequence with `b`."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, word in enumerate(a, 1):
        for j, other in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if word == other else max(table[i - 1][j], table[i][j - 1])
    places, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places[::-1]


def _summary(ours: list[list[str]], theirs: list[list[str]]) -> float:
    """ROUGE-Lsum of the lines of a prediction and of a reference."""
    left = [Counter(word for line in lines for word in line) for lines in (ours, theirs)]
    totals = [counts.total() for counts in left]
    shared = 0
    for line in theirs:
        for place in sorted({place for other in ours for place in _common(line, other)}):
            if all(counts[line[place]] > 0 for counts in left):
                shared += 1
                for counts in left:
                    counts[line[place]] -= 1
    return _f_measure(shared, *totals)


def load(name: str):
    """The `evaluate` module of this folder named `accuracy`, `pass_at_k` or `rouge`."""
    import evaluate  # imported late: it takes seconds

    return evaluate.load(str(Path(__file__).parent / name))
