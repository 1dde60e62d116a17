"""How fast each way to decode is on a real pair, where the time goes, and what a batch and a joule are worth."""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from lib.analysis.corrected import bonferroni
from lib.analysis.stats import Estimate
from lib.analysis.totals import ratio_of_totals
from lib.decoders import options_of
from lib.reporting import figures
from lib.reporting.claims import OWN, Claim, at_least, at_most, multiple
from lib.reporting.result_folder import headline
from lib.studies.base import Timed
from lib.studies.mtad.clock import speed_claim
from lib.studies.mtad.rounds import BASE, BATCHED, SAMPLER, TRIED_WAYS, Rounds
from lib.studies.mtad.ways import PLAIN, PUBLISHED

PAIRS = {"speculative": "assisted", "speculative, greedy": "assisted, greedy"}
PROMPTS = "prompts like those that its draft learned from"
OTHERS = "prompts of tasks that it did not learn"
AIM = 1.26  # times speculative decoding: what the fourth version of the paper prints


@dataclass(frozen=True)
class Study(Rounds):
    """Tables, figures and words of what `Rounds` measures."""

    notebook = "34_mtad_speed"

    def timed(self) -> list[Timed]:
        """The schedule and what is tried, each with a first round that is not counted; plain ways without a draft."""
        found = []
        for _, batch, names, rounds in self.schedule:
            for method, options in map(self.ways().get, names):
                gamma = options_of(method, options).gamma if method not in PLAIN else 0
                found.append(self._by_clock(method, gamma, 1 + rounds, batch))
        if self.held_out:
            rounds, ways = 1 + max(2, self.items // 4), [self.ways()[way][0] for way in TRIED_WAYS]
            found += [self._by_clock(method, gamma, rounds, 1) for method in ways for gamma in self.gammas]
        return found

    def _by_clock(self, method: str, gamma: int, rounds: int, batch: int) -> Timed:
        """So many rounds of a method that drafts `gamma` tokens a pass, a response has at most a pass a token."""
        draft = {} if method in PLAIN else {"draft": self.draft, "draft_steps": gamma}
        return Timed(self.model, rounds * (self.prompts if batch == 1 else 1), batch, self.tokens, **draft)

    def ratio(self, name: str, against: str, batch: int = 1, where: str = "taught") -> Estimate:
        """Tokens a second of one way over another's: totals over rounds, bootstrap over rounds."""
        rows = self.rounds[(self.rounds.batch == batch) & (self.rounds["where"] == where)]
        sides = [rows[rows.variant == way].sort_values("round")[["work", "seconds"]] for way in (name, against)]
        return ratio_of_totals(*(side.to_numpy(dtype=float) for side in sides))

    @cached_property
    def _totals(self) -> pd.DataFrame:
        """Sums over rounds by place, batch size and way."""
        return self.rounds.groupby(["where", "batch", "variant"], sort=False)[["work", "seconds"]].sum()

    def sampler(self, where: str = "taught") -> str:
        """Sampling token by token by the faster of its two loops."""
        rows = self._totals.loc[where, 1]
        return max(("sampling", SAMPLER), key=lambda way: rows.work[way] / rows.seconds[way])

    def table(self) -> pd.DataFrame:
        """A line a way at batch 1, fastest first."""
        return self._speeds("taught")

    def away(self) -> pd.DataFrame:
        """The same on tasks that the draft did not learn."""
        return self._speeds("elsewhere") if self.elsewhere else pd.DataFrame()

    def _speeds(self, where: str) -> pd.DataFrame:
        rows = self._totals.loc[where, 1]
        found = []
        for name in rows.index:
            e = self.ratio(name, BASE, where=where)
            speed = rows.work[name] / rows.seconds[name]
            found.append(
                {"way": name, "tokens a second": speed, "over speculative": e.value, "low": e.low, "high": e.high,
                 "tokens an hour": 3600 * speed}
            )  # fmt: skip
        return pd.DataFrame(found).set_index("way").sort_values("tokens a second", ascending=False).round(2)

    def by_batch(self) -> pd.DataFrame:
        """Tokens a second and joules a token, a line a way and a column a batch size.

        Joules are the counters' whole, idle draw included, and missing where the machine has no counter.
        """
        rows = self._totals.loc["taught"]
        speed = (rows.work / rows.seconds).rename("tokens a second")
        energy = self.joules.groupby(["batch", "way"])[["joules", "work", "idle"]].agg(
            {"joules": lambda x: x.sum(skipna=False), "work": "sum", "idle": "mean"}
        )
        found = pd.DataFrame(
            {"tokens a second": speed, "joules a token": energy.joules / energy.work.replace(0, np.nan)}
        )
        wide = found.loc[(slice(None), list(BATCHED)), :].unstack(0)
        return wide.loc[list(BATCHED)].rename_axis(index=None, columns=[None, "batch"])

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Tokens a second by draft length, on validation prompts; empty where no task has any."""
        if not len(self.attempts):
            return pd.DataFrame()
        totals = self.attempts.groupby("variant", sort=False)[["work", "seconds"]].sum()
        speed = (totals.work / totals.seconds).round(2)
        names = [name.split(", gamma ") for name in speed.index]
        index = pd.MultiIndex.from_tuples([(way, int(gamma)) for way, gamma in names], names=["way", "gamma"])
        return speed.set_axis(index).unstack("gamma").rename_axis(index=None)

    @cached_property
    def time_split(self) -> pd.DataFrame:
        """Shares of the time inside draft and target, and what follows from single forwards."""
        rows = self.time_shares.set_index("way").rename_axis(None)
        columns = [c for c in rows if not c.startswith("length")]
        found = [self.ratio(name, self.sampler()).value for name in rows.index]
        return rows[columns].assign(measured=found)

    def positions(self) -> pd.DataFrame:
        """In % of passes: at least so many drafted tokens were accepted."""
        rows = self.time_shares.set_index("way").rename_axis(None)
        lengths = rows[[c for c in rows if c.startswith("length")]].fillna(0)
        reached = lengths.iloc[:, ::-1].cumsum(axis=1).iloc[:, ::-1]
        wide = 100 * reached.div(reached.iloc[:, 0], axis=0).iloc[:, 1:]
        wide.columns = [f"{i} or more" for i in range(1, 1 + wide.shape[1])]
        return wide.where(wide > 0)

    def figure_speed(self):
        """Tokens a second at batch 1 over those of speculative decoding; dotted: what is printed for MMTAD."""
        rows = self.table()
        words = f"tokens a second over speculative decoding's; dotted: {AIM:g}, printed for MMTAD"
        figure = figures.forest({"": rows}, list(rows.index), value="over speculative", at=1, xlabel=words, width=4.5)
        figure.axes[0].axvline(AIM, **figures.LINE | {"ls": ":"})
        return figure

    def claims(self) -> list[Claim]:
        """The printed ratios, which are the paper's at its own draft length and tau alone; the bounds that this
        library set itself. Of the fourth version the method is taken to be MMTAD, which it adds."""
        prompts = PROMPTS if self.elsewhere else "prompts of " + ", ".join(self.tasks)
        at = f"gamma {self.gamma}, tau {self.tau:g}"
        published = (self.gamma, self.tau) == PUBLISHED
        compared: list[tuple] = []  # where, says, ways, rule, printed
        for where, way, times in (("v2, ICLR", "MTAD", 1.42), ("v4", "MMTAD", 1.26)):
            says = f"{way} ({at}) is faster than speculative decoding ({self.model}, {prompts})"
            place = f"abstract, {where}" if published else OWN
            compared.append((place, says, self.ratio(way, BASE), partial(multiple, claimed=times), f"{times:g}x"))
        says = f"MTAD is at least {AIM:g} times as fast as speculative decoding"
        compared.append((OWN, says, self.ratio("MTAD", BASE), partial(at_least, bound=AIM), ""))
        for own, theirs in PAIRS.items():
            says = f"{own} decoding here is at least as fast as transformers' {theirs}, same pair and draft length"
            compared.append((OWN, says, self.ratio(own, theirs), partial(at_least, bound=1.0), ""))
        greedy = "speculative, greedy"
        says = "MTAD is faster than speculative greedy decoding"
        compared.append((OWN, says, self.ratio("MTAD", greedy), multiple, ""))
        says = "drafting greedily is no faster than greedy decoding alone"
        compared.append((OWN, says, self.ratio(greedy, "greedy"), partial(at_most, bound=1.0), ""))
        for against in (BASE, self.sampler("elsewhere")) if self.elsewhere else ():
            says = f"MTAD is faster than {against} on {OTHERS}"
            compared.append((OWN, says, self.ratio("MTAD", against, where="elsewhere"), multiple, ""))
        ratios = bonferroni([ratio for _, _, ratio, _, _ in compared])
        found = [
            speed_claim(where, says, e, rule(e), printed)
            for (where, says, _, rule, printed), e in zip(compared, ratios, strict=True)
        ]
        saved = (("v2, ICLR", "MTAD", 1.54, "1.54x"), ("v4", "MMTAD", 1.31, "23.6 % less"))
        energies = bonferroni([self.energy(way) for _, way, _, _ in saved])
        for (where, way, times, theirs), e in zip(saved, energies, strict=True):
            says = f"{way} ({at}) takes less energy a token than speculative decoding"
            place = f"abstract, {where}" if published else OWN
            found.append(Claim(place, says, theirs, e, "times less", multiple(e, times)))
        return found

    def energy(self, way: str) -> Estimate:
        """Joules a token of speculative decoding over a way's at batch 1: the median of rounds, and their smallest
        and largest, between which the true median lies with 97 %. NaN and n = 0 without a counter."""
        if self.joules.joules.isna().any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        rows = self.joules[self.joules.batch == 1].assign(cost=lambda t: t.joules / t.work)
        wide = rows.pivot(index="round", columns="way", values="cost")
        ratios = (wide[BASE] / wide[way]).to_numpy()
        return Estimate(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(ratios))

    def reading(self) -> str:
        e, a, g = self.ratio("MTAD", BASE), self.ratio("MTAD", self.sampler()), self.ratio("MMTAD", BASE)
        lines = [
            f"- MTAD is {e.value:.2f} [{e.low:.2f}, {e.high:.2f}] times as fast as speculative decoding and "
            f"{a.value:.2f} [{a.low:.2f}, {a.high:.2f}] times as fast as sampling token by token; MMTAD "
            f"{g.value:.2f} [{g.low:.2f}, {g.high:.2f}] times as fast as speculative decoding."
        ]
        if self.elsewhere:
            e, a = (self.ratio("MTAD", way, where="elsewhere") for way in (BASE, self.sampler("elsewhere")))
            lines.append(
                f"- On {', '.join(self.elsewhere)}, which the draft did not learn: {e.value:.2f} [{e.low:.2f}, "
                f"{e.high:.2f}] times speculative decoding, {a.value:.2f} [{a.low:.2f}, {a.high:.2f}] times sampling."
            )
        for own, theirs in PAIRS.items():
            e = self.ratio(own, theirs)
            lines.append(
                f"- {own} decoding here over transformers' {theirs}: {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]."
            )
        parts = [f"{way} {share:.0f} %" for way, share in zip(self.same.way, self.same["same, %"], strict=True)]
        lines.append(
            f"- Prompts whose tokens are those of greedy decoding, of {self.same.prompts[0]}: {'; '.join(parts)}."
        )
        for name, row in self.time_split.iterrows():
            lines.append(
                f"- {name}: {row.draft:.0f} % of the time in the draft, {row.target:.0f} % in the target, "
                f"{row.rest:.0f} % in neither; {row['block efficiency']:.2f} tokens a pass; from single forwards "
                f"{row.expected:.2f} times the faster sampling's speed is expected, {row.measured:.2f} is measured."
            )
        if self.joules.joules.isna().any():
            lines.append("- This machine has no energy counter that is read: joules are not measured.")
        return "\n".join(lines)

    def headlines(self) -> dict[str, dict]:
        given = (self.profile, self.notebook)
        pairs = {
            "mtad_vs_speculative_speed": ("MTAD", BASE),
            "speculative_vs_hf_assisted_speed": ("speculative, greedy", "assisted, greedy"),
            "mtad_vs_autoregressive_speed": ("MTAD", self.sampler()),
        }
        found = {name: self.ratio(*pair) for name, pair in pairs.items()}
        if self.elsewhere:
            pair = "MTAD", self.sampler("elsewhere")
            found["mtad_vs_autoregressive_speed_elsewhere"] = self.ratio(*pair, where="elsewhere")
        entries = {name: headline(e.value, e.low, e.high, e.n, "times", *given) for name, e in found.items()}
        e = self.energy("MTAD")
        value = (None, None, None) if np.isnan(e.value) else (e.value, e.low, e.high)
        return entries | {"mtad_vs_speculative_energy": headline(*value, e.n, "times less", *given)}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "rounds": self.rounds,
            "speed": self.table().reset_index(names="way"),
            "elsewhere": self.away().reset_index(names="way"),
            "split": self.time_shares,
            "joules": self.joules,
            "same": self.same,
            "tried": self.attempts,
            "forwards": self.forward_times,
        }
        return self.write(tables, {"speed": self.figure_speed()})
