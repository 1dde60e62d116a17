"""`make plan`: what a profile's sections would take, without a model or a row: results/plan.json, and a table.

What is counted are the runs that the studies would decode, their items, samples and options; where runs follow from
responses, `later_runs` is asked with responses that say nothing (see `silent`). Hours are an upper bound, by the
assumptions of `ASSUMED`, which are written into the plan.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from zlib import crc32

import pandas as pd

from lib.autodeco.heads import Heads, HeadsConfig
from lib.errors import UserError
from lib.models.registry import FAMILIES, entry_of
from lib.models.trend import run_of
from lib.paths import NOTEBOOKS, RESULTS, ROOT, write_whole
from lib.reporting.profiles import read
from lib.reporting.render import parameters
from lib.running import index
from lib.running.run import Run
from lib.studies import study_of
from lib.studies.base import Timed
from lib.tasks import protocol_of

SIZES = Path(__file__).parent / "sizes.csv"
MEMORY, BANDWIDTH, FLOPS, WATTS = 80e9, 3.35e12, 989e12, 700  # of one H100 SXM: bytes, bytes a second, bfloat16
READ, COMPUTED, USABLE = 0.6, 0.4, 0.9  # shares of the three that a forward reaches
NUMBER, PROMPT, MOST = 2, 512, 256  # bytes a number, tokens a prompt, responses decoded at once
ASSUMED = (
    f"one H100 SXM: {MEMORY / 1e9:.0f} GB, {BANDWIDTH / 1e12:g} TB/s of which {READ:.0%} is reached, "
    f"{FLOPS / 1e12:.0f} TFLOP/s in bfloat16 of which {COMPUTED:.0%}, {WATTS} W throughout",
    f"weights and cache in bfloat16; prompts of {PROMPT} tokens; as many responses at once as fit, at most {MOST}",
    "every response is as long as its limit, every drafted token is rejected: hours are at most these",
    "a section's hours are those of it alone; the total counts responses that several sections share once",
    "loading, scoring, figures and perplexities are not counted, nor what is decoded once more to show its steps, "
    "nor windows of joules, nor second turns for a judge",
)
GATED_ROWS = ("Idavidrein/gpqa",)
SILENT = {"correct": 0, "status": "ok", "drawn": 1, "top_p": 0.777, "tokens_kept": 1}


@dataclass(frozen=True)
class Size:
    """A model's shape: `parameters` in all, those `active` for a token, and what its cache is made of."""

    parameters: int
    active: int
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    gated: bool
    source: str

    @property
    def weights(self) -> int:
        """Bytes."""
        return NUMBER * self.parameters

    @property
    def cached(self) -> int:
        """Bytes of keys and values a token."""
        return 2 * NUMBER * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Work:
    """What a response takes at most. `wide`: positions of a forward; `rows`: how many of them each response has."""

    forwards: int
    wide: int
    tokens: int
    draft_forwards: int = 0
    rows: int = 1


def size_of(name: str) -> Size:
    """The shape of a model, or of the base of heads with these. Raises UserError for one that sizes.csv lacks."""
    entry = entry_of(name)
    if entry.tier == "heads":
        base = size_of(entry.base)
        extra = heads_in(base.hidden)
        return replace(base, parameters=base.parameters + extra, active=base.active + extra)
    name = run_of(name)  # of the same shape after any step
    if name not in _sizes():
        raise UserError(f"{SIZES.relative_to(ROOT)} has no size of {name}: add a row with its source")
    return _sizes()[name]


@cache
def _sizes() -> dict[str, Size]:
    rows = pd.read_csv(SIZES, dtype={"gated": str}, keep_default_na=False).to_dict("records")
    return {row.pop("model"): Size(**row | {"gated": row["gated"] == "yes"}) for row in rows}


@cache
def heads_in(hidden: int) -> int:
    """Parameters of AutoDeco's two heads on a base of that width."""
    return sum(p.numel() for p in Heads(HeadsConfig(hidden)).parameters())


def rows_of(run: Run) -> int:
    """Responses of a run: a benchmark may have fewer items than are asked for."""
    return min(run.items, _most(run.task) if run.split == "test" else run.items) * run.samples


@cache
def _most(task: str) -> int:
    """Items of a benchmark; of a task that is generated, or whose size its release decides, any number."""
    try:
        count = protocol_of(task).count
    except UserError:
        count = None
    return count or 10**9


def work_of(run: Run) -> Work:
    """What a response of a run takes at most, by the options of its method."""
    options = dict(run.options)
    if "canvas" in options:
        forwards = options["forwards"] if "forwards" in options else options["steps"]
        return Work(forwards, PROMPT + options["canvas"], options["canvas"])
    tokens, gamma = options["max_new_tokens"], options.get("gamma", 0)
    if run.draft:
        shown = options["width"] * gamma if options.get("tree") else _shown(options) or gamma
        return Work(tokens, shown + 1, tokens, draft_forwards=gamma * tokens)
    return Work(tokens, 1, tokens, rows=options.get("width", 1))


def _shown(options: dict) -> int:
    """Positions of a static tree of drafts, level by level."""
    found, level = 0, 1
    for branches in options.get("branches", ()):
        level *= branches
        found += level
    return found


def seconds_of(run: Run, rows: int) -> float:
    """Seconds of `rows` responses of a run on one H100, at most; see ASSUMED."""
    work, size = work_of(run), size_of(run.model)
    at_once = responses_at_once(run)
    if "canvas" in dict(run.options):
        return ceil(rows / at_once) * work.forwards * _forward(size, at_once * work.rows * work.wide, 0)
    return _decoding(size, size_of(run.draft) if run.draft else None, work, PROMPT, rows, at_once)


def seconds_by_clock(one: Timed) -> float:
    """Seconds of what is decoded by the clock, as of a run whose batches are of a given size."""
    rows = one.decodings * one.batch
    draft = size_of(one.draft) if one.draft else None
    return _decoding(size_of(one.model), draft, _work_by_clock(one), one.prompt or PROMPT, rows, one.batch)


def _work_by_clock(one: Timed) -> Work:
    return Work(one.tokens, one.draft_steps + 1, one.tokens, draft_forwards=one.draft_steps * one.tokens)


def _decoding(size: Size, draft: Size | None, work: Work, prompt: int, rows: int, at_once: int) -> float:
    """Seconds of responses token by token, `at_once` a batch: their prompts, all forwards, and the draft's."""
    batches = ceil(rows / at_once)
    cache_read = size.cached * (prompt + work.tokens / 2) * work.rows * at_once
    found = batches * work.forwards * _forward(size, at_once * work.rows * work.wide, cache_read)
    found += rows * 2 * size.active * prompt / (COMPUTED * FLOPS)
    return found + (batches * work.draft_forwards * _forward(draft, at_once, 0) if draft else 0)


def _forward(size: Size, positions: int, cache_read: float) -> float:
    """Seconds of a forward: reading, or computing where that takes longer."""
    return max((size.weights + cache_read) / (READ * BANDWIDTH), 2 * size.active * positions / (COMPUTED * FLOPS))


def bytes_a_row(run: Run) -> float:
    """Bytes that one response needs besides the weights: its cache, or the canvas' logits."""
    work, size = work_of(run), size_of(run.model)
    if "canvas" in dict(run.options):
        return NUMBER * work.wide * (8 * size.hidden) + 3 * 4 * work.tokens * size.vocabulary
    cached = size.cached + (size_of(run.draft).cached if run.draft else 0)
    return work.rows * (cached * (PROMPT + work.tokens) + 3 * 4 * work.wide * size.vocabulary)


def weights_of(run: Run) -> int:
    """Bytes of the weights that a run holds."""
    return size_of(run.model).weights + (size_of(run.draft).weights if run.draft else 0)


def responses_at_once(run: Run) -> int:
    """Responses that memory holds beside the weights, 1 at least."""
    return max(1, min(MOST, int((USABLE * MEMORY - weights_of(run)) / bytes_a_row(run))))


def silent(runs: dict[tuple, Run]) -> dict[tuple, list[dict]]:
    """Two items' responses of every run that say nothing: all wrong. Their temperature is one of the model's own, so
    that what follows from it is no other run; of drafts MTAD takes all, so that what follows only where it is faster
    is counted too."""
    found = {}
    for key, run in runs.items():
        gamma = dict(run.options).get("gamma", 0)
        line = SILENT | {"temperature": 0.5 + crc32(run.model.encode()) % 499 / 1000, "target_forwards": 1}
        line |= {"draft_forwards": gamma, "accepted": gamma if run.method == "mtad" else 0, "bonus": 1}
        rows = [(f"item {i}", sample) for i in range(2) for sample in range(run.samples)]
        found[key] = [line | {"item": item, "sample": sample} for item, sample in rows]
    return found


def runs_of(study) -> list[Run]:
    """Every run of a study, those that follow from responses among them."""
    first = study.runs()
    return list(dict.fromkeys([*first.values(), *study.later_runs(silent(first)).values()]))


def plan_of(profile: str, chosen: dict[str, str]) -> dict:
    """The plan of some of a profile's sections, section -> notebook. Raises UserError as a run would, and for a model
    whose size is not known."""
    sections, everything, timed, in_folder = {}, [], [], read(profile).is_folder
    for name, notebook in chosen.items():
        values = parameters(NOTEBOOKS / f"{notebook}.ipynb", profile, section=name if in_folder else "")
        study = study_of(notebook).of(values)
        runs, by_clock = runs_of(study), study.timed()
        sections[name] = {"notebook": notebook} | _section(runs, by_clock)
        everything += runs
        timed += by_clock
    shared = _section(list(_shared(everything)), timed)
    named = {run.model for run in everything} | {run.draft for run in everything} | {t.model for t in timed}
    named |= {t.draft for t in timed}
    return {
        "profile": profile,
        "assumptions": list(ASSUMED),
        "models": {name: _model(name) for name in sorted(named - {""})},
        "gated": sorted({one for section in sections.values() for one in section["gated"]}),
        "sections": sections,
        "total": {key: shared[key] for key in ("rows", "forwards", "draft_forwards", "tokens", "hours", "kwh")},
    }


def _shared(runs: Iterable[Run]) -> Iterable[Run]:
    """Runs that differ in items or samples alone as one, for they share their responses."""
    largest: dict[Run, tuple[int, int]] = {}
    for run in runs:
        key = replace(run, items=1, samples=1)
        items, samples = largest.get(key, (0, 0))
        largest[key] = max(items, run.items), max(samples, run.samples)
    return (replace(key, items=items, samples=samples) for key, (items, samples) in largest.items())


def _section(runs: list[Run], by_clock: list[Timed]) -> dict:
    rows, works = [rows_of(run) for run in runs], [work_of(run) for run in runs]
    seconds = sum(seconds_of(run, n) for run, n in zip(runs, rows, strict=True))
    seconds += sum(map(seconds_by_clock, by_clock))
    timed_rows = sum(one.decodings * one.batch for one in by_clock)
    timed_tokens = sum(one.decodings * one.batch * one.tokens for one in by_clock)
    timed_drafts = sum(one.decodings * one.batch * _work_by_clock(one).draft_forwards for one in by_clock)
    held = [weights_of(run) + bytes_a_row(run) for run in runs]
    held += [size_of(t.model).weights + (size_of(t.draft).weights if t.draft else 0) for t in by_clock]
    names = {name for run in runs for name in (run.model, run.draft) if name}
    names |= {name for t in by_clock for name in (t.model, t.draft) if name}
    tasks = sorted({run.task for run in runs})
    return {
        "models": sorted(names),
        "tasks": tasks,
        "runs": len(runs),
        "rows": sum(rows) + timed_rows,
        "forwards": sum(n * work.forwards for n, work in zip(rows, works, strict=True)) + timed_tokens,
        "draft_forwards": sum(n * work.draft_forwards for n, work in zip(rows, works, strict=True)) + timed_drafts,
        "tokens": sum(n * work.tokens for n, work in zip(rows, works, strict=True)) + timed_tokens,
        "memory_gb": round(max(held, default=0) / 1e9, 1),
        "responses_at_once": min(map(responses_at_once, runs), default=None),
        "hours": round(seconds / 3600, 3),
        "kwh": round(seconds / 3600 * WATTS / 1000, 3),
        "gated": sorted([name for name in names if size_of(name).gated] + [task for task in tasks if _gated(task)]),
    }


def _gated(task: str) -> bool:
    try:
        return protocol_of(task).rows.startswith(GATED_ROWS)
    except UserError:
        return False


def _model(name: str) -> dict:
    entry, size = entry_of(name), size_of(name)
    kind = "diffusion" if FAMILIES[entry.family].mask_id is not None else "autoregressive"
    return {
        "source": entry.source,
        "base": entry.base or None,
        "kind": kind,
        "licence": entry.licence,
        "gated": size.gated,
        "parameters": size.parameters,
        "active": size.active,
        "size_from": size.source,
    }


def write(plan: dict, results: Path = RESULTS) -> Path:
    """The plan as `<results>/plan.json`, which the index of results then knows."""
    path = results / "plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(plan, indent=1) + "\n")
    index.note(path, results)
    return path


def table(plan: dict) -> str:
    """The plan for a terminal: models, a line a section, the total, what is gated, the assumptions."""
    models = [
        [name, f"{one['parameters'] / 1e9:.3g} B", one["licence"], one["source"], "gated" if one["gated"] else ""]
        for name, one in plan["models"].items()
    ]
    lines = _columns([["model", "parameters", "licence", "source", ""], *models])
    head = ["section", "rows", "forwards", "tokens", "GB", "hours", "kWh", "gated"]
    rows = [[name, *_numbers(one), ", ".join(one["gated"])] for name, one in plan["sections"].items()]
    rows.append(["all, shared responses once", *_numbers(plan["total"] | {"memory_gb": None}), ""])
    lines += ["", *_columns([head, *rows]), ""]
    return "\n".join(lines + [f"- {one}" for one in plan["assumptions"]])


def _numbers(one: dict) -> list[str]:
    short = [f"{one[key]:.3g}" if one[key] >= 1e6 else f"{one[key]:,}" for key in ("rows", "forwards", "tokens")]
    memory = "" if one["memory_gb"] is None else f"{one['memory_gb']:.1f}"
    return [*short, memory, f"{one['hours']:,.1f}", f"{one['kwh']:,.1f}"]


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
