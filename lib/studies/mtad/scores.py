"""MTAD's main table: quality, perplexity and cost of every way to decode with the same draft."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import corrected
from lib.errors import require_known
from lib.reporting.claims import OWN, REPEAT, Claim, more, multiple, with_room
from lib.reporting.result_folder import headline
from lib.running.code import Name, name_of
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.run import Run
from lib.studies.base import SHORT
from lib.studies.mtad.base import DraftingStudy
from lib.studies.mtad.pair import reduction
from lib.studies.mtad.passes import passes
from lib.studies.mtad.ways import CONTROLS, LOSSLESS, WAYS

# Against what MTAD is held: name -> why.
AGAINST = ("sampling", "greedy", "speculative", "speculative, greedy", "threshold", "typical")
CLAIMED = {"ICLR": 25.0, "v4": 43.0}  # better downstream scores than single-token sampling, in %
SHOWN = ("speculative", "MTAD", "MMTAD")  # pass by pass
FASTER = {"v2, ICLR": 1.42, "v4": 1.26}  # than speculative decoding


@dataclass(frozen=True)
class Study(DraftingStudy):
    """All ways of lib/studies/mtad/ways.py, gamma 4 and the warp of the released code (T 1, top-k 10, top-p
    0.9) for all of them but greedy decoding and beam search."""

    items: int = 100
    samples: int = 2

    methods: tuple[str, ...] = tuple(WAYS)

    notebook = "30_mtad_scores"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("method", self.methods, WAYS)

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, name)."""
        return {(short, name): self.named(short, name) for short in self.tasks for name in self.methods}

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """MTAD and its tree minus others in points."""
        pairs = [(way, other) for way in ("MTAD", "MMTAD") for other in AGAINST if other in self.methods]
        return self.differences([pair for pair in [*pairs, ("MMTAD", "MTAD")] if set(pair) <= set(self.methods)])

    @cached_property
    def controls(self) -> pd.DataFrame:
        """Each lossless method minus sampling; rules of today and options of MTAD minus what they are held against.

        That the first are lossless is shown by tests on enumerated distributions: here only a gross fault would show.
        """
        pairs = [*((way, "sampling") for way in LOSSLESS), *CONTROLS]
        return self.differences([pair for pair in pairs if set(pair) <= set(self.methods)])

    @property
    def lossless(self) -> pd.DataFrame:
        """The lossless ones of `controls`."""
        return self.controls[self.controls.way.isin(LOSSLESS)] if len(self.controls) else self.controls

    @cached_property
    def perplexities(self) -> pd.DataFrame:
        """Change of perplexity in %, the same pairs with sampling and speculative decoding."""
        pairs = [(way, other) for way in ("MTAD", "MMTAD", "greedy") for other in ("sampling", "speculative")]
        return self.differences(pairs, "likelier")

    @cached_property
    def speeds(self) -> pd.DataFrame:
        """Tokens a unit of cost, over that of speculative decoding with the same draft: a row a way."""
        rows = []
        for name in self.methods:
            if name != "speculative":
                e = self.cheaper(name, "speculative")
                rows.append({"name": name, "ratio": e.value, "low": e.low, "high": e.high})
        return pd.DataFrame(rows).set_index("name").rename_axis(None)

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """What decodes the passes that are shown, besides."""
        names, files = super().measured_by()
        return [*names, name_of(passes)], files

    @cached_property
    def passes(self) -> pd.DataFrame:
        """The first responses of each task pass by pass, by the ways of SHOWN; see passes.py."""
        return self.measurement("passes", self._passes)

    def _passes(self, responses: int = 2) -> pd.DataFrame:
        pair, found = [model_of(name, self.device) for name in (self.model, self.draft)], []
        for short in self.tasks:
            items = items_of(SHORT.get(short, short), "test", self.items)[:responses]
            for way in SHOWN:
                if way in self.methods:
                    found.append(passes(*pair, items, self.named(short, way)).assign(task=short, way=way))
        return pd.concat(found) if found else pd.DataFrame()

    def figure_quality(self):
        """What each way costs, in tokens a unit, and scores, with its 95 % interval; dotted: sampling."""
        return self.by_cost(self.summary.assign(speed=1 / self.summary.units))

    def claims(self) -> list[Claim]:
        """Better than sampling, less perplexing, cheaper than speculative decoding; then our controls."""
        found, ways = [], {"ICLR": "MTAD", "v2, ICLR": "MTAD", "v4": "MMTAD"}
        gains = corrected([self.relative(ways[where], "sampling") for where in CLAIMED])
        for (where, gain), relative in zip(CLAIMED.items(), gains, strict=True):
            way = ways[where]
            says = f"{way} scores higher than token-by-token sampling, all tasks"
            ruling = self.scores_higher(relative, gain, "sampling")
            found.append(Claim(f"abstract, {where}", says, f"+{gain:g} %", relative, "%", ruling))
        lower = reduction(self.likelier("MTAD", "sampling"))
        found.append(
            Claim(
                "abstract, v2",
                "MTAD's texts are less perplexing than sampled ones",
                "21.2 % lower",
                lower,
                "% lower",
                with_room(more(lower, 21.2), self.room_below("sampling")),
            )
        )
        costs = bonferroni([self.cheaper(ways[where], "speculative") for where in FASTER])
        for (where, ratio), e in zip(FASTER.items(), costs, strict=True):
            way = ways[where]
            says = f"{way} is faster than speculative decoding, in forwards weighted by their time"
            words = f"{ratio:g}x"  # by the clock, which notebook 38 judges
            found.append(Claim(f"abstract, {where}", says, words, e, "times", multiple(e, ratio), kind=REPEAT))
        others = [name for name in AGAINST[1:] if name in self.methods and name != "speculative, greedy"]  # as greedy
        for name, e in zip(others, corrected([self.judged("MTAD", name) for name in others]), strict=True):
            drawn = ", drawn at temperature 1," if name == "greedy" else ""
            says = f"MTAD{drawn} scores higher than {name}, all tasks"
            found.append(Claim(OWN, says, "", e, "points", more(e)))
        pairs = [pair for pair in CONTROLS if set(pair) <= set(self.methods)]
        for (way, held), e in zip(pairs, corrected([self.judged(*pair) for pair in pairs]), strict=True):
            found.append(Claim(OWN, f"{way} scores higher than {held}, all tasks", "", e, "points", more(e)))
        return found

    def reading(self) -> str:
        """Quality first, then what it costs."""
        rows = self.together(self.comparisons)
        lines = []
        for way in ("MTAD", "MMTAD"):
            parts = [
                f"{r.against} {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}], {r.verdict}"
                for r in rows[rows.way == way].itertuples()
            ]
            lines.append(f"- **{way}** minus others, accuracy in points, all tasks: {'; '.join(parts)}.")
        e = self.likelier("MTAD", "sampling")
        lines.append(
            f"- Perplexity of MTAD's texts against sampled ones: {e.value:+.1f} % [{e.low:.1f}, {e.high:.1f}]; that "
            f"of a text without any surprise would be {self.room_below('sampling'):.1f} % lower."
        )
        speeds = self.speeds
        parts = [
            f"{name} {speeds.ratio[name]:.2f} [{speeds.low[name]:.2f}, {speeds.high[name]:.2f}]"
            for name in speeds.sort_values("ratio", ascending=False).index
        ]
        lines.append(
            "- Tokens a unit of cost over those of speculative decoding (a forward of the draft costs "
            f"{self.cost_ratio:.2f} of the target's): {'; '.join(parts)}."
        )
        told = self.lossless.query("verdict != 'tied'") if len(self.lossless) else self.lossless
        lines.append(
            f"- Lossless methods told apart from sampling by their accuracy, of {len(self.lossless)} comparisons: "
            f"{', '.join(f'{r.way} ({r.task})' for r in told.itertuples()) or 'none'}."
        )
        if {"HSD", "block verification"} <= set(self.methods):
            same, count = self.same_texts("HSD", "block verification")
            lines.append(f"- HSD's texts are those of block verification in {same} of {count} responses.")
        parts = [
            f"{r.way} over {r.against} ({r.task}) {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}]"
            for r in self.controls.itertuples()
            if r.way not in LOSSLESS and r.verdict != "tied"
        ]
        lines.append(f"- Rules of today and options of MTAD told apart, points: {'; '.join(parts) or 'none'}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        change, given = self.likelier("MTAD", "sampling"), (self.profile, self.notebook)
        room = self.room_below("sampling")
        return {
            "mtad_perplexity_change_percent": headline(change.value, change.low, change.high, change.n, "%", *given),
            "perplexity_least_change_percent": headline(-room, None, None, change.n, "%", *given),
        }

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "comparisons": self.comparisons,
            "controls": self.controls,
            "perplexities": self.perplexities,
            "speeds": self.speeds.reset_index(names="name"),
            "likelihood": self.surprise,
            "forwards": self.forward_times,
            "passes": self.passes,
        }
        return self.write(tables, {"quality": self.figure_quality()})
