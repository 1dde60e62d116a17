"""Quality against cost: every lossy rule as one curve over its threshold, beside the lossless methods."""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import corrected
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, more, multiple
from lib.reporting.tables import difference_table
from lib.running.run import Run
from lib.studies.mtad.base import DraftingStudy
from lib.studies.mtad.ways import GREEDY, WARP

# The columns of the figure.
KINDS_OF_RULE = {
    "joint verdicts": ("MTAD", "MTAD, gamma", "MMTAD", "MMTAD, greedy"),
    "token by token, lossy": ("threshold", "typical", "typical, its truncation", "BiLD", "BiLD, greedy"),
    "lossless": ("speculative", "speculative, greedy", "block verification", "token tree"),
}
LEFT_OUT = "assisted, ensemble"  # of the figure, whose scale it would take


@dataclass(frozen=True)
class Study(DraftingStudy):
    """`grid`: thresholds of MTAD, MMTAD and the token-wise rule. Typical acceptance, BiLD and `transformers`'
    ensemble have grids of their own; `gammas`: draft lengths of MTAD and speculative decoding."""

    items: int = 100
    samples: int = 2

    grid: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    epsilons: tuple[float, ...] = (0.03, 0.09, 0.3)
    rollbacks: tuple[float, ...] = (1.0, 2.0, 4.0)
    weights: tuple[float, ...] = (0.25, 0.5, 0.75)
    gammas: tuple[int, ...] = (2, 4, 8)

    notebook = "33_mtad_frontier"

    def curves(self) -> dict[str, dict[str, tuple[str, dict]]]:
        """Curve -> point -> method and options."""
        found = {
            "MTAD": {f"tau {t:g}": ("mtad", {"tau": t}) for t in self.grid},
            "MMTAD": {f"tau {t:g}": ("mtad", {"tau": t, "tree": True}) for t in self.grid},
            "threshold": {f"tau {t:g}": ("threshold", {"tau": t}) for t in self.grid},
            "typical": {f"epsilon {e:g}": ("typical", {"epsilon": e}) for e in self.epsilons},
            "typical, its truncation": {f"epsilon {e:g}": ("truncated", {"epsilon": e}) for e in self.epsilons},
            "BiLD": {f"rollback {r:g}": ("bild", {"rollback": r}) for r in self.rollbacks},
            "assisted, ensemble": {f"w {w:g}": ("assisted", {"ensemble": w}) for w in self.weights},
            "speculative": {f"gamma {n}": ("speculative", {"gamma": n}) for n in self.gammas},
            "block verification": {f"gamma {n}": ("speculative", {"gamma": n, "block": True}) for n in self.gammas},
            "token tree": {"4, 2, 2": ("tree_speculative", {})},
            "MTAD, gamma": {f"gamma {n}": ("mtad", {"gamma": n}) for n in self.gammas if n != 4},
        }
        greedy = {
            "speculative, greedy": {f"gamma {n}": ("speculative", GREEDY | {"gamma": n}) for n in self.gammas},
            "BiLD, greedy": {f"rollback {r:g}": ("bild", GREEDY | {"rollback": r}) for r in self.rollbacks},
            "MMTAD, greedy": {f"gamma {n}": ("mtad", GREEDY | {"gamma": n, "tree": True}) for n in self.gammas},
        }
        curves = {
            name: {point: (method, WARP | options) for point, (method, options) in points.items()}
            for name, points in found.items()
        }
        return curves | greedy

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, `curve: point`) and (task, name of a reference)."""
        found = {(short, name): self.named(short, name) for short in self.tasks for name in ("sampling", "greedy")}
        for short in self.tasks:
            for curve, points in self.curves().items():
                for point, (method, options) in points.items():
                    found[short, f"{curve}: {point}"] = self._run(short, method, **options)
        return found

    @cached_property
    def points(self) -> pd.DataFrame:
        """Means over tasks: accuracy, perplexity and tokens a unit of cost, a row a point."""
        rows = self.summary.groupby("name", sort=False)[["accuracy", "perplexity", "units"]].mean().reset_index()
        curve = rows.name.str.split(": ").str[0]
        return rows.assign(curve=curve, speed=1 / rows.units)

    def figure_frontier(self):
        """Accuracy and perplexity against tokens a unit of cost, a line each rule; means over tasks.

        A column a kind of rule, in which the curves of the others are grey; without LEFT_OUT.
        """
        values = {"accuracy": "accuracy, %", "perplexity": "perplexity"}
        shown = self.points[self.points.curve.isin(self.curves().keys() - {LEFT_OUT})]
        size = (3.8 * len(KINDS_OF_RULE), 7)
        figure, axes = plt.subplots(2, len(KINDS_OF_RULE), figsize=size, sharex=True, sharey="row")
        for column, (title, names) in zip(axes.T, KINDS_OF_RULE.items(), strict=True):
            looks = figures.looks(names)
            for axis, value in zip(column, values, strict=True):
                for name, part in shown.groupby("curve", sort=False):
                    if name in looks:
                        figures.curve(axis, name, part.speed, part[value], **looks[name], zorder=3)
                    else:
                        axis.plot(part.speed, part[value], color="0.85", lw=1.2, marker="o", ms=3)
                for name, look in figures.looks(["sampling", "greedy"]).items():  # without a draft
                    alone = self.points[self.points.curve == name]
                    figures.curve(axis, name, alone.speed, alone[value], **look)
            column[0].set_title(title)
            column[1].set_xlabel("tokens a unit of cost")
        for line, words in zip(axes, values.values(), strict=True):
            line[0].set_ylabel(words)
            for axis in line:  # each names its own
                figures.name_ends([axis])
        sns.despine(figure)
        return figure

    def rivals(self) -> pd.DataFrame:
        """For every point of MTAD and MMTAD the point of another rule that is at least as cheap and scores highest:
        of the greedy ones for greedy MMTAD, of the others for the rest, so that no temperature is judged with a rule.

        Chosen on the same items that are compared, which favours the rival; the difference is MTAD minus it.
        """
        rows, found = self.points.assign(greedy=self.points.curve.str.endswith("greedy")), []
        ours = rows.curve.str.startswith(("MTAD", "MMTAD"))
        for row in rows[ours].itertuples():
            cheap = rows[~ours & (rows.greedy == row.greedy) & (rows.speed >= row.speed)]
            if len(cheap):
                best = cheap.loc[cheap.accuracy.idxmax()]
                e = self.judged(row.name, best["name"])
                found.append(({"way": row.name, "rival": best["name"]}, e))
        columns = ["way", "rival", "difference", "low", "high", "p_holm"]
        return difference_table(found).reindex(columns=columns)  # of an empty table too

    def claims(self) -> list[Claim]:
        """At equal tau MTAD's joint rule against the token-wise one, in quality and in cost."""
        found = []
        pairs = [(f"MTAD: tau {t:g}", f"threshold: tau {t:g}", t) for t in self.grid]
        scores = corrected([self.judged(a, b) for a, b, _ in pairs])
        costs = bonferroni([self.cheaper(a, b) for a, b, _ in pairs])
        for (*_, t), e, c in zip(pairs, scores, costs, strict=True):
            says = f"at tau {t:g} the joint rule scores higher than the token-wise one"
            found.append(Claim(OWN, says, "", e, "points", more(e)))
            says = f"at tau {t:g} the joint rule is cheaper a token than the token-wise one"
            found.append(Claim(OWN, says, "", c, "times", multiple(c)))
        return found

    def reading(self) -> str:
        """Which points no other beats in both, and who beats MTAD."""
        rows = self.points
        on = [
            row.name
            for row in rows.itertuples()
            if not ((rows.accuracy >= row.accuracy) & (rows.speed >= row.speed)
                    & ((rows.accuracy > row.accuracy) | (rows.speed > row.speed))).any()
        ]  # fmt: skip
        lines = [f"- On the frontier of means (no other point is cheaper and scores as high): {', '.join(on)}."]
        rivals = self.rivals()
        if len(rivals):
            better = rivals[(rivals.p_holm < 0.05) & (rivals.difference < 0)]
            lines.append(
                f"- Of {len(rivals)} points of MTAD and MMTAD that have an equally cheap rival at their temperature, "
                f"{len(better)} score lower than it after Holm; the mean difference is "
                f"{np.mean(rivals.difference):+.1f} points."
            )
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "points": self.points,
            "rivals": self.rivals(),
            "likelihood": self.surprise,
            "forwards": self.forward_times,
        }
        return self.write(tables, {"frontier": self.figure_frontier()})
