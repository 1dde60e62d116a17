"""Speed as a ratio: variants in turns in one process, so that a noisy machine is equally noisy for all of them."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.analysis.bootstrap import SEED, drawn_medians, interval, tail_of
from lib.analysis.stats import Estimate
from lib.running.cost import measured


def interleaved(
    variants: dict[str, Callable[[], int]], rounds: int, device: str = "cpu", seed: int = 0
) -> pd.DataFrame:
    """Run every variant once a round, in an order drawn anew each time, after one round that is not counted.

    A variant returns how much work it did, in units of its own such as tokens. A row a round and variant:
    round, variant, seconds, joules (None without a counter), work.
    """
    chooser, rows = random.Random(seed), []
    for number in tqdm(range(-1, rounds), desc="benchmark", unit="round"):
        order = list(variants)
        chooser.shuffle(order)
        for name in order:
            with measured(device) as cost:
                work = variants[name]()
            if number >= 0:
                row = {"round": number, "variant": name, "seconds": cost.seconds, "joules": cost.joules, "work": work}
                rows.append(row)
    return pd.DataFrame(rows)


def time_ratio(rows: pd.DataFrame, variant: str, against: str, level: float = 0.95) -> Estimate:
    """Seconds a unit of work of `variant` over that of `against`: median over rounds, bootstrap over rounds.

    The median, for on a shared machine a round in which something else ran must not decide.
    """
    ratios = _ratios(rows, variant, against)
    drawn = drawn_medians(ratios, 0)  # a seed of its own, by which its first numbers were printed
    return Estimate(float(np.median(ratios)), *interval(drawn, tail_of(level)), len(ratios))


def mean_time_ratio(parts: Sequence[pd.DataFrame], variant: str, against: str) -> Estimate:
    """The same of several parts, such as the sizes of a batch: the mean of their medians, 95 %.

    Bootstrap over the rounds of every part; n is the rounds of the first.
    """
    draws = np.random.default_rng(SEED)
    ratios = [_ratios(rows, variant, against) for rows in parts]
    drawn = np.mean([drawn_medians(part, draws) for part in ratios], axis=0)
    return Estimate(float(np.mean([np.median(part) for part in ratios])), *interval(drawn), len(ratios[0]))


def _ratios(rows: pd.DataFrame, variant: str, against: str) -> np.ndarray:
    """Seconds a unit of work of one variant over those of another, [rounds] in the order of the rounds."""
    wide = rows.assign(cost=rows.seconds / rows.work).pivot(index="round", columns="variant", values="cost")
    return (wide[variant] / wide[against]).to_numpy()
