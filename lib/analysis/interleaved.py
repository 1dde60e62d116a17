"""Speed as a ratio: variants in turns in one process, so that a noisy machine is equally noisy for all of them."""

import random
from collections.abc import Callable

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.analysis.stats import Estimate
from lib.running.cost import measured

RESAMPLES = 4_000


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
    rows = rows.assign(cost=rows.seconds / rows.work).pivot(index="round", columns="variant", values="cost")
    ratios = (rows[variant] / rows[against]).to_numpy()
    drawn = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    tail = (1 - level) / 2
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (tail, 1 - tail))
    return Estimate(float(np.median(ratios)), float(low), float(high), len(ratios))
