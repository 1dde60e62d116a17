"""Means over two crossed random factors, such as wordings and questions, of which others might have been taken.

y_ri = mean + row_r + column_i + rest_ri, each part with a variance of its own. Wordings taken as fixed say how these
sentences work; whoever wants to know how a command works has to let the interval cover other sentences too.
"""

from math import inf, sqrt

import numpy as np
from scipy.stats import t

from lib.analysis.bootstrap import tail_of
from lib.analysis.stats import Estimate


def crossed_mean(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of `values` [rows, columns] with its interval for rows and columns like these; p is two-sided, of 0.

    Var(mean) = (MS_rows + MS_columns - MS_rest) / (rows columns), the mean squares of a two-way layout, with a t
    quantile at Satterthwaite's degrees of freedom, because eight wordings are few. Where the difference falls below
    MS_rest, which it does not in expectation, that stands in. `n` counts the columns. Where all values are equal
    nothing is known of others: the interval is infinite. Raises ValueError for less than two rows or columns, and for
    what is not finite.
    """
    values = _checked(values)
    rows, columns = values.shape
    found = _mean_squares(values)
    squares, freedom = zip(*found, strict=True)
    total = squares[0] + squares[1] - squares[2]
    if total > squares[2]:
        free = total**2 / sum(square**2 / df for square, df in found)
    else:
        total, free = squares[2], freedom[2]
    mean, error = float(values.mean()), sqrt(total / (rows * columns))
    if np.ptp(values) == 0:
        return Estimate(mean, -inf, inf, columns, 1.0)
    half = float(t.ppf(1 - tail_of(level), free)) * error
    return Estimate(mean, mean - half, mean + half, columns, float(2 * t.sf(abs(mean) / error, free)))


def components(values: np.ndarray) -> dict[str, float]:
    """The variances of rows, columns and the rest of `values` [rows, columns], by the mean squares; none below 0."""
    values = _checked(values)
    (of_rows, _), (of_columns, _), (rest, _) = _mean_squares(values)
    rows, columns = values.shape
    return {
        "rows": max(0.0, (of_rows - rest) / columns),
        "columns": max(0.0, (of_columns - rest) / rows),
        "rest": rest,
    }


def _mean_squares(values: np.ndarray) -> list[tuple[float, int]]:
    """Mean square and degrees of freedom of rows, columns and the rest."""
    rows, columns = values.shape
    by_row, by_column = values.mean(1), values.mean(0)
    rest = values - by_row[:, None] - by_column + values.mean()
    free = (rows - 1) * (columns - 1)
    return [
        (float(columns * by_row.var(ddof=1)), rows - 1),
        (float(rows * by_column.var(ddof=1)), columns - 1),
        (float((rest**2).sum() / free), free),
    ]


def _checked(values: np.ndarray) -> np.ndarray:
    """`values` as floats [rows, columns]."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"values must be [rows, columns] with two of each at least, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    return values
