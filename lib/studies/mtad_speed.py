"""How fast each way to decode is on a real pair, where the time goes, and what a batch and a joule are worth."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from lib.benchmark import interleaved
from lib.claims import OWN, UNTESTABLE, Claim, at_least, at_most, more
from lib.decoders import decode, options_of
from lib.energy import measured
from lib.evaluation import model_of
from lib.identity import LIB, imported, items_of
from lib.mtad.timing import Clock, expected_speedup
from lib.paths import CHECKPOINTS
from lib.power import Window, idle_watts, window
from lib.report import headline
from lib.sampling import RowGenerator
from lib.stats import RESAMPLES, SEED, Estimate
from lib.studies.base import SHORT
from lib.studies.drafting import DraftingStudy
from lib.studies.mtad_methods import GREEDY, METHODS, PLAIN, WARP
from lib.tasks import get_task

BASE = "speculative"
SAMPLER = "sampling, this loop"  # MTJD's blocks of one token, drawn: the same law, ten tokens of it computed
PAIRS = {"speculative": "assisted", "speculative, greedy": "assisted, greedy"}
BATCHED = ("sampling", BASE, "MTAD", "MMTAD")
PROMPTS = "prompts like those that its draft learned from"
TUNED = (BASE, "speculative, greedy", "MTAD")
ENERGY_ROUNDS = 6
CHECKED = 4  # rounds whose texts are compared, and whose forwards are timed one by one
AIM = 1.26  # times speculative decoding: what the fourth version of the paper prints


@dataclass(frozen=True)
class Study(DraftingStudy):
    """Every way decodes the same prompts once a round, in an order drawn anew; `items` is the number of rounds.

    At batch 1 `prompts` of them one after another; at a larger batch the batch at once, with a third of the rounds.
    Speculative and assisted decoding draft `gamma` tokens, MTAD `mtad_gamma`: both, and `tau`, were chosen before on
    16 validation prompts, by tokens a pass and times of single forwards; `tried` has some of `gammas` by the clock.
    """

    items: int = 12
    samples: int = 1
    tasks: tuple[str, ...] = ("instructions", "gsm8k")
    model: str = "smollm2-135m"
    draft: str = "smollm2-draft"
    tokens: int = 64
    prompts: int = 2
    batches: tuple[int, ...] = (1, 4, 16)
    gamma: int = 3
    mtad_gamma: int = 4
    tau: float = 0.1
    gammas: tuple[int, ...] = (2, 3, 4)

    notebook = "34_mtad_speed"

    @classmethod
    def measures(cls) -> list[Path]:
        """The code that is timed."""
        timed = [LIB / "mtad" / "__init__.py", LIB / "mtad" / "timing.py", LIB / "benchmark.py", LIB / "power.py"]
        weights = sorted(CHECKPOINTS.glob("*-draft/model.safetensors"))
        return [*sorted(imported(timed)), LIB / "studies" / "mtad_methods.py", *weights]

    def ways(self) -> dict[str, tuple[str, dict]]:
        """Name -> method and options."""
        own = {"gamma": self.mtad_gamma, "tau": self.tau}
        same = {"gamma": self.gamma}
        return {
            "sampling": METHODS["sampling"],
            SAMPLER: ("mtjd", WARP | {"gamma": 1, "width": WARP["top_k"], "joint_temperature": 1.0}),
            "greedy": METHODS["greedy"],
            BASE: ("speculative", WARP | same),
            "block verification": ("speculative", WARP | same | {"block": True}),
            "speculative, greedy": ("speculative", GREEDY | same),
            "assisted": ("assisted", WARP | same),
            "assisted, its defaults": METHODS["assisted, its defaults"],
            "assisted, greedy": ("assisted", GREEDY | same),
            "threshold": ("threshold", WARP | same | {"tau": self.tau}),
            "MTAD": ("mtad", WARP | own),
            "MMTAD": ("mtad", WARP | own | {"tree": True}),
        }

    def _decode(self, name: str, number: int, batch: int, split: str = "test", **more) -> list:
        """What a way makes of the prompts of one round: one Decoded a batch. `more`: options instead of its own."""
        model, found = model_of(self.model, self.device), []
        method, options = self.ways()[name]
        options = options | more
        given = {} if method in PLAIN else {"draft": model_of(self.draft, self.device).network}
        count = self.prompts if batch == 1 else batch
        chosen = self._items(count * number, count, split)
        for start in range(0, count, batch):
            part = chosen[start : start + batch]
            ids, mask = model.encode([f"{task.instruction}{item.prompt}" for task, item in part])
            generator = RowGenerator.of(0, [item.id for _, item in part])
            settings = options_of(method, options | {"max_new_tokens": self.tokens})
            found.append(
                decode(model.network, ids, settings, generator=generator, family=model.family, attention_mask=mask,
                       **given)
            )  # fmt: skip
        return found

    def _items(self, start: int, count: int, split: str = "test") -> list:
        """(task, item) of the tasks in turns; of the validation split those of the first task alone."""
        names = self.tasks if split == "test" else self.tasks[:1]
        tasks = [get_task(SHORT.get(short, short)) for short in names]
        most = -(-(start + count) // len(tasks))
        lists = [items_of(task.name, split, most) for task in tasks]
        return [
            (tasks[i % len(tasks)], lists[i % len(tasks)][i // len(tasks) % len(lists[i % len(tasks)])])
            for i in range(start, start + count)
        ]

    def _timed(self, name: str, batch: int, split: str = "test", **more) -> Callable[[], int]:
        """A call that decodes the next round's prompts and returns the tokens, ends of text among them."""
        rounds = iter(range(10**6))

        def run() -> int:
            made = self._decode(name, next(rounds), batch, split, **more)
            return sum(int((out.lengths + 1).clamp(max=self.tokens).sum()) for out in made)

        return run

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row a round, batch size and way: seconds, joules and tokens."""
        return self.measurement("rounds", self._measure)

    def _measure(self) -> pd.DataFrame:
        found = []
        for batch in self.batches:
            names = self.ways() if batch == 1 else BATCHED
            rounds = self.items if batch == 1 else max(2, self.items // 3)
            rows = interleaved({name: self._timed(name, batch) for name in names}, rounds, self.device)
            found.append(rows.assign(batch=batch))
        return pd.concat(found, ignore_index=True)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """A row a round and draft length: seconds and tokens of validation prompts."""
        return self.measurement("tried", self._tried)

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Tokens a second by draft length, on validation prompts."""
        totals = self.attempts.groupby("variant", sort=False)[["work", "seconds"]].sum()
        speed = (totals.work / totals.seconds).round(2)
        names = [name.split(", gamma ") for name in speed.index]
        index = pd.MultiIndex.from_tuples([(way, int(gamma)) for way, gamma in names], names=["way", "gamma"])
        return speed.set_axis(index).unstack("gamma").rename_axis(index=None)

    def _tried(self) -> pd.DataFrame:
        ways = {
            f"{way}, gamma {gamma}": self._timed(way, 1, "validation", gamma=gamma)
            for way in TUNED
            for gamma in self.gammas
        }
        return interleaved(ways, max(2, self.items // 2), self.device)

    def ratio(self, name: str, against: str, batch: int = 1) -> Estimate:
        """Tokens a second of one way over another's: totals over rounds, bootstrap over rounds."""
        rows = self.rounds[self.rounds.batch == batch]
        a, b = (
            rows[rows.variant == way].sort_values("round")[["work", "seconds"]].to_numpy(dtype=float)
            for way in (name, against)
        )
        drawn = np.random.default_rng(SEED).integers(len(a), size=(RESAMPLES, len(a)))

        def of(index) -> np.ndarray:
            x, y = a[index].sum(-2), b[index].sum(-2)
            return (x[..., 0] / x[..., 1]) / (y[..., 0] / y[..., 1])

        low, high = np.quantile(of(drawn), (0.025, 0.975))
        return Estimate(float(of(np.arange(len(a)))), float(low), float(high), len(a))

    @cached_property
    def _totals(self) -> pd.DataFrame:
        """Sums over rounds by batch size and way."""
        return self.rounds.groupby(["batch", "variant"], sort=False)[["work", "seconds"]].sum()

    @property
    def sampler(self) -> str:
        """Sampling token by token by the faster of its two loops."""
        rows = self._totals.loc[1]
        return max(("sampling", SAMPLER), key=lambda way: rows.work[way] / rows.seconds[way])

    @cached_property
    def same(self) -> pd.DataFrame:
        """In % of the prompts of the first rounds: greedy ways whose tokens are those of greedy decoding."""
        return self.measurement("same", self._same)

    def _same(self) -> pd.DataFrame:
        rows = []
        for number in range(CHECKED):
            plain = [out.responses for out in self._decode("greedy", number, 1)]
            for way in ("speculative, greedy", "assisted, greedy"):
                made = [out.responses for out in self._decode(way, number, 1)]
                rows += [{"way": way, "same": int(torch.equal(a, b))} for a, b in zip(made, plain, strict=True)]
        found = pd.DataFrame(rows).groupby("way", sort=False).same.agg(["mean", "size"]).reset_index()
        return found.assign(mean=100 * found["mean"]).rename(columns={"mean": "same, %", "size": "prompts"})

    def table(self) -> pd.DataFrame:
        """A line a way at batch 1, fastest first."""
        rows = self._totals.loc[1]
        found = []
        for name in rows.index:
            e = self.ratio(name, BASE)
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
        speed = (self._totals.work / self._totals.seconds).rename("tokens a second")
        energy = self.joules.groupby(["batch", "way"])[["joules", "work", "idle"]].agg(
            {"joules": lambda x: x.sum(skipna=False), "work": "sum", "idle": "mean"}
        )
        found = pd.DataFrame(
            {"tokens a second": speed, "joules a token": energy.joules / energy.work.replace(0, np.nan)}
        )
        wide = found.loc[(slice(None), list(BATCHED)), :].unstack(0)
        return wide.loc[list(BATCHED)].rename_axis(index=None, columns=[None, "batch"])

    @cached_property
    def parts(self) -> pd.DataFrame:
        """What `_split` measured, a line a way."""
        return self.measurement("split", self._split)

    @cached_property
    def split(self) -> pd.DataFrame:
        """Shares of the time inside draft and target, and what follows from single forwards."""
        rows = self.parts.set_index("way").rename_axis(None)
        columns = [c for c in rows if not c.startswith("length")]
        found = [self.ratio(name, self.sampler).value for name in rows.index]
        return rows[columns].assign(measured=found)

    def _split(self) -> pd.DataFrame:
        times = self.forward_times.assign(each=self.forward_times.seconds / self.forward_times.work)
        times = times.groupby("variant").each.median()
        target, draft = (model_of(name, self.device).network for name in (self.model, self.draft))
        found = []
        for name, gamma, beams in ((BASE, self.gamma, 1), ("MTAD", self.mtad_gamma, 4)):
            with Clock(target) as verify, Clock(draft) as drafting, measured(self.device) as whole:
                made = [out for number in range(CHECKED) for out in self._decode(name, number, 1)]
            lengths = sum(out.trace.measures["accept_lengths"].sum(0) for out in made)
            blocks = int(lengths.sum())
            tokens = sum(int((out.lengths + 1).clamp(max=self.tokens).sum()) for out in made)
            rest = whole.seconds - verify.seconds - drafting.seconds
            drafts = times["draft, 1"] + (gamma - 1) * times[f"draft, {beams}"]
            expected = expected_speedup(tokens / blocks, drafts, times[f"target, {gamma + 1}"], times["target, 1"])
            shares = {"draft": drafting.seconds, "target": verify.seconds, "rest": rest}
            row = {key: 100 * value / whole.seconds for key, value in shares.items()}
            row |= {"block efficiency": tokens / blocks, "cost ratio": times["draft, 1"] / times["target, 1"]}
            row |= {"expected": expected, **{f"length {i}": int(n) for i, n in enumerate(lengths)}}
            found.append({"way": name, **row})
        return pd.DataFrame(found)

    @property
    def timed_widths(self) -> dict[str, tuple[int, ...]]:
        """Tokens of the single forwards that are timed."""
        return {"target": tuple(sorted({1, self.gamma + 1, self.mtad_gamma + 1})), "draft": (1, 4)}

    def positions(self) -> pd.DataFrame:
        """In % of passes: at least so many drafted tokens were accepted."""
        rows = self.parts.set_index("way").rename_axis(None)
        lengths = rows[[c for c in rows if c.startswith("length")]].fillna(0)
        reached = lengths.iloc[:, ::-1].cumsum(axis=1).iloc[:, ::-1]
        wide = 100 * reached.div(reached.iloc[:, 0], axis=0).iloc[:, 1:]
        wide.columns = [f"{i} or more" for i in range(1, 1 + wide.shape[1])]
        return wide.where(wide > 0)

    def figure_speed(self):
        """Tokens a second at batch 1 over those of speculative decoding, with 95 % intervals."""
        rows = self.table().iloc[::-1]
        figure, axis = plt.subplots(figsize=(6.4, 0.38 * len(rows) + 1))
        error = [rows["over speculative"] - rows.low, rows.high - rows["over speculative"]]
        axis.errorbar(rows["over speculative"], range(len(rows)), xerr=error, fmt="o", ms=5, capsize=3)
        axis.axvline(1, color="0.4", lw=1)
        axis.axvline(AIM, color="0.4", lw=1, ls=":", label=f"{AIM:g}, printed for MMTAD")
        axis.set_yticks(range(len(rows)), rows.index)
        axis.set(xlabel="tokens a second over speculative decoding's")
        axis.legend(frameon=False, fontsize="small")
        sns.despine()
        return figure

    def claims(self) -> list[Claim]:
        """The printed ratios; the bounds that this library set itself."""
        found = []
        for where, way, times in (("v2, ICLR", "MTAD", 1.42), ("v4", "MMTAD", 1.26)):
            e = self.ratio(way, BASE)
            says = f"{way} is {times:g} times as fast as speculative decoding ({self.model}, batch 1, {PROMPTS})"
            found.append(Claim(f"abstract, {where}", says, f"{times:g}x", e, "times", more(e, times, zero=1.0)))
        for where, way, times, theirs in (("v2, ICLR", "MTAD", 1.54, "1.54x"), ("v4", "MMTAD", 1.31, "23.6 % less")):
            e = self.energy(way)
            says = f"{way} takes {times:g} times less energy a token than speculative decoding"
            verdict = UNTESTABLE if np.isnan(e.value) else more(e, times, zero=1.0)
            found.append(Claim(f"abstract, {where}", says, theirs, e, "times less", verdict))
        e = self.ratio("MTAD", BASE)
        found.append(Claim(OWN, f"MTAD is at least {AIM:g} times as fast there", "", e, "times", at_least(e, AIM)))
        for own, theirs in PAIRS.items():
            e = self.ratio(own, theirs)
            says = f"{own} decoding here is at least as fast as transformers' {theirs}, same pair and draft length"
            found.append(Claim(OWN, says, "", e, "times", at_least(e, 1.0)))
        e = self.ratio("MTAD", "speculative, greedy")
        found.append(Claim(OWN, "MTAD is faster than speculative greedy decoding", "", e, "times", more(e, zero=1.0)))
        e = self.ratio("speculative, greedy", "greedy")
        says = "drafting greedily is no faster than greedy decoding alone"
        return [*found, Claim(OWN, says, "", e, "times", at_most(e, 1.0))]

    def energy(self, way: str) -> Estimate:
        """Joules a token of speculative decoding over a way's at batch 1: the median of rounds, and their smallest
        and largest, between which the true median lies with 97 %. NaN and n = 0 without a counter."""
        if self.joules.joules.isna().any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        rows = self.joules[self.joules.batch == 1].assign(cost=lambda t: t.joules / t.work)
        wide = rows.pivot(index="round", columns="way", values="cost")
        ratios = (wide[BASE] / wide[way]).to_numpy()
        return Estimate(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(ratios))

    @cached_property
    def joules(self) -> pd.DataFrame:
        """Windows of several seconds, ways in turns: a row a round, batch size and way; see lib/power.py.

        idle: watts while nothing runs. Without a counter nothing is run, and joules are not there.
        """
        return self.measurement("joules", self._joules)

    def _joules(self) -> pd.DataFrame:
        idle, rows = idle_watts(self.device), []
        for batch in self.batches:
            works = {way: self._timed(way, batch) for way in BATCHED}
            for number in range(ENERGY_ROUNDS if idle is not None else 1):
                for way in random.Random(number).sample(BATCHED, len(BATCHED)):
                    found = window(works[way], self.device) if idle is not None else Window(0, 0.0, None)
                    row = {"round": number, "batch": batch, "way": way, "work": found.work, "seconds": found.seconds}
                    rows.append(row | {"joules": found.joules, "idle": idle})
        return pd.DataFrame(rows).astype({"joules": float, "idle": float})

    def reading(self) -> str:
        e, a, g = self.ratio("MTAD", BASE), self.ratio("MTAD", self.sampler), self.ratio("MMTAD", BASE)
        lines = [
            f"- MTAD is {e.value:.2f} [{e.low:.2f}, {e.high:.2f}] times as fast as speculative decoding and "
            f"{a.value:.2f} [{a.low:.2f}, {a.high:.2f}] times as fast as sampling token by token; MMTAD "
            f"{g.value:.2f} [{g.low:.2f}, {g.high:.2f}] times as fast as speculative decoding."
        ]
        for own, theirs in PAIRS.items():
            e = self.ratio(own, theirs)
            lines.append(
                f"- {own} decoding here over transformers' {theirs}: {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]."
            )
        parts = [f"{way} {share:.0f} %" for way, share in zip(self.same.way, self.same["same, %"], strict=True)]
        lines.append(
            f"- Prompts whose tokens are those of greedy decoding, of {self.same.prompts[0]}: {'; '.join(parts)}."
        )
        for name, row in self.split.iterrows():
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
            "mtad_vs_autoregressive_speed": ("MTAD", self.sampler),
        }
        found = {name: self.ratio(*pair) for name, pair in pairs.items()}
        entries = {name: headline(e.value, e.low, e.high, e.n, "times", *given) for name, e in found.items()}
        e = self.energy("MTAD")
        value = (None, None, None) if np.isnan(e.value) else (e.value, e.low, e.high)
        return entries | {"mtad_vs_speculative_energy": headline(*value, e.n, "times less", *given)}

    def save(self) -> dict:
        """Everything into the results folder; the manifest in short."""
        tables = {
            "rounds": self.rounds,
            "speed": self.table().reset_index(names="way"),
            "split": self.parts,
            "joules": self.joules,
            "same": self.same,
            "tried": self.attempts,
            "forwards": self.forward_times,
        }
        return self.write(tables, {"speed": self.figure_speed()})
