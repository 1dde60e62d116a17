"""`make plan`: what a profile's sections would take, without a model or a row: results/plan.json, and a table.

What is counted are the runs that the studies would decode, their items, samples and options; where runs follow from
responses, `later_runs` is asked with responses that say nothing (see `silent`). Hours are an upper bound, by the
assumptions of `ASSUMED`, which are written into the plan.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from lib.errors import UserError
from lib.models.registry import FAMILIES, entry_of
from lib.paths import NOTEBOOKS, RESULTS, write_whole
from lib.reporting.effort import (
    BANDWIDTH,
    COMPUTED,
    FLOPS,
    MEMORY,
    MOST,
    PROMPT,
    READ,
    WATTS,
    bytes_a_row,
    responses_at_once,
    rows_of,
    seconds_by_clock,
    seconds_of,
    size_of,
    weights_of,
    work_by_clock,
    work_of,
)
from lib.reporting.profiles import read
from lib.reporting.render import parameters
from lib.running import index
from lib.running.run import Run
from lib.studies import study_of
from lib.studies.base import Timed
from lib.tasks import protocol_of

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


def silent(runs: dict[tuple, Run]) -> dict[tuple, list[dict]]:
    """Two items' responses of every run that say nothing: all wrong. Their temperature is one of the model's own, so
    that what follows from it is no other run; of drafts MTAD takes all, so that what follows only where it is faster
    is counted too."""
    found = {}
    for key, run in runs.items():
        gamma = dict(run.options).get("gamma", 0)
        line = SILENT | {"temperature": 0.5 + crc32(run.model.encode()) % 499 / 1000}
        line |= {"target_forwards": 1, "positions": 1}
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
    timed_drafts = sum(one.decodings * one.batch * work_by_clock(one).draft_forwards for one in by_clock)
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
