"""Which part of AutoDeco does it: one head or both, loss, masking, weights, alpha; and how the heads learn."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lib.analysis.crossed import components, crossed_mean
from lib.errors import UserError, require_known
from lib.paths import CHECKPOINTS
from lib.reporting import figures
from lib.reporting.claims import CLAIM, REPEAT, Claim, more
from lib.reporting.result_folder import headline
from lib.reporting.tables import accuracy_cells, comparison_table, estimate_of, outcomes, percent, summary_row
from lib.running.code import Name
from lib.running.run import Run
from lib.studies.autodeco.scores import mean_setting
from lib.studies.base import SHORT, BaseStudy, limit
from lib.studies.checkpoints import learning_curve, training_record
from lib.training.autodeco.recipe import RECIPES

# The heads that are compared, by what their name adds to that of the base, and how tables call them.
VARIANTS = {
    "autodeco": "AutoDeco (both heads, released loss)",
    "temperature": "temperature head alone",
    "top-p": "top-p head alone",
    "paper": "the paper's one cross-entropy",
    "unmasked": "no easy-token masking",
    "unweighted": "no fine-tuning weights",
    "soft": "alpha 10 instead of 30",
    "plain": "no statistics for the top-p head",
    "autodeco-1": "AutoDeco, second seed",
    "autodeco-2": "AutoDeco, third seed",
}
SEEDS = ("autodeco", "autodeco-1", "autodeco-2")  # the same recipe
FULL, SINGLE = "autodeco", ("temperature", "top-p")
NAMES = {f"study-ar-{variant}": name for variant, name in VARIANTS.items()}  # those whose files are committed
DEFAULT = "default sampling"


@dataclass(frozen=True)
class Study(BaseStudy):
    """Heads that were trained with one thing changed, and default sampling.

    `variants`: some of VARIANTS, `autodeco` among them. `tokens`: the length limit; 0 is the task's own.
    """

    samples: int = 8
    tasks: tuple[str, ...] = ("math", "qa", "code")
    model: str = "study-ar"
    variants: tuple[str, ...] = tuple(VARIANTS)
    tokens: int = 0

    notebook = "13_autodeco_ablation"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("variant", self.variants, VARIANTS)
        if FULL not in self.variants:
            raise UserError(f"variants must hold {FULL}: it is what the others are compared with")

    @property
    def names(self) -> dict[str, str]:
        """The heads that are compared, and how tables call them."""
        return {f"{self.model}-{variant}": VARIANTS[variant] for variant in VARIANTS if variant in self.variants}

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, variant)."""
        size, runs = {"items": self.items, "samples": self.samples, **limit(self.tokens)}, {}
        for short in self.tasks:
            task = SHORT.get(short, short)
            runs[short, DEFAULT] = Run.of(self.model, task, "autoregressive", temperature=1.0, **size)
            for heads, name in self.names.items():
                runs[short, name] = Run.of(heads, task, "autodeco", **size)
        return runs

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The curves and seconds that the training left."""
        files = ("curve.jsonl", "measured.json", "recipe.json")
        return [], [CHECKPOINTS / heads / file for heads in NAMES for file in files]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a run: accuracy with its interval, mean setting, cost."""
        return pd.DataFrame(
            summary_row(
                self.all_runs[key],
                lines,
                label=key[0],
                variant=key[1],
                **({"temperature": 1.0, "top_p": 1.0} if key[1] == DEFAULT else mean_setting(lines)),
            )
            for key, lines in self.lines.items()
        )

    def table(self) -> pd.DataFrame:
        """Accuracy in % with its 95 % interval, and mean temperature and top-p: a line a variant, columns a task."""
        rows = self.summary.assign(
            accuracy=accuracy_cells(self.summary),
            setting=[f"{r.temperature:.2f} / {r.top_p:.2f}" for r in self.summary.itertuples()],
        )
        table = rows.pivot(index="variant", columns="label", values=["accuracy", "setting"])
        columns = [(value, task) for value in ("accuracy", "setting") for task in self.tasks]
        return table.loc[[DEFAULT, *self.names.values()], columns].rename_axis(index=None, columns=[None, None])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Each variant minus default sampling, and minus AutoDeco whole, in points, paired; p after Holm."""
        pairs = []
        for (task, variant), lines in self.lines.items():
            for against in (DEFAULT, VARIANTS[FULL]):
                if variant not in (DEFAULT, against):
                    labels = {"task": task, "variant": variant, "against": against}
                    pairs.append((labels, lines, self.lines[task, against]))
        return comparison_table(pairs)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """What another training seed does, beside what other items do: a row a task, empty for fewer than two seeds.

        Accuracy by seed and half the width of the first one's interval over items; then every seed minus default
        sampling, in points: the mean, its interval for seeds and items like these (crossed random factors), and the
        standard deviation of seeds, with what items and draws alone would give taken out.
        """
        names = [VARIANTS[variant] for variant in SEEDS if variant in self.variants]
        if len(names) < 2:
            return pd.DataFrame()
        rows = []
        for task in self.tasks:
            shown = self.summary[self.summary.label == task].set_index("variant").loc[names]
            default = outcomes(self.lines[task, DEFAULT]).mean(1)
            values = np.array([outcomes(self.lines[task, name]).mean(1) - default for name in names])
            e = percent(crossed_mean(values))
            rows.append(
                {
                    "task": task,
                    "by seed, %": ", ".join(f"{value:.1f}" for value in shown.accuracy),
                    "items, +-": (shown.high - shown.low).iloc[0] / 2,
                    "minus default": e.value,
                    "low": e.low,
                    "high": e.high,
                    "p": e.p,
                    "sd of seeds": 100 * components(values)["rows"] ** 0.5,
                    "sd of means by seed": 100 * values.mean(1).std(ddof=1),
                }
            )
        return pd.DataFrame(rows).set_index("task").rename_axis(None)

    def figure_variants(self):
        """Each variant minus default sampling, in points with paired 95 % intervals; hollow where tied by Holm."""
        rows = self.comparisons[self.comparisons.against == DEFAULT].set_index("variant")
        names = {name: f"{name} - default" for name in self.names.values()}
        return figures.forest({task: rows[rows.task == task] for task in self.tasks}, names)

    def figure_learning(self):
        """Training loss, and mean T-hat and P-hat of a batch, against the step; a line a variant."""
        figure, axes = figures.panels(("loss (losses differ in kind)", "mean temperature", "mean top-p"), width=5)
        looks = figures.looks(list(self.names.values()))
        for heads, name in self.names.items():
            rows, look = learning_curve(heads), looks[name]
            for axis, key in zip(axes, ("loss", "temperature", "top_p"), strict=True):
                smooth = rows[key].rolling(10, min_periods=1).mean()
                figures.curve(axis, name, rows.step, smooth, **look | {"marker": "", "lw": 1.2})
        rows = learning_curve(f"{self.model}-{FULL}").dropna(subset="held_out")
        axes[0].plot(rows.step, rows.held_out, "k--", lw=1, label="AutoDeco, held-out answers")
        for axis in axes:
            axis.set_xlabel("step")
        figures.name_ends(axes)
        return figure

    def training(self) -> pd.DataFrame:
        """What each set of heads was trained with, how long it took, and its size."""
        rows = []
        for heads, name in self.names.items():
            recipe, folder = RECIPES[heads], CHECKPOINTS / heads
            size = (folder / "autodeco_heads.safetensors").stat().st_size
            rows.append({"heads": name, "steps": recipe.steps, "kB": size // 1000, **training_record(heads)})
        return pd.DataFrame(rows)

    def claims(self) -> list[Claim]:
        """Either head alone over default sampling, and both over either: Figure 4, which is of mathematics."""
        single = [VARIANTS[variant] for variant in SINGLE]
        found = []
        for row in self.comparisons[self.comparisons.variant.isin(single)].itertuples():
            e, kind = estimate_of(row), CLAIM if row.task in ("math", "aime24") else REPEAT
            if row.against == DEFAULT:
                says = f"{row.variant} beats default sampling on {row.task}"
                found.append(Claim("Figure 4", says, "3 to 3.5 points", e, "points", more(e, 3), kind=kind))
            else:
                both = e.mirrored()
                says = f"both heads beat {row.variant} on {row.task}"
                found.append(Claim("Figure 4", says, "more", both, "points", more(both), kind=kind))
        return found

    def reading(self) -> str:
        """Single heads against default sampling (the paper: 3 to 3.5 points each, both best), then what matters."""
        lines = []
        for variant in (VARIANTS[name] for name in (*SINGLE, FULL) if name in self.variants):
            rows = self.comparisons.query("variant == @variant and against == @DEFAULT")
            parts = [
                f"{r.task} {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}], {r.verdict}" for r in rows.itertuples()
            ]
            lines.append(f"- **{variant}** minus default sampling, in points: {'; '.join(parts)}.")
        rows = self.comparisons[self.comparisons.against == VARIANTS[FULL]]
        differs = [
            f"{r.variant} on {r.task} ({r.difference:+.1f})" for r in rows[rows.verdict != "tied"].itertuples()
        ]
        said = ", ".join(differs) if differs else "none"
        lines.append(f"- Variants that differ from AutoDeco whole (p < 0.05 after Holm, of {len(rows)}): {said}.")
        if len(self.seeds):
            parts = [
                f"{task} {r['minus default']:+.1f} [{r['low']:.1f}, {r['high']:.1f}], standard deviation of means by "
                f"seed {r['sd of means by seed']:.1f}"
                for task, r in self.seeds.iterrows()
            ]
            lines.append(
                "- **Training seeds** as a random factor beside items, AutoDeco minus default sampling, in points: "
                f"{'; '.join(parts)}."
            )
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """Seconds of head training, as the training command measured them."""
        seconds = training_record(f"{self.model}-{FULL}")["seconds"]
        return {"autodeco_head_training_seconds": headline(seconds, None, None, 1, "s", self.profile, self.notebook)}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        figures = {"variants": self.figure_variants(), "curves": self.figure_learning()}
        return self.write({"summary": self.summary, "comparisons": self.comparisons}, figures)
