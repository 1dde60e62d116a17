"""MTAD at its published tau against lossless rules of today, at equal draft length, by two drafts, by the clock."""

from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import corrected
from lib.errors import UserError
from lib.reporting.claims import CLAIM, OWN, REPEAT, Claim, at_least, at_most, multiple
from lib.reporting.result_folder import headline
from lib.running.run import Run
from lib.studies.mtad.clock import ClockedStudy, speed_claim, told
from lib.studies.mtad.pair import LOST, reduction
from lib.studies.mtad.ways import WAYS

BASE, BLOCK, HSD = "speculative", "block verification", "HSD"
RULES = (BASE, BLOCK, HSD, "typical", "typical, its truncation", "threshold", "MTAD", "MMTAD")
LOSSY = ("typical", "threshold", "MTAD", "MMTAD")  # the target's distribution is not theirs
OF_TAU = ("threshold", "MTAD", "MMTAD")
TARGET = "sampling"  # the target alone
FASTER = {"MTAD": ("v2, ICLR", 1.42), "MMTAD": ("v4", 1.26)}  # than speculative decoding, as printed
PUBLISHED_TAU = 0.5  # of the released code
HEADLINES = {"hsd_vs_speculative_speed": HSD, "mtad_vs_speculative_speed_published_tau": "MTAD"}
TOLERATED = 2.0  # points


@dataclass(frozen=True)
class Study(ClockedStudy):
    """Every rule drafts `gamma` tokens by `draft` and by `other`; the warp of the released code throughout.

    tau: MTAD's and its tree's, and the token-wise rule's: 0.5 is what the released code has.
    """

    items: int = 100
    samples: int = 1
    draft: str = "study-draft"
    other: str = "ar-2m"
    gamma: int = 4
    tau: float = PUBLISHED_TAU

    notebook = "38_mtad_lossless"
    methods_by_clock = ("autoregressive", "speculative", "hsd", "typical", "truncated", "threshold", "mtad")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draft == self.other:
            raise UserError(f"draft and other must be two drafts, not {self.draft} twice")

    @property
    def drafts(self) -> tuple[str, str]:
        """The two small models."""
        return self.draft, self.other

    def runs(self) -> dict[tuple, Run]:
        """Keys are (task, name); a name is `rule, draft`, or that of the target alone."""
        found = {}
        for short in self.tasks:
            found[short, TARGET] = self.named(short, TARGET)
            for draft in self.drafts:
                for rule in RULES:
                    method, options = WAYS[rule]
                    options = options | {"gamma": self.gamma} | ({"tau": self.tau} if rule in OF_TAU else {})
                    found[short, named(rule, draft)] = replace(self._run(short, method, **options), draft=draft)
        return found

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Every lossy rule minus speculative decoding by the same draft, and typical acceptance minus the truncated
        sampling that it is taken for, in points."""
        pairs = [(named(rule, draft), named(BASE, draft)) for draft in self.drafts for rule in LOSSY]
        pairs += [(named("typical", draft), named("typical, its truncation", draft)) for draft in self.drafts]
        return self.differences(pairs)

    @cached_property
    def accepts(self) -> pd.DataFrame:
        """Accepted tokens a pass of every rule over those of speculative decoding by the same draft."""
        rows = []
        for draft in self.drafts:
            for rule in RULES[1:]:
                e = self.longer(named(rule, draft), named(BASE, draft))
                rows.append({"way": named(rule, draft), "ratio": e.value, "low": e.low, "high": e.high})
        return pd.DataFrame(rows).set_index("way").rename_axis(None).round(3)

    @cached_property
    def speed(self) -> pd.DataFrame:
        """Tokens a second, and over speculative decoding by the same draft; the target alone over the first's."""
        base = {named(rule, draft): named(BASE, draft) for draft in self.drafts for rule in RULES}
        return self.speeds(base | {TARGET: named(BASE, self.draft)})

    def rules(self) -> pd.DataFrame:
        """A line a way: what it is by its law, its counts and its speed; HSD is marked as what it comes to."""
        law = {rule: "lossless" for rule in (BASE, BLOCK)} | dict.fromkeys(LOSSY, "another")
        law |= {HSD: "lossless: block verification on one chain", "typical, its truncation": "the truncated target"}
        names = {named(rule, draft): law[rule] for draft in self.drafts for rule in RULES} | {TARGET: "lossless"}
        counts = self.counts()
        rows = counts[["accepted", "target_forwards", "draft_positions", "overshoot", "beyond"]]
        joined = rows.join(self.speed[["tokens a second", "ratio", "low", "high"]])
        joined.insert(0, "law of its texts", [names[name] for name in joined.index])
        return joined

    def figure(self):
        """Speed and accuracy of each rule relative to speculative decoding by the same draft; hollow where the
        interval of speed has 1, or accuracy is not told apart after Holm."""
        pairs = [(named(rule, draft), named(BASE, draft)) for draft in self.drafts for rule in RULES[1:]]
        return self.figure_loss(pairs, "speculative decoding", self.losses)

    def claims(self) -> list[Claim]:
        """The printed speed-ups by either draft; then what lossless rules give, and what the lossy ones lose."""
        found, compared = [], [*((rule, BASE) for rule in (*FASTER, HSD)), ("MTAD", HSD)]
        ways = [(named(a, draft), named(b, draft)) for draft in self.drafts for a, b in compared]
        speeds = dict(zip(ways, bonferroni([self.faster(*pair) for pair in ways]), strict=True))
        for draft in self.drafts:
            pair = f"{self.model} with {draft}, batch 1"
            kind = CLAIM if draft == self.draft else REPEAT  # another draft is the same finding seen again
            base, hsd = named(BASE, draft), named(HSD, draft)
            for rule, (where, times) in FASTER.items():
                e = speeds[named(rule, draft), base]
                says = f"{rule} at tau {self.tau:g} is faster than speculative decoding ({pair})"
                at = f"abstract, {where}" if self.tau == PUBLISHED_TAU else OWN
                found.append(speed_claim(at, says, e, multiple(e, times), f"{times:g}x", kind))
            e = speeds[hsd, base]
            says = f"HSD is at least as fast as speculative decoding ({pair})"
            found.append(speed_claim(OWN, says, e, at_least(e, 1.0)))
            e = speeds[named("MTAD", draft), hsd]
            says = f"MTAD is faster than HSD, which loses nothing ({pair})"
            found.append(speed_claim(OWN, says, e, multiple(e)))
        pairs = [(rule, draft) for draft in self.drafts for rule in ("MTAD", "MMTAD")]
        lost = corrected([self.judged(named(rule, draft), named(BASE, draft)) for rule, draft in pairs])
        for (rule, draft), e in zip(pairs, map(reduction, lost), strict=True):
            says = f"{rule} at tau {self.tau:g} loses at most {TOLERATED:g} points to speculative decoding ({draft})"
            found.append(Claim(OWN, says, "", e, LOST, at_most(e, TOLERATED)))
        return found

    def reading(self) -> str:
        """A draft at a time: speed, acceptance, what it costs in score; whether HSD is block verification."""
        lines, rows = [], self.summary.groupby("name").overshoot.mean()
        for draft in self.drafts:
            base = named(BASE, draft)
            parts = [f"{rule} {told(self.faster(named(rule, draft), base))}" for rule in RULES[1:]]
            lines.append(f"- **{draft}**, tokens a second over speculative decoding: {'; '.join(parts)}.")
            parts = [f"{rule} {told(self.longer(named(rule, draft), base))}" for rule in RULES[1:]]
            lines.append(f"- **{draft}**, accepted tokens a pass over its: {'; '.join(parts)}.")
            parts = [
                f"{rule} {told(self.judged(named(rule, draft), base), '+.1f')}, "
                f"overshoot {rows[named(rule, draft)]:.2f} nats a pass"
                for rule in LOSSY
            ]
            lines.append(f"- **{draft}**, accuracy minus its, points: {'; '.join(parts)}.")
            e = self.faster(base, TARGET)
            lines.append(f"- **{draft}**: speculative decoding is {told(e)} times as fast as the target alone.")
            same, count = self.same_texts(named(HSD, draft), named(BLOCK, draft))
            lines.append(f"- **{draft}**: {same} of {count} texts of HSD are block verification's.")
        lower = self.losses[self.losses.verdict == "lower"]
        parts = [f"{r.way} to {r.against} ({r.task})" for r in lower.itertuples()]
        lines.append(f"- Losses that are told apart after Holm: {'; '.join(parts) or 'none'}.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        """By `draft`, those of `other` end in its name; at the published tau alone, of which their names speak."""
        found = {}
        if self.tau != PUBLISHED_TAU:
            return found
        for draft, end in ((self.draft, ""), (self.other, "_" + self.other.replace("-", "_"))):
            for name, rule in HEADLINES.items():
                e = self.faster(named(rule, draft), named(BASE, draft))
                found[name + end] = headline(e.value, e.low, e.high, e.n, "times", self.profile, self.notebook)
        return found

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "summary": self.summary,
            "rounds": self.by_clock,
            "rules": self.rules().reset_index(names="way"),
            "accepts": self.accepts.reset_index(names="way"),
            "losses": self.losses,
        }
        return self.write(tables, {"speed": self.figure()})


def named(rule: str, draft: str) -> str:
    """A rule by a draft, as tables have it."""
    return f"{rule}, {draft}"
