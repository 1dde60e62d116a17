"""MTJD, which MTAD approximates: blocks chosen by the target's own joint, by the length of a block."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lib.analysis.perplexity import perplexity_change
from lib.analysis.stats import corrected
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, more
from lib.running.run import Run
from lib.studies.mtad.base import DraftingStudy
from lib.studies.mtad.pair import reduction
from lib.studies.mtad.ways import WARP

CLAIMED = {"Spider": 138.0, "HumanEval": 130.0}  # higher scores than sampling's, in %
# Task -> the printed one that it is, or stands in for.
PRINTED_AS = {"spider": "Spider", "spider_execution": "Spider", "humaneval": "HumanEval", "code": "HumanEval"}


@dataclass(frozen=True)
class Study(DraftingStudy):
    """`blocks`: tokens a block; `width`: blocks kept while one grows; `drawn`: temperatures of the joint by which
    blocks of the longest length are drawn instead of the likeliest."""

    items: int = 100
    samples: int = 2

    blocks: tuple[int, ...] = (1, 2, 4, 8)
    width: int = 16
    drawn: tuple[float, ...] = (0.5, 1.0)

    notebook = "31_mtad_joint"

    def variants(self) -> dict[str, tuple[str, dict]]:
        """Name -> method and options."""
        found = {"sampling": ("autoregressive", WARP), "greedy": ("autoregressive", {})}
        found |= {f"likeliest block of {n}": ("mtjd", WARP | {"gamma": n, "width": self.width}) for n in self.blocks}
        for t in self.drawn:
            options = WARP | {"gamma": max(self.blocks), "width": self.width, "joint_temperature": t}
            found[f"block of {max(self.blocks)}, joint at {t:g}"] = ("mtjd", options)
        return found | {"beam search": ("beam", {})}

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, variant)."""
        return {
            (short, name): self._run(short, method, **options)
            for short in self.tasks
            for name, (method, options) in self.variants().items()
        }

    @property
    def longest(self) -> str:
        return f"likeliest block of {max(self.blocks)}"

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every variant minus sampling and minus greedy decoding, in points."""
        names = [name for name in self.variants() if name not in ("sampling", "greedy")]
        pairs = [(name, base) for base in ("sampling", "greedy") for name in names]
        return self.differences(pairs, tasks=self.answered) if self.answered else pd.DataFrame()

    @cached_property
    def perplexities(self) -> pd.DataFrame:
        """Change of perplexity in % against sampling and greedy decoding."""
        names = [name for name in self.variants() if name not in ("sampling", "greedy")]
        return self.differences([(name, base) for base in ("sampling", "greedy") for name in names], "likelier")

    def figure_blocks(self):
        """Perplexity and accuracy by the length of a block; dotted: token-by-token sampling."""
        figure, axes = figures.panels(("perplexity", "accuracy"), width=4.2)
        rows = self.summary.set_index(["label", "name"])
        for axis, value, low, high in (
            (axes[0], "perplexity", "ppl_low", "ppl_high"),
            (axes[1], "accuracy", "low", "high"),
        ):
            for i, (task, look) in enumerate(figures.looks(self.tasks).items()):
                part = rows.loc[[(task, f"likeliest block of {n}") for n in self.blocks]]
                x = [n * (1 + 0.02 * i) for n in self.blocks]
                figures.bars(axis, task, x, part[value], part[low], part[high], **look)
                axis.axhline(rows.loc[(task, "sampling"), value], color=look["color"], ls=":", lw=1)
            axis.set(xlabel="tokens a block; dotted: sampling", ylabel=value + (", %" if value == "accuracy" else ""))
            figures.ticks_at(axis, self.blocks)
        figures.name_ends(axes)
        return figure

    def claims(self) -> list[Claim]:
        """Lower perplexity than sampling, and higher scores on the task that has a counterpart among those printed;
        against greedy decoding as our control. No size is printed for the perplexity of MTJD."""
        lower, than_greedy = corrected(
            [reduction(self.likelier(self.longest, way)) for way in ("sampling", "greedy")]
        )
        ours = f"MTJD, the likeliest blocks of {max(self.blocks)},"
        says = f"{ours} is less perplexing than token-by-token sampling"
        found = [Claim("Theorem 3.2, Corollary 3.3", says, "lower", lower, "% lower", more(lower))]
        if self.answered:
            gains = corrected([self.relative(self.longest, "sampling", (task,)) for task in self.answered])
            for task, e in zip(self.answered, gains, strict=True):
                of, says = PRINTED_AS.get(task), f"{ours} scores higher than sampling on {task}"
                gain = CLAIMED.get(of, 0.0)
                where, theirs = ("ICLR Table 4", f"+{gain:g} % on {of}") if of else (OWN, "")
                ruling = self.scores_higher(e, gain, "sampling", (task,))
                found.append(Claim(where, says, theirs, e, "%", ruling))
            others = ("greedy", "beam search")
            scores = corrected([self.judged(self.longest, other, self.answered) for other in others])
            for other, e in zip(others, scores, strict=True):
                found.append(Claim(OWN, f"{ours} scores higher than {other}, all tasks", "", e, "points", more(e)))
        says = f"{ours} is less perplexing than greedy decoding"
        return [*found, Claim(OWN, says, "", than_greedy, "% lower", more(than_greedy))]

    def reading(self) -> str:
        lines = []
        for base in ("sampling", "greedy"):
            p, score = self.likelier(self.longest, base), ""
            if self.answered:
                e = self.judged(self.longest, base, self.answered)
                score = f"accuracy {e.value:+.1f} points [{e.low:.1f}, {e.high:.1f}], "
            lines.append(
                f"- Likeliest blocks of {max(self.blocks)} against **{base}**, all tasks: "
                f"{score}perplexity {p.value:+.1f} % [{p.low:.1f}, {p.high:.1f}]; {self.by_few(base)}."
            )
        for t in self.drawn if self.answered else ():
            name = f"block of {max(self.blocks)}, joint at {t:g}"
            e = self.judged(name, "sampling", self.answered)
            lines.append(
                f"- Blocks of {max(self.blocks)} drawn from the joint at temperature {t:g}, against sampling: "
                f"{e.value:+.1f} points [{e.low:.1f}, {e.high:.1f}]. At 1 the two would be the same distribution, if "
                f"the {self.width} blocks kept were all there are."
            )
        return "\n".join(lines)

    def by_few(self, base: str) -> str:
        """How many answers differ from those of `base` in their perplexity, and its change without the one that does
        most: a mean over many that are the same hangs on few."""
        ours, theirs = (
            np.concatenate([np.nanmean(self._surprise_tables[task, way], 1, keepdims=True) for task in self.tasks])
            for way in (self.longest, base)
        )
        apart = np.nan_to_num(np.abs(ours - theirs)).ravel()
        rest = np.arange(len(apart)) != apart.argmax()
        e = perplexity_change(ours[rest], theirs[rest])
        differ = int((apart > 0).sum())
        said = f"{differ} of {len(apart)} answers differ"
        return f"{said}, and without the one that does most it is {e.value:+.2f} % [{e.low:.2f}, {e.high:.2f}]"

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "comparisons": self.comparisons,
            "perplexities": self.perplexities,
            "likelihood": self.surprise,
            "forwards": self.forward_times,
        }
        return self.write(tables, {"blocks": self.figure_blocks()})
