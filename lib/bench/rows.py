"""A case of the bench, and how two ways of doing the same work are compared: in turns, in one process."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.analysis.interleaved import interleaved, time_ratio
from lib.analysis.stats import Estimate
from lib.bench.work import device

OURS = "ours"  # a variant whose name begins so is ours


@dataclass(frozen=True)
class Row:
    """A case: how many times as fast as the peer (or a share in %), with its interval; ours and the peer's figure."""

    case: str
    ratio: Estimate
    ours: float
    peer: float
    unit: str
    against: str
    by: str = OURS


def rows_of(variants: dict[str, Callable], rounds: int, work: int) -> pd.DataFrame:
    """Rounds of all variants, each of which does so much work."""

    def counted(run: Callable) -> Callable[[], int]:
        return lambda: (run(), work)[1]

    return interleaved({name: counted(run) for name, run in variants.items()}, rounds, device())


def fastest(case: str, rows: pd.DataFrame, unit: str) -> Row:
    """The fastest of ours beside the fastest of the others."""
    pace = (rows.work / rows.seconds).groupby(rows.variant).median()
    own = pace.index.str.startswith(OURS)
    ours, other = pace[own].idxmax(), pace[~own].idxmax()
    return Row(case, time_ratio(rows, other, ours), pace[ours], pace[other], unit, other, ours)


def share(case: str, shares: list[float], ours: float, peer: float, unit: str, against: str) -> Row:
    """Shares in % of some rounds: their median, with a bootstrap over rounds."""
    values = np.array(shares)
    drawn = np.median(np.random.default_rng(0).choice(values, (4000, len(values))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Row(
        case, Estimate(float(np.median(values)), float(low), float(high), len(values)), ours, peer, unit, against
    )
