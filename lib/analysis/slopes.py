"""Lines through the gains of several models: what interval such a line has where models and items were both drawn.

A cell is one model on one task: its gain y, a mean over items of what a method adds there, and what the gain is to
depend on, such as the model's capability. The line is that of least squares over the cells. Others might have been
taken of two kinds of things:

- trainings: models of one training (its kept steps, what was trained on from it) err alike, so that cells count by
  training. Their variance is the sandwich of least squares with the leverage of few groups taken out (CR2 of Bell and
  McCaffrey), with a t quantile at their degrees of freedom (Satterthwaite), which are few where trainings are.
- items: all models answer the same ones, so that an item that suits a method suits it everywhere. The variance by
  item is added, less what differs by item and training, which the first one has in it already, as in two-way
  clustering (Cameron, Gelbach and Miller); degrees of freedom are then put together by Satterthwaite's rule.

Tasks are fixed: a line says nothing of other tasks. A capability that is itself measured on n items flattens the line
by the share of its spread that is noise, about 1 % at 500 items and a spread of 25 points, but 15 % at 20 items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from scipy.stats import t

from lib.analysis.bootstrap import tail_of
from lib.analysis.stats import Estimate

FEWEST = 3  # trainings: of two nobody could say how much trainings differ
SMALL = 1e-9


@dataclass(frozen=True)
class Cell:
    """One model on one task. x: of the line, an intercept among them. gains [items]: by item, in any unit.

    training: cells of one err alike. items: the name of the items; cells of one name have the same, in one order.
    """

    x: tuple[float, ...]
    gains: np.ndarray
    training: str
    items: str


class Line:
    """The line of least squares through cells. `n` is what its estimates say that they are from: its models.

    Raises ValueError for less than three trainings, and for cells that do not decide the line.
    """

    def __init__(self, cells: Sequence[Cell], n: int):
        self.cells, self.n = list(cells), n
        self.x = np.array([cell.x for cell in cells], dtype=float)
        self.y = np.array([np.mean(cell.gains) for cell in cells])
        trainings = [cell.training for cell in cells]
        self.groups = [np.flatnonzero([name == own for name in trainings]) for own in dict.fromkeys(trainings)]
        count, width = self.x.shape
        if len(self.groups) < FEWEST:
            raise ValueError(f"a line needs {FEWEST} trainings or more, not {len(self.groups)}")
        if count <= width or np.linalg.matrix_rank(self.x) < width:
            raise ValueError(f"{count} cells do not decide a line of {width} numbers")
        self.weights = np.linalg.pinv(self.x)  # [width, cells]: the line is weights @ y
        self.line = self.weights @ self.y
        self.left = np.eye(count) - self.x @ self.weights  # residuals are left @ y

    def at(self, contrast: Sequence[float], further: bool = False, level: float = 0.95) -> Estimate:
        """The line's value contrast @ line, such as a slope or its height at some x; p is two-sided, of 0.

        `further`: the interval of what one further model would have there, not of the line alone.
        """
        own = np.asarray(contrast, dtype=float) @ self.weights  # [cells]
        by_item, by_both = self._of_items(own)
        items = {cell.items: len(cell.gains) for cell in self.cells}
        parts = [self._of_trainings(own), (max(0.0, by_item - by_both), max(1, sum(items.values()) - len(items)))]
        if further:
            residuals, rest = self.left @ self.y, len(self.y) - len(self.line)
            # Cells of one training err alike, so that what is left over tells no more than trainings do.
            parts.append((float(residuals @ residuals) / rest, min(rest, len(self.groups) - 1)))
        variance, value = sum(part for part, _ in parts), float(own @ self.y)
        if variance < SMALL**2:  # nothing is known of what differs
            return Estimate(value, -inf, inf, self.n, 1.0)
        error, free = sqrt(variance), variance**2 / sum(part**2 / freedom for part, freedom in parts)
        half = float(t.ppf(1 - tail_of(level), free)) * error
        if further:  # the degrees of freedom of a sum may be more than those of the line alone, its interval not less
            alone = self.at(contrast, level=level)
            half = max(half, alone.high - alone.value)
        return Estimate(value, value - half, value + half, self.n, float(2 * t.sf(abs(value) / error, free)))

    def slope(self, level: float = 0.95) -> Estimate:
        """The last number of the line."""
        return self.at(np.eye(len(self.line))[-1], level=level)

    def _of_trainings(self, own: np.ndarray) -> tuple[float, float]:
        """CR2 variance of own @ y and its degrees of freedom."""
        residuals, variance, parts = self.left @ self.y, 0.0, []
        for rows in self.groups:
            adjusted = _inverse_root(self.left[np.ix_(rows, rows)]) @ own[rows]
            variance += float(adjusted @ residuals[rows]) ** 2
            parts.append(self.left[:, rows] @ adjusted)
        found = np.array(parts) @ np.array(parts).T
        total = np.trace(found)
        return variance, float(total**2 / (found**2).sum()) if total > 0 else 1.0

    def _of_items(self, own: np.ndarray) -> tuple[float, float]:
        """Variance of own @ y by item, and by item and training."""
        by_item = by_both = 0.0
        for items in dict.fromkeys(cell.items for cell in self.cells):
            pulls: dict[str, np.ndarray] = {}
            for weight, cell in zip(own, self.cells, strict=True):
                if cell.items == items:
                    pull = weight * (np.asarray(cell.gains) - np.mean(cell.gains))
                    pulls[cell.training] = pulls.get(cell.training, 0.0) + pull
            found = np.array(list(pulls.values()))
            n = found.shape[1]
            scale = 1 / (n * max(1, n - 1))
            by_item += scale * float((found.sum(0) ** 2).sum())
            by_both += scale * float((found**2).sum())
        return by_item, by_both


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    """The inverse of the root of a symmetric matrix, on the part of it that has one."""
    values, vectors = np.linalg.eigh(matrix)
    usable = values > SMALL
    return (vectors[:, usable] / np.sqrt(values[usable])) @ vectors[:, usable].T
