"""MTAD's own settings: draft length gamma, beams W, threshold tau, and what its code leaves open."""

from dataclasses import dataclass
from functools import cached_property, partial

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from lib.analysis.stats import corrected
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, at_most, more, multiple
from lib.running.run import Run
from lib.studies.mtad.base import DraftingStudy
from lib.studies.mtad.pair import LOST
from lib.studies.mtad.ways import WARP

PUBLISHED_SETTING = "published"
DEFAULTS = {"gamma": 4, "width": 4, "tau": 0.5}


@dataclass(frozen=True)
class Study(DraftingStudy):
    """One change each from the published setting: gamma 4, W 4, tau 0.5, drawn with replacement, one chain."""

    items: int = 100
    samples: int = 2

    gammas: tuple[int, ...] = (1, 2, 4, 6, 8)
    widths: tuple[int, ...] = (1, 2, 4, 8)
    taus: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)

    notebook = "32_mtad_sweep"

    def variants(self) -> dict[str, dict]:
        """Options by name."""
        found: dict[str, dict] = {PUBLISHED_SETTING: {}}
        found |= {f"gamma {n}": {"gamma": n} for n in self.gammas if n != DEFAULTS["gamma"]}
        found |= {f"W {n}": {"width": n} for n in self.widths if n != DEFAULTS["width"]}
        found |= {f"tau {t:g}": {"tau": t} for t in self.taus if t != DEFAULTS["tau"]}
        found["without replacement"] = {"replacement": False}
        found["softmax weights"] = {"weights": "softmax"}
        return found | {
            f"tree, reference {name}": {"tree": True, "reference": name} for name in ("kept", "best", "own", "slot")
        }

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, variant)."""
        return {
            (short, name): self._run(short, "mtad", **(WARP | options))
            for short in self.tasks
            for name, options in self.variants().items()
        }

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every variant minus the published setting, in points."""
        return self.differences([(name, PUBLISHED_SETTING) for name in self.variants() if name != PUBLISHED_SETTING])

    def line(self, option: str) -> list[tuple[float, str]]:
        """(value, name) of the variants along one option, the published one among them."""
        found = [
            (options.get(option, DEFAULTS[option]), name)
            for name, options in self.variants().items()
            if set(options) <= {option}
        ]
        return sorted(found)

    def figure_sweeps(self):
        """Accuracy, perplexity, acceptance and tokens a unit of cost along gamma, W and tau."""
        values = {"accuracy": "accuracy, %", "perplexity": "perplexity", "acceptance": "acceptance, %"}
        values["speed"] = "tokens a unit of cost"
        rows = self.summary.assign(speed=1 / self.summary.units).set_index(["label", "name"])
        figure, axes = plt.subplots(4, 3, figsize=(10, 10.5), sharey="row")
        for column, option in enumerate(("gamma", "width", "tau")):
            points = self.line(option)
            for axis, (value, words) in zip(axes[:, column], values.items(), strict=True):
                for task, look in figures.looks(self.tasks).items():
                    part = rows.loc[[(task, name) for _, name in points]]
                    band = (part.low, part.high) if value == "accuracy" else ()
                    figures.curve(axis, task, [at for at, _ in points], part[value], *band, **look)
                axis.set(xlabel={"width": "W (beams)"}.get(option, option), ylabel=words if column == 0 else "")
                sns.despine(ax=axis)
        for line in axes:
            figures.name_ends(line)
        return figure

    def claims(self) -> list[Claim]:
        """Acceptance falls as tau rises; longer drafts do not cost quality; the tree is better than the chain."""
        lowest, highest = self.line("tau")[0][1], self.line("tau")[-1][1]
        longest, tree = self.line("gamma")[-1][1], "tree, reference kept"
        found = []
        if lowest != highest:
            e = self.longer(lowest, highest)
            says = f"a lower tau accepts more tokens a pass: {lowest} against {highest}"
            found.append(Claim("Theorem 3.6", says, "", e, "times", multiple(e)))
        e = self.cheaper(tree, PUBLISHED_SETTING)
        says = "verifying all beams (MMTAD) is faster, in forwards weighted by their time"
        found.append(Claim("abstract, v4", says, "better", e, "times", multiple(e)))
        costs_little = partial(at_most, bound=2)
        asked = [  # where, says, printed, ways, rule
            ("abstract, v4", "verifying all beams (MMTAD) raises scores", "better", (tree, PUBLISHED_SETTING), more),
            (OWN, f"a higher tau keeps more quality: {highest} above {lowest}", "", (highest, lowest), more),
            (OWN, "four beams score higher than one drawn draft", "", (PUBLISHED_SETTING, "W 1"), more),
            (
                OWN,
                f"{longest} costs less than 2 points against gamma 4",
                "",
                (PUBLISHED_SETTING, longest),
                costs_little,
            ),
        ]
        asked = [row for row in asked if len({*row[3]} & {*self.variants()}) == 2]
        differences = corrected([self.judged(*pair) for *_, pair, _ in asked])
        for (where, says, printed, _, rule), e in zip(asked, differences, strict=True):
            unit = LOST if rule is costs_little else "points"
            found.append(Claim(where, says, printed, e, unit, rule(e)))
        return found

    def reading(self) -> str:
        """Each option's range, over all tasks."""
        lines = []
        means = self.summary.groupby("name")[["accuracy", "perplexity", "acceptance"]].mean()
        for option in ("gamma", "width", "tau"):
            parts = [
                f"{at:g}: {means.accuracy[name]:.1f} %, perplexity {means.perplexity[name]:.2f}, acceptance "
                f"{means.acceptance[name]:.0f} %"
                for at, name in self.line(option)
            ]
            lines.append(f"- **{option}**, means over tasks: {'; '.join(parts)}.")
        trees = [name for name in self.variants() if name.startswith("tree")]
        for name in ("without replacement", "softmax weights", *trees):
            e, c = self.judged(name, PUBLISHED_SETTING), self.cheaper(name, PUBLISHED_SETTING)
            lines.append(
                f"- {name} against the published setting: {e.value:+.1f} points [{e.low:.1f}, {e.high:.1f}], "
                f"{c.value:.2f} [{c.low:.2f}, {c.high:.2f}] times the tokens a unit of cost."
            )
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "comparisons": self.comparisons,
            "likelihood": self.surprise,
            "forwards": self.forward_times,
        }
        return self.write(tables, {"sweeps": self.figure_sweeps()})
