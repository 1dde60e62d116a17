"""pass@k for k up to 64 and the relative error reduction: does token-level control keep what sampling finds?"""

import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.analysis.stats import relative_reduction
from lib.reporting.claims import CLAIM, OWN, REPEAT, Claim, more, with_room
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import difference_table, estimate_of, percent
from lib.running.run import Run
from lib.studies.autodeco.printed_gains import PRINTED_MODELS, PRINTED_ROWS
from lib.studies.autodeco.scores import NAMES, mean_setting
from lib.studies.base import SHORT, BaseStudy, limit
from lib.studies.pass_at_k import PassAtK


@dataclass(frozen=True)
class Study(PassAtK, BaseStudy):
    """Default sampling, AutoDeco, and the constant that equals AutoDeco's mean; `samples` is the largest k.

    `tokens`: the length limit; 0 is the task's own.
    """

    samples: int = 64
    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    heads: str = "study-ar-autodeco"
    tokens: int = 0

    notebook = "11_autodeco_pass_at_k"
    printed_in = "autodeco"
    names, compared = NAMES, ("default", "autodeco", "constant")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, method)."""
        size, runs = {"items": self.items, "samples": self.samples, **limit(self.tokens)}, {}
        for short in self.tasks:
            task = SHORT.get(short, short)
            runs[short, "default"] = Run.of(self.model, task, "autoregressive", temperature=1.0, **size)
            runs[short, "autodeco"] = Run.of(self.heads, task, "autodeco", **size)
        return runs

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """Ordinary sampling at AutoDeco's mean temperature and top-p on the task."""
        return {
            (short, "constant"): Run.of(
                self.model,
                SHORT.get(short, short),
                "autoregressive",
                items=self.items,
                samples=self.samples,
                **mean_setting(lines[short, "autodeco"]),
                **limit(self.tokens),
            )
            for short in self.tasks
        }

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """AutoDeco minus the others in points, paired on items, and by how much it cuts the error, in %.

        p by sign flips over items. The claim is about k = 1 and the largest k: those are tested, p after Holm over
        all of them, and the k between are shown with their intervals alone.
        """
        found = []
        for task in self.tasks:
            for method in ("default", "constant"):
                for k in self.ks:
                    ours, theirs = self.values[task, "autodeco", k], self.values[task, method, k]
                    cut = percent(relative_reduction(1 - ours, 1 - theirs))
                    labels = {"task": task, "against": NAMES[method], "k": k}
                    labels |= {"error_cut": cut.value, "cut_low": cut.low, "cut_high": cut.high}
                    found.append((labels, self.difference(task, "autodeco", method, k)))
        table = difference_table(found, tested=[labels["k"] in (1, self.ks[-1]) for labels, _ in found])
        columns = ["task", "against", "k", "difference", "low", "high", "error_cut", "cut_low", "cut_high"]
        return table[[*columns, "items", "p", "p_holm", "tests", "verdict"]]

    def paper(self) -> pd.DataFrame:
        """The paper's Tables 5 to 7 as printed; the last column is ours: the error that AutoDeco cuts, in %."""
        wide = printed("autodeco", "Tables 5-7").pivot(index=["model", "task", "k"], columns="method", values="value")
        wide = wide[["default", "autodeco"]].rename_axis(columns=None)
        cut = 100 * (wide.autodeco - wide.default) / (100 - wide.default)
        return wide.assign(error_cut=cut.round(2)).reset_index()

    def claims(self) -> list[Claim]:
        """The gain over default sampling at the largest k, and the same against the constant."""
        k, gain, found = self.ks[-1], self.printed_gain(), []
        for row in self.comparisons[self.comparisons.k == k].itertuples():
            e = estimate_of(row)
            says = f"AutoDeco beats {row.against} at pass@{k} on {row.task}"
            if row.against == NAMES["default"]:
                words = f"{gain:+.2f} points in math at k = 64"
                kind = CLAIM if PRINTED_ROWS.get(row.task, ("",))[0] == "Table 1" else REPEAT  # it is of mathematics
                room = 100 * (1 - self.values[row.task, "default", k].mean())
                ruling = with_room(more(e, gain), room)
                found.append(Claim("Tables 5-7", says, words, e, "points", ruling, kind=kind))
            else:
                found.append(Claim(OWN, says, "", e, "points", more(e)))
        return found

    def printed_gain(self) -> float:
        """AutoDeco over default sampling at pass@64 in points, of this model or the mean of the paper's; without
        Llama-Nemotron's cells of three tasks, which are the same and can be of one alone."""
        cells = self.paper().query("k == 64 and task != 'mean'")
        copied = (cells.model == "Llama-Nemotron-8B") & cells.task.isin(("BRUMO25", "HMMT25", "BeyondAIME"))
        gains = (cells.autodeco - cells.default)[~copied].groupby(cells.model).mean()
        return float(gains.get(PRINTED_MODELS.get(self.model), gains.mean()))

    def reading(self) -> str:
        """pass@1 and pass@k at the largest k, against both."""
        lines = []
        for (task, against), rows in self.comparisons.groupby(["task", "against"], sort=False):
            parts = [
                f"pass@{r.k} {r.difference:+.1f} points [{r.low:.1f}, {r.high:.1f}], {r.verdict}"
                + ("" if math.isnan(r.error_cut) else f", error cut by {r.error_cut:.0f} %")
                for r in rows[rows.k.isin([1, self.ks[-1]])].itertuples()
            ]
            lines.append(f"- **{task}**, AutoDeco against {against}: {'; '.join(parts)}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        if "math" not in self.tasks:
            return {}
        k = self.ks[-1]
        e = self.difference("math", "autodeco", "default", k)
        return {"autodeco_passk_gain": headline(e.value, e.low, e.high, e.n, "points", self.profile, self.notebook)}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {"summary": self.summary, "comparisons": self.comparisons}
        return self.write(tables, {"pass_at_k": self.figure_pass()})
