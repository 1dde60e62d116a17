"""Choosing tau and gamma: on validation items for a tolerated loss, and what the choice then does on test items."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import Estimate
from lib.analysis.tolerated_loss import RULES, Candidate, fastest_tolerated
from lib.errors import UserError
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, at_most, multiple
from lib.reporting.tables import accuracy_difference
from lib.running.run import Run
from lib.studies.base import limit
from lib.studies.mtad.base import DraftingStudy
from lib.studies.mtad.pair import LOST, reduction
from lib.studies.mtad.ways import WARP, WAYS

BASES = ("speculative", "speculative, greedy")
NONE = "none fits and is faster: decode losslessly"


@dataclass(frozen=True)
class Study(DraftingStudy):
    """`tolerated`: points of task score that may be lost against `base`, a lossless method at the fastest of the same
    `gammas`, for its length costs no score; `rule`: see lib/analysis/tolerated_loss.py.
    `draft_cost`: what a forward of the draft is counted, in forwards of the target.
    `items` and `validation_items`: of the test and of the validation split, which never meet."""

    items: int = 100
    samples: int = 2

    taus: tuple[float, ...] = (0.05, 0.2, 0.4, 0.6, 0.8)
    gammas: tuple[int, ...] = (4, 8)
    tolerated: float = 2.0
    rule: str = "observed"
    base: str = "speculative"
    validation_items: int = 100
    draft_cost: float = 0.2

    notebook = "36_mtad_tau"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base not in BASES:
            raise UserError(f"base must be one of {'; '.join(BASES)}, not {self.base!r}")
        if self.rule not in RULES:
            raise UserError(f"rule must be one of {', '.join(RULES)}, not {self.rule!r}")

    def settings(self) -> dict[str, dict]:
        """MTAD's settings by name."""
        return {f"gamma {g}, tau {t:g}": {"gamma": g, "tau": t} for g in self.gammas for t in self.taus}

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, name), the name beginning with the split."""
        found = {}
        for short in self.tasks:
            for gamma in self.gammas:
                found[short, f"validation: base, gamma {gamma}"] = self._base("validation", short, gamma)
            for name, options in self.settings().items():
                found[short, f"validation: {name}"] = self._on("validation", short, "mtad", WARP | options)
        return found

    def _base(self, split: str, short: str, gamma: int) -> Run:
        method, options = WAYS[self.base]
        return self._on(split, short, method, options | {"gamma": gamma})

    def _on(self, split: str, short: str, method: str, options: dict) -> Run:
        run = self._run(short, method, split, **options)
        if split == "test":
            return run
        given = {"samples": run.samples, "split": split, "draft": self.draft}
        options = limit(self.tokens) | options
        return Run.of(self.model, run.task, method, items=self.validation_items, **given, **options)

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """The base and the chosen settings on test items."""
        found = {}
        for short in self.tasks:
            best = self.best(short, lines)
            if best:
                found[short, "test: base"] = self._base("test", short, self.fastest(short, lines))
                found[short, "test: chosen"] = self._on("test", short, "mtad", WARP | self.settings()[best.name])
        return found

    def fastest(self, short: str, lines: dict[tuple, list[dict]]) -> int:
        """The draft length of the base on the validation items of a task."""
        return max(self.gammas, key=lambda gamma: self._speed(lines[short, f"validation: base, gamma {gamma}"]))

    def _validated(self, short: str, lines: dict[tuple, list[dict]]) -> list[dict]:
        return lines[short, f"validation: base, gamma {self.fastest(short, lines)}"]

    def best(self, short: str, lines: dict[tuple, list[dict]]) -> Candidate | None:
        """The choice for a task, from its validation items alone."""
        found = fastest_tolerated(self.candidates(short, lines), self.tolerated, self.rule)
        return found if found and found.speed > self._speed(self._validated(short, lines)) else None

    def candidates(self, short: str, lines: dict[tuple, list[dict]]) -> list[Candidate]:
        """Every setting with its loss on the validation items of a task."""
        base = self._validated(short, lines)
        return [
            Candidate(name, reduction(accuracy_difference(own, base)), self._speed(own))
            for name in self.settings()
            for own in [lines[short, f"validation: {name}"]]
        ]

    def _speed(self, lines: list[dict]) -> float:
        """Tokens a forward of the target, one of the draft counted as `draft_cost` of it: no clock decides, so that
        the choice is the same on every machine."""
        forwards = sum(line["target_forwards"] + self.draft_cost * line["draft_forwards"] for line in lines)
        return sum(line["accepted"] + line["bonus"] for line in lines) / forwards

    @cached_property
    def chosen(self) -> pd.DataFrame:
        """A row a task: the chosen setting, its loss where it was chosen and on test items, and its cost there."""
        rows = []
        for short in self.tasks:
            best = self.best(short, self.lines)
            row = {
                "task": short,
                "base, gamma": self.fastest(short, self.lines),
                "chosen": best.name if best else NONE,
            }
            if best is None:
                rows.append(row)
                continue
            e, faster = self.test_loss(short), self.test_speed(short)
            rows.append(
                row
                | {
                    "loss, validation": best.loss.value,
                    "loss, test": e.value,
                    "low": e.low,
                    "high": e.high,
                    "items": e.n,
                    "tokens a unit, ratio": faster.value,
                    "ratio low": faster.low,
                    "ratio high": faster.high,
                }
            )
        return pd.DataFrame(rows).set_index("task").rename_axis(None)

    def test_loss(self, short: str) -> Estimate:
        """Points lost on test items by the chosen setting."""
        return reduction(self.judged("test: chosen", "test: base", (short,)))

    def test_speed(self, short: str) -> Estimate:
        """Tokens a unit of cost of the chosen setting over those of the base, on test items."""
        return self.cheaper("test: chosen", "test: base", (short,))

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Loss in points and tokens a unit of cost of every setting on validation items, a row each."""
        rows = [
            {"task": short, "setting": c.name, "loss": c.loss.value, "low": c.loss.low, "high": c.loss.high,
             "tokens a unit": c.speed}
            for short in self.tasks
            for c in self.candidates(short, self.lines)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def figure_choice(self):
        """Loss against tokens a unit of cost on validation items; the dashed line is what is tolerated."""
        figure, axes = figures.panels(self.tasks)
        looks = figures.looks([f"gamma {gamma}" for gamma in self.gammas])
        for axis, task in zip(axes, self.tasks, strict=True):
            rows = self.tried[self.tried.task == task]
            for name, look in looks.items():
                part = rows[rows.setting.str.startswith(f"{name},")]
                figures.bars(axis, name, part["tokens a unit"], part.loss, part.low, part.high, **look)
            axis.axhline(self.tolerated, **figures.LINE | {"ls": "--"})
            axis.set_xlabel("tokens a unit of cost; dashed: tolerated")
        axes[0].set_ylabel(f"points lost against {self.base}")
        figures.name_ends(axes)
        return figure

    def claims(self) -> list[Claim]:
        """What is promised on validation items is kept on test items: little is lost, and it is faster."""
        says = f"the chosen setting loses at most {self.tolerated:g} points on test items of"
        chosen = [short for short in self.tasks if (short, "test: chosen") in self.lines]
        losses = bonferroni([self.test_loss(short) for short in chosen])
        found = [
            Claim(OWN, f"{says} {short}", "", e, LOST, at_most(e, self.tolerated))
            for short, e in zip(chosen, losses, strict=True)
        ]
        says = f"the chosen setting is cheaper a token than {self.base} at its fastest, on test items of"
        ratios = bonferroni([self.test_speed(short) for short in chosen])
        return found + [
            Claim(OWN, f"{says} {short}", "", e, "times", multiple(e))
            for short, e in zip(chosen, ratios, strict=True)
        ]

    def reading(self) -> str:
        lines = []
        for short, row in self.chosen.iterrows():
            base = f"{self.base}, gamma {row['base, gamma']}"
            if row.chosen == NONE:
                lines.append(f"- **{short}**: {NONE}, {base}.")
                continue
            told = row["ratio low"] > 1
            slower = "" if told else f": {'slower' if row['ratio high'] < 1 else 'not faster'}, so decode losslessly"
            lines.append(
                f"- **{short}**: {row.chosen}. Lost against {base}: {row['loss, validation']:.1f} points on "
                f"validation items, {row['loss, test']:.1f} [{row.low:.1f}, {row.high:.1f}] on test items; "
                f"{row['tokens a unit, ratio']:.2f} [{row['ratio low']:.2f}, {row['ratio high']:.2f}] times its "
                f"tokens a unit of cost{slower}."
            )
            rows = self.tried[self.tried.task == short]
            if ((rows.low <= 0) & (rows.high >= 0)).all():
                lines.append(f"- **{short}**: no setting tried is told from {base} by its score on validation items.")
            if row.chosen.endswith(f"tau {min(self.taus):g}"):
                lines.append(f"- **{short}**: this is the lowest tau tried, and a lower one may be cheaper still.")
        return "\n".join(lines)

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "chosen": self.chosen.reset_index(names="task"),
            "tried": self.tried,
            "forwards": self.forward_times,
        }
        return self.write(tables, {"choice": self.figure_choice()})
