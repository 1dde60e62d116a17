"""What notebook 34 measures on a real pair: rounds by the clock, the time inside either model, windows of joules."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from lib.analysis.forward_times import Clock, expected_speedup, one_forward
from lib.analysis.interleaved import interleaved
from lib.decoders import DECODERS, options_of
from lib.errors import UserError
from lib.models.vocabulary import paired
from lib.running.code import Name, name_of
from lib.running.cost import Window, idle_watts, measured, window
from lib.running.identity import items_of
from lib.running.one_batch import model_of
from lib.running.respond import respond
from lib.studies.base import SHORT, Timed
from lib.studies.mtad.base import DraftingStudy
from lib.studies.mtad.pair import drafts
from lib.studies.mtad.ways import GREEDY, PLAIN, WARP, WAYS
from lib.tasks import get_task

BASE = "speculative"
SAMPLER = "sampling, this loop"  # MTJD's blocks of one token, drawn: the same distribution, ten tokens of it computed
BATCHED = ("sampling", BASE, "MTAD", "MMTAD")
ELSEWHERE = ("sampling", SAMPLER, BASE, "threshold", "MTAD", "MMTAD")
TRIED_WAYS = (BASE, "speculative, greedy", "MTAD")
TIMED = ("autoregressive", "mtjd", "speculative", "hsd", "assisted", "threshold", "mtad")  # the methods of `ways`
# The methods that choose what is timed, and that time it.
MEASURING = ("ways", "schedule", "held_out", "_decode", "_items", "_timed", "_tokens", "_rounds", "_tried", "_same",
             "_split", "_joules")  # fmt: skip
ENERGY_ROUNDS = 6
CHECKED = 4  # rounds whose texts are compared, and whose forwards are timed one by one


@dataclass(frozen=True)
class Rounds(DraftingStudy):
    """Every way decodes the same prompts once a round, in an order drawn anew; `items` is the number of rounds.

    `tasks` are those that the draft was distilled on; each of `elsewhere` has a round for every six of those. At
    batch 1 `prompts` of them one after another; at a larger batch the batch at once, with a third of the rounds.
    All draft `gamma` tokens; `tried` has some of `gammas` by the clock, on validation prompts.
    """

    items: int = 12
    samples: int = 1
    tasks: tuple[str, ...] = ("instructions", "gsm8k")
    elsewhere: tuple[str, ...] = ("ifeval", "triviaqa", "humaneval", "spider", "mt_bench")
    model: str = "smollm2-135m"
    draft: str = "smollm2-draft"
    tokens: int = 64
    prompts: int = 2
    batches: tuple[int, ...] = (1, 4, 16)
    gamma: int = 3
    tau: float = 0.05
    gammas: tuple[int, ...] = (2, 3, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if both := set(self.tasks) & set(self.elsewhere):
            raise UserError(f"{', '.join(sorted(both))} cannot be of tasks and of elsewhere: take it out of one")

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The code that is timed, and what times it."""
        timed = [DECODERS[name].decode for name in TIMED]
        # Its own methods one by one: the class has figures and words as well, which time nothing.
        own = [(__name__, f"Rounds.{name}") for name in MEASURING]
        return [*map(name_of, [*timed, Clock, interleaved, one_forward, window]), *own], drafts()

    def ways(self) -> dict[str, tuple[str, dict]]:
        """Name -> method and options."""
        same = {"gamma": self.gamma}
        own = same | {"tau": self.tau}
        return {
            "sampling": WAYS["sampling"],
            SAMPLER: ("mtjd", WARP | {"gamma": 1, "width": WARP["top_k"], "joint_temperature": 1.0}),
            "greedy": WAYS["greedy"],
            BASE: ("speculative", WARP | same),
            "block verification": ("speculative", WARP | same | {"block": True}),
            "HSD": ("hsd", WARP | same),
            "speculative, greedy": ("speculative", GREEDY | same),
            "assisted": ("assisted", WARP | same),
            "assisted, its defaults": WAYS["assisted, its defaults"],
            "assisted, greedy": ("assisted", GREEDY | same),
            "threshold": ("threshold", WARP | own),
            "MTAD": ("mtad", WARP | own),
            "MMTAD": ("mtad", WARP | own | {"tree": True}),
        }

    def _decode(self, name: str, number: int, batch: int, where: str = "taught", **more) -> list:
        """What a way makes of the prompts of one round: one Decoded a batch. `more`: options instead of its own."""
        model, found = model_of(self.model, self.device), []
        method, options = self.ways()[name]
        options = options | more
        given = {}
        if method not in PLAIN:
            network, small = paired(model.network, model_of(self.draft, self.device).network, model.tokenizer)
            model, given = replace(model, network=network), {"draft": small}
        count = self.prompts if batch == 1 else batch
        chosen = self._items(count * number, count, where)
        for start in range(0, count, batch):
            part = chosen[start : start + batch]
            items = [replace(item, prompt=f"{task.instruction}{item.prompt}") for task, item in part]
            settings = options_of(method, options | {"max_new_tokens": self.tokens})
            found.append(respond(model, items, settings, **given))
        return found

    @cached_property
    def held_out(self) -> list[str]:
        """Those of `tasks` that have validation items: a benchmark may have test items alone."""
        return [short for short in self.tasks if _has_validation(SHORT.get(short, short))]

    def _items(self, start: int, count: int, where: str = "taught") -> list:
        """(task, item) of the tasks in turns: test items of those `taught` or `elsewhere`; or `validation` items of
        the first one taught that has any."""
        names = {"taught": self.tasks, "elsewhere": self.elsewhere, "validation": self.held_out[:1]}[where]
        split = "validation" if where == "validation" else "test"
        tasks = [get_task(SHORT.get(short, short)) for short in names]
        most = -(-(start + count) // len(tasks))
        lists = [items_of(task.name, split, most) for task in tasks]
        return [
            (tasks[i % len(tasks)], lists[i % len(tasks)][i // len(tasks) % len(lists[i % len(tasks)])])
            for i in range(start, start + count)
        ]

    def _timed(self, name: str, batch: int, where: str = "taught", **more) -> Callable[[], int]:
        """A call that decodes the next round's prompts and returns the tokens, ends of text among them."""
        rounds = iter(range(10**6))

        def run() -> int:
            made = self._decode(name, next(rounds), batch, where, **more)
            return sum(map(self._tokens, made))

        return run

    def _tokens(self, out) -> int:
        return int((out.lengths + 1).clamp(max=self.tokens).sum())

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row a round, place, batch size and way: seconds and tokens."""
        return self.measurement("rounds", self._rounds)

    @property
    def schedule(self) -> list[tuple[str, int, tuple[str, ...], int]]:
        """(place, batch size, ways, rounds) that are measured."""
        most = max(2, self.items // 3)
        plan = [("taught", n, tuple(self.ways()) if n == 1 else BATCHED, self.items if n == 1 else most)
                for n in self.batches]  # fmt: skip
        if self.elsewhere:
            plan.append(("elsewhere", 1, ELSEWHERE, len(self.elsewhere) * max(1, self.items // 6)))
        return plan

    def timed(self) -> list[Timed]:
        """The schedule, each with a first round that is not counted."""
        return [
            Timed(self.model, len(names) * (1 + rounds) * (self.prompts if n == 1 else 1), n, self.tokens, self.draft)
            for _, n, names, rounds in self.schedule
        ]

    def _rounds(self) -> pd.DataFrame:
        found = []
        for where, batch, names, rounds in self.schedule:
            rows = interleaved({name: self._timed(name, batch, where) for name in names}, rounds, self.device)
            found.append(rows.drop(columns="joules").assign(batch=batch, where=where))
        return pd.concat(found, ignore_index=True)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """A row a round and draft length: seconds and tokens of validation prompts."""
        return self.measurement("tried", self._tried)

    def _tried(self) -> pd.DataFrame:
        if not self.held_out:
            return pd.DataFrame(columns=["round", "variant", "seconds", "work"])
        ways = {
            f"{way}, gamma {gamma}": self._timed(way, 1, "validation", gamma=gamma)
            for way in TRIED_WAYS
            for gamma in self.gammas
        }
        return interleaved(ways, max(2, self.items // 4), self.device)

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

    @cached_property
    def time_shares(self) -> pd.DataFrame:
        """A line a way: shares of the time inside either model, and what follows from single forwards."""
        return self.measurement("split", self._split)

    def _split(self) -> pd.DataFrame:
        times = self.forward_times.assign(each=self.forward_times.seconds / self.forward_times.work)
        times = times.groupby("variant").each.median()
        target, draft = (model_of(name, self.device).network for name in (self.model, self.draft))
        found = []
        for name, beams in ((BASE, 1), ("MTAD", 4)):
            with Clock(target) as verify, Clock(draft) as drafting, measured(self.device) as whole:
                made = [out for number in range(CHECKED) for out in self._decode(name, number, 1)]
            lengths = sum(out.trace.measures["accept_lengths"].sum(0) for out in made)
            blocks = int(lengths.sum())
            tokens = sum(map(self._tokens, made))
            rest = whole.seconds - verify.seconds - drafting.seconds
            drafts = times["draft, 1"] + (self.gamma - 1) * times[f"draft, {beams}"]
            expected = expected_speedup(
                tokens / blocks, drafts, times[f"target, {self.gamma + 1}"], times["target, 1"]
            )
            shares = {"draft": drafting.seconds, "target": verify.seconds, "rest": rest}
            row = {key: 100 * value / whole.seconds for key, value in shares.items()}
            row |= {"block efficiency": tokens / blocks, "cost ratio": times["draft, 1"] / times["target, 1"]}
            row |= {"expected": expected, **{f"length {i}": int(n) for i, n in enumerate(lengths)}}
            found.append({"way": name, **row})
        return pd.DataFrame(found)

    @property
    def timed_widths(self) -> dict[str, tuple[int, ...]]:
        """Tokens of the single forwards that are timed."""
        return {"target": (1, self.gamma + 1), "draft": (1, 4)}

    @cached_property
    def joules(self) -> pd.DataFrame:
        """Windows of several seconds, ways in turns: a row a round, batch size and way; see `window`
        in lib/running/cost.py.

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


def _has_validation(task: str) -> bool:
    """Whether a task has a validation split."""
    try:
        return bool(items_of(task, "validation", 1))
    except UserError:
        return False
