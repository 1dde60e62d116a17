"""AutoDeco's heads inside drafting: the same texts sooner, or the same speed by a constant?"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import corrected
from lib.reporting.claims import OWN, Claim, more, multiple
from lib.reporting.result_folder import headline
from lib.running.run import Run
from lib.studies.autodeco.scores import mean_setting
from lib.studies.base import SHORT, Timed, limit
from lib.studies.mtad.clock import ClockedStudy, speed_claim, told

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}  # with heads: what they say, and nothing else
SETTINGS = ("default", "constant", "AutoDeco", "AutoDeco in both")  # who sets temperature and top-p
METHODS = {"speculative": "speculative decoding", "mtad": "MTAD"}
ALONE = {"default": "default", "constant": "constant", "AutoDeco": "AutoDeco", "AutoDeco in both": "AutoDeco"}


@dataclass(frozen=True)
class Study(ClockedStudy):
    """Temperature and top-p are 1, AutoDeco's mean on the task, or what the heads say of every token; each alone,
    in speculative decoding and in MTAD, by the same draft.

    With `AutoDeco` the target alone has heads and the draft draws at 1; `in both` the draft is `draft_heads`, which
    is `draft` with heads of its own. A constant warps draft and target alike.
    """

    items: int = 100
    samples: int = 1
    heads: str = "study-ar-autodeco"
    draft: str = "ar-2m"
    draft_heads: str = "ar-2m-autodeco"
    gamma: int = 4
    tau: float = 0.5

    notebook = "39_composition"
    methods_by_clock = ("autoregressive", "autodeco", "speculative", "mtad")

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, name): a setting alone, or `setting, method`."""
        found = {}
        for short in self.tasks:
            found[short, "default"] = self._by("default", short, PLAIN)
            found[short, "AutoDeco"] = self._by("AutoDeco", short, {})
            for method in METHODS:
                for setting in SETTINGS:
                    if setting != "constant":
                        found[short, named(setting, method)] = self._by(setting, short, PLAIN, method)
        return found

    def _by(self, setting: str, short: str, options: dict, method: str = "") -> Run:
        """A run of a setting, alone or by a method that drafts."""
        learned = setting.startswith("AutoDeco")
        given = options | limit(self.tokens) | {"items": self.items, "samples": self.samples}
        if method:
            given |= {"draft": self.draft_heads if setting == "AutoDeco in both" else self.draft, "gamma": self.gamma}
            given |= {"heads": learned} | ({"tau": self.tau} if method == "mtad" else {})
        model = self.heads if learned else self.model
        alone = "autodeco" if learned else "autoregressive"
        return Run.of(model, SHORT.get(short, short), method or alone, **given)

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """Everything at the mean temperature and top-p that AutoDeco chose on the task."""
        return self._constants({short: mean_setting(lines[short, "AutoDeco"]) for short in self.tasks})

    def _constants(self, means: dict[str, dict[str, float]]) -> dict[tuple, Run]:
        return {
            (short, named("constant", method)): self._by("constant", short, PLAIN | mean, method)
            for short, mean in means.items()
            for method in ("", *METHODS)
        }

    def timed(self) -> list[Timed]:
        """The constants too: what they are does not decide how long they take."""
        constants = self._constants(dict.fromkeys(self.tasks, {}))
        return super().timed() + [self.timed_run(run) for run in constants.values()]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every drafted way minus its setting alone, and AutoDeco minus the constant, in points.

        Drafting loses nothing in speculative decoding, whose first rows would only find a gross fault.
        """
        pairs = [(named(setting, method), ALONE[setting]) for method in METHODS for setting in SETTINGS]
        pairs += [("AutoDeco", "constant")]
        pairs += [(named("AutoDeco in both", method), named("constant", method)) for method in METHODS]
        return self.differences(pairs)

    @cached_property
    def speed(self) -> pd.DataFrame:
        """Tokens a second of every way, and over those of its setting without a draft."""
        base = {named(setting, method): ALONE[setting] for setting in SETTINGS for method in ("", *METHODS)}
        return self.speeds(base | {name: "default" for name in ALONE.values()})

    def rules(self) -> pd.DataFrame:
        """A line a way: mean setting, counts and speed."""
        counts = self.counts()[["accepted", "acceptance", "target_forwards", "draft_forwards", "overshoot"]]
        return counts.join(self.speed[["tokens a second", "over", "ratio", "low", "high"]])

    def settings(self) -> pd.DataFrame:
        """The mean temperature and top-p that the heads chose: a line a task."""
        rows = {short: mean_setting(self.lines[short, "AutoDeco"]) for short in self.tasks}
        return pd.DataFrame(rows).T

    def figure(self):
        """Speed and accuracy of the drafted ways relative to their setting alone; hollow where the interval of speed
        has 1, or accuracy is not told apart after Holm."""
        pairs = [(named(setting, method), ALONE[setting]) for method in METHODS for setting in SETTINGS]
        return self.figure_loss(pairs, "the same setting without a draft", self.comparisons)

    def claims(self) -> list[Claim]:
        """Nobody prints such a claim: what a user of both methods asks."""
        both, constant = named("AutoDeco in both", "speculative"), named("constant", "speculative")
        faster = {
            f"{words} with {setting_words(setting)} is faster than AutoDeco alone": (
                named(setting, method),
                "AutoDeco",
            )
            for setting in ("AutoDeco", "AutoDeco in both")
            for method, words in METHODS.items()
        }
        faster["in speculative decoding heads in both are faster than a constant at their mean"] = both, constant
        speeds = bonferroni([self.faster(*pair) for pair in faster.values()])
        found = [speed_claim(OWN, says, e, multiple(e)) for says, e in zip(faster, speeds, strict=True)]
        longer = {
            "heads on the draft raise what speculative decoding accepts": named("AutoDeco", "speculative"),
            "speculative decoding accepts more with heads in both than with a constant at their mean": constant,
        }
        accepted = bonferroni([self.longer(both, other) for other in longer.values()])
        found += [Claim(OWN, says, "", e, "times", multiple(e)) for says, e in zip(longer, accepted, strict=True)]
        pairs = [("AutoDeco", "constant"), (named("AutoDeco in both", "mtad"), named("constant", "mtad"))]
        for (a, b), e in zip(pairs, corrected([self.judged(a, b) for a, b in pairs]), strict=True):
            found.append(Claim(OWN, f"{a} scores higher than {b}, all tasks", "", e, "points", more(e)))
        return found

    def reading(self) -> str:
        """Speed and acceptance by method, then score."""
        lines = []
        for method, words in METHODS.items():
            names = {setting: named(setting, method) for setting in SETTINGS}
            parts = [f"{setting} {told(self.faster(name, ALONE[setting]))}" for setting, name in names.items()]
            lines.append(f"- **{words}**, tokens a second over the same setting without a draft: {'; '.join(parts)}.")
            both, constant = names["AutoDeco in both"], names["constant"]
            lines.append(
                f"- **{words}**, heads in both over the constant: {told(self.faster(both, constant))} times the "
                f"speed, {told(self.longer(both, constant))} times the accepted tokens a pass; over heads in the "
                f"target alone {told(self.longer(both, names['AutoDeco']))} times the accepted tokens."
            )
        apart = self.comparisons[self.comparisons.verdict != "tied"]
        parts = [f"{r.way} over {r.against} ({r.task}) {r.difference:+.1f} [{r.low:.1f}, {r.high:.1f}]"
                 for r in apart.itertuples()]  # fmt: skip
        lines.append(f"- Differences of score, points, told apart after Holm: {'; '.join(parts) or 'none'}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        both, given = named("AutoDeco in both", "speculative"), (self.profile, self.notebook)
        pairs = {
            "composition_autodeco_speculative_speed": (both, "AutoDeco"),
            "composition_heads_in_target_speed": (named("AutoDeco", "speculative"), "AutoDeco"),
            "composition_heads_vs_constant_speed": (both, named("constant", "speculative")),
        }
        found = {name: self.faster(*pair) for name, pair in pairs.items()}
        return {name: headline(e.value, e.low, e.high, e.n, "times", *given) for name, e in found.items()}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "rounds": self.by_clock,
            "rules": self.rules().reset_index(names="way"),
            "comparisons": self.comparisons,
            "settings": self.settings().reset_index(names="task"),
        }
        return self.write(tables, {"speed": self.figure()})


def named(setting: str, method: str) -> str:
    """A setting in a method, as tables have it; alone without one."""
    return f"{setting}, {METHODS[method]}" if method else setting


def setting_words(setting: str) -> str:
    """Who has heads, in a claim."""
    return "heads in target and draft" if setting == "AutoDeco in both" else "heads in the target alone"
