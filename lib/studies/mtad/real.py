"""All ways to decode on SmolLM2 with the distilled draft, on tasks in and out of what the draft was taught."""

from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from scipy.stats import norm

from lib.analysis.stats import Estimate, corrected
from lib.analysis.totals import difference_of_shares
from lib.errors import require_known
from lib.paths import CHECKPOINTS
from lib.reporting import figures
from lib.reporting.claims import CLAIM, OWN, REPEAT, Claim, above_floor, more
from lib.reporting.papers import printed
from lib.reporting.result_folder import headline
from lib.reporting.tables import difference_table, percent
from lib.running.run import Run
from lib.studies.mtad.rated import MEASURES, RatedStudy
from lib.studies.mtad.ways import PUBLISHED, WARP, WAYS

LEARNED = ("instructions", "gsm8k")  # what the draft's text answers, see lib/training/mtad/text.py
SIBLINGS = ("instructions",)  # made as the draft's training prompts; notebook 37 has what is lost at home
DEFAULT_WAYS = ("sampling", "greedy", "speculative", "HSD", "token tree", "threshold", "MTAD", "MMTAD")
OF_GAMMA = ("speculative", "hsd", "threshold", "typical", "truncated", "mtad")  # methods that take the study's
# Our names of the tasks of the authors' logs, and how many items these have.
LOGGED = {"Spider": (("spider_execution", "spider"), 100), "HumanEval": (("humaneval",), 164)}


@dataclass(frozen=True)
class Study(RatedStudy):
    """`tokens`: the length limit, below that of the tasks for a small machine's sake. `gamma` and `tau` as in
    notebook 34, so that speed and score are those of one setting. `top_k`: of all sampled ways; `width`: of MTAD's
    beams; `fallback`, `rollback`: of BiLD."""

    items: int = 40

    samples: int = 1
    tasks: tuple[str, ...] = ("instructions", "gsm8k", "ifeval", "humaneval", "spider", "triviaqa", "mt_bench")
    model: str = "smollm2-135m"
    draft: str = "smollm2-draft"
    tokens: int = 96
    gamma: int = 3
    tau: float = 0.05
    top_k: int = WARP["top_k"]
    width: int = 4
    fallback: float = 0.3
    rollback: float = 2.0
    methods: tuple[str, ...] = DEFAULT_WAYS

    notebook = "35_mtad_real"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("method", self.methods, WAYS)

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, name)."""
        return {
            (short, name): self._run(short, WAYS[name][0], **self.options(name), max_new_tokens=self.tokens)
            for short in self.tasks
            for name in self.methods
        }

    def options(self, name: str) -> dict:
        """Of a method by name: its own, and what this study has a parameter for."""
        method, options = WAYS[name]
        options = options | ({"top_k": self.top_k} if options.get("top_k") else {})
        if method in OF_GAMMA:
            options = options | {"gamma": self.gamma}
        if method == "bild":
            options = options | {"fallback": self.fallback, "rollback": self.rollback}
        options = options | ({"width": self.width} if method == "mtad" else {})
        return options | ({"tau": self.tau} if method in ("mtad", "threshold") else {})

    @property
    def _called(self) -> str:
        """The target as a claim names it."""
        return "SmolLM2" if self.model.startswith("smollm2") else self.model

    @property
    def judged_tasks(self) -> tuple[str, ...]:
        """Those whose scores are compared."""
        return tuple(task for task in self.answered if task not in SIBLINGS)

    def table(self, value: str = "accuracy") -> pd.DataFrame:
        """As of any study; a task that is rated has its measures in the place of a score, each with its interval."""
        found = super().table(value)
        if value != "accuracy":
            return found
        columns = {}
        for task in found.columns:
            columns |= self.rated_columns(task) if task in self.rated_tasks else {task: list(found[task])}
        return pd.DataFrame(columns, index=found.index)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """MTAD and MMTAD minus others: in points of score by judged task and over all of them; by rated task in its
        first measure."""
        judged = self.judged_tasks
        groups = [(task, (task,)) for task in judged] + ([("all", judged)] if len(judged) > 1 else [])
        found = []
        for way in ("MTAD", "MMTAD"):
            for other in ("sampling", "greedy", "speculative", "threshold"):
                labels = {"way": way, "against": other}
                found += [(labels | {"task": label}, self.judged(way, other, tasks)) for label, tasks in groups]
                found += [
                    (labels | {"task": f"{task}, {MEASURES[task][0][0]}"}, self.rated_difference(task, way, other))
                    for task in self.rated_tasks
                ]
        return difference_table(found).drop(columns="p", errors="ignore")  # an empty table has no column

    def figure_domains(self):
        """Acceptance by task: speculative decoding, the token-wise rule, MTAD."""
        shown = [name for name in ("speculative", "threshold", "MTAD") if name in self.methods]
        rows = self.summary[self.summary.name.isin(shown)]
        figure, axis = plt.subplots(figsize=(9, 3.4))
        sns.barplot(rows, x="label", y="acceptance", hue="name", order=list(self.tasks), ax=axis)
        for tick in axis.get_xticklabels():
            tick.set_fontweight("bold" if tick.get_text() in LEARNED else "normal")
        axis.set(xlabel="bold: what the draft was distilled on", ylabel="acceptance, %")
        axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        sns.despine()
        return figure

    def logs(self) -> pd.DataFrame:
        """The authors' logs of MTAD and SpecInfer, and ours of the same tasks.

        p: theirs by a z test of two shares, from their counts; ours paired. times as fast: theirs by the clock, ours
        in units of cost.
        """
        cells = printed("mtad", "logs score", "logs ms a token", "logs block efficiency")
        wide = cells.pivot(index=["model", "task"], columns=["table", "method"], values="value")
        found = []
        for (model, task), row in wide.iterrows():
            a, b, n = row["logs score", "MTAD"] / 100, row["logs score", "SpecInfer"] / 100, LOGGED[task][1]
            z = (a - b) / (2 * ((a + b) / 2) * (1 - (a + b) / 2) / n) ** 0.5
            speed = row["logs ms a token", "SpecInfer"] / row["logs ms a token", "MTAD"]
            found.append(
                {"model": model, "task": task, "MTAD, %": 100 * a, "SpecInfer, %": 100 * b, "items": n,
                 "p": 2 * norm.sf(abs(z)), "times as fast": speed}
            )  # fmt: skip
        ours = [(task, short) for task, (names, _) in LOGGED.items() for short in names if short in self.tasks]
        for task, short in ours:
            if {"MTAD", "token tree"} <= set(self.methods):
                rows = self.summary.set_index(["label", "name"]).accuracy
                e, speed = (f("MTAD", "token tree", (short,)) for f in (self.judged, self.cheaper))
                row = {"model": f"{self.model} (ours)", "task": task, "MTAD, %": rows[short, "MTAD"]}
                row |= {"SpecInfer, %": rows[short, "token tree"], "items": e.n, "p": e.p}
                found.append(row | {"times as fast": speed.value})
        return pd.DataFrame(found).round(3)

    def figure_learning(self):
        """The draft's loss and its acceptance along its training; None for one that was not distilled here."""
        path = CHECKPOINTS / self.draft / "curve.jsonl"
        rows = pd.read_json(path, lines=True) if path.exists() else pd.DataFrame()
        if "held_out_acceptance" not in rows:
            return None
        figure, axes = figures.panels(("loss", "acceptance"), width=4.2)
        axes[0].plot(rows.step, rows.loss, lw=1, color=figures.BLUE)
        axes[0].set(xlabel="step", ylabel="divergence from the target, nats")
        axes[1].plot(rows.step, 100 * rows.acceptance, lw=1, color="0.6", label="answers learned from")
        held = rows.dropna(subset="held_out_acceptance")
        look = {"color": figures.BLUE, "marker": "o"}
        figures.curve(axes[1], "held out", held.step, 100 * held.held_out_acceptance, **look)
        axes[1].set(xlabel="step", ylabel="acceptance, %")
        figures.name_ends(axes[1:])
        return figure

    def claims(self) -> list[Claim]:
        """Higher scores than sampling; the same score as speculative decoding; what leaving the domain costs."""
        tasks = self.judged_tasks
        if not tasks:
            return []
        scores = self.summary.set_index(["label", "name"]).accuracy
        top = max(scores[task, name] for task in tasks for name in ("MTAD", "MMTAD", "sampling", "speculative"))
        found, kind = [], CLAIM if (self.gamma, self.tau) == PUBLISHED else REPEAT
        promised = {("abstract, ICLR", "MTAD"): 25.0, ("abstract, v4", "MMTAD"): 43.0}
        gains = corrected([self.relative(way, "sampling", tasks) for _, way in promised])
        for ((where, way), gain), e in zip(promised.items(), gains, strict=True):
            says = f"{way} (tau {self.tau:g}) scores higher than sampling, judged tasks on {self._called}"
            ruling = above_floor(self.scores_higher(e, gain, "sampling", tasks), top)
            found.append(Claim(where, says, f"+{gain:g} %", e, "%", ruling, kind=kind))
        e = self.judged("MTAD", "speculative", tasks)
        says = f"MTAD scores higher than speculative decoding on {self._called}"
        found.append(Claim(OWN, says, "", e, "points", above_floor(more(e), top)))
        outside = tuple(task for task in self.tasks if task not in LEARNED)
        inside = tuple(task for task in self.tasks if task in LEARNED)
        if inside and outside:
            e = self.acceptance_gap("MTAD", inside, outside)
            says = "MTAD accepts more of the draft on tasks like those that it was distilled on"
            found.append(Claim(OWN, says, "", e, "points of acceptance", more(e)))
        return found

    def acceptance_gap(self, name: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> Estimate:
        """Acceptance on some tasks minus that on others, in points; responses of either side are drawn anew."""
        sides = [
            np.array([[line["accepted"], line["reached"]] for task in tasks for line in self.lines[task, name]])
            for tasks in (inside, outside)
        ]
        return percent(difference_of_shares(*sides))

    def reading(self) -> str:
        lines = []
        tasks = self.judged_tasks
        for name in ("sampling", "greedy", "speculative", "threshold"):
            if tasks and name in self.methods:
                e = self.judged("MTAD", name, tasks)
                p = self.likelier("MTAD", name, self.tasks)
                lines.append(
                    f"- MTAD minus **{name}**, judged tasks: {e.value:+.1f} points [{e.low:.1f}, {e.high:.1f}]; "
                    f"perplexity, all tasks: {p.value:+.1f} % [{p.low:.1f}, {p.high:.1f}]."
                )
        for task in self.rated_tasks:
            measure = MEASURES[task][0][0]
            rows = [(name, self.rating(task, name, measure)) for name in self.methods]
            parts = [f"{name} {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for name, e in rows if e.n]
            lines.append(f"- **{task}**, {measure}: {'; '.join(parts)}.")
        rows = self.summary.set_index(["label", "name"]).acceptance
        for name in (way for way in ("speculative", "MTAD") if way in self.methods):
            parts = [f"{task} {rows[task, name]:.0f} %" for task in self.tasks if pd.notna(rows[task, name])]
            lines.append(f"- Acceptance of **{name}** by task: {'; '.join(parts)}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        if not self.judged_tasks:
            return {}
        e = self.judged("MTAD", "speculative", self.judged_tasks)
        values = [x for line in self.tasks for x in self.lines[line, "MTAD"]]
        blocks = sum(line["blocks"] for line in values)
        efficiency = sum(line["accepted"] + line["bonus"] for line in values) / blocks
        given = (self.profile, self.notebook)
        return {
            "mtad_vs_speculative_score": headline(e.value, e.low, e.high, e.n, "points", *given),
            "mtad_block_efficiency": headline(efficiency, None, None, len(values), "tokens a pass", *given),
        }

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "comparisons": self.comparisons,
            "likelihood": self.surprise,
            "forwards": self.forward_times,
        }
        # Only where there are any: a committed table without a row would stand for the judge's that came later.
        tables |= {"rated": self.rated} if len(self.rated) else {}
        tables |= {"judged": self.judged_by_model} if len(self.judged_by_model) else {}
        figures = {"domains": self.figure_domains()}
        if (curve := self.figure_learning()) is not None:
            figures["curve"] = curve
        return self.write(tables, figures)
