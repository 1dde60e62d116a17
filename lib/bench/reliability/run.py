"""Runs all cases of `make torture` and writes `results/bench/reliability.json` and its page; goes on after a kill."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from lib.bench.page import device
from lib.bench.reliability import calls, changes, hostile, inputs, kills
from lib.bench.reliability.case import Case
from lib.bench.reliability.soak import growth
from lib.paths import BUILD, RESULTS

# Kind -> its cases, what a case that passes is called, and how many are wanted.
KINDS: dict[str, tuple[Callable[[], Iterator[Case]], str, int]] = {
    "kills": (kills.cases, "survived", 100),
    "hostile": (hostile.cases, "contained", 60),
    "misscored": (hostile.misscored, "scored right", 0),
    "bad_inputs": (lambda: chain(inputs.cases(), calls.cases()), "clear", 150),
    "check_changes": (changes.cases, "noticed", 40),
}
SOAK_MINUTES = 20
LOG = BUILD / "torture.jsonl"


def torture(minutes: float = SOAK_MINUTES, folder: Path = RESULTS / "bench", log: Path = LOG) -> dict:
    """Every case once, and the soak beside them. `log` keeps what was tried, so that a killed run goes on; remove it
    to begin anew."""
    log.parent.mkdir(parents=True, exist_ok=True)
    done = {row["name"]: row for row in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    found = {}
    with log.open("a") as file, ProcessPoolExecutor(1, get_context("spawn")) as beside:
        soak = beside.submit(growth, minutes)
        for kind, (cases, _, _) in KINDS.items():
            found[kind] = []
            for case in tqdm(list(cases()), desc=kind, unit="case"):
                name = f"{kind}/{case.name}"
                if name not in done:
                    done[name] = {"name": name, "failed": failure(case)}
                    file.write(json.dumps(done[name]) + "\n")
                    file.flush()
                found[kind].append(done[name])
        grown = soak.result()
    folder.mkdir(parents=True, exist_ok=True)
    summary = as_json(found, minutes, grown)
    (folder / "reliability.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "reliability.md").write_text(page(found, summary))
    return summary


def failure(case: Case) -> str | None:
    """Why a case failed, in a line; None where it passed."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        case.check(folder)
    except Exception as error:  # a raw error of the product is a failure as much as a wrong result
        return f"{type(error).__name__}: {error}".splitlines()[0][:300]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def as_json(found: dict[str, list[dict]], minutes: float, grown: float) -> dict:
    passed = {kind: sum(row["failed"] is None for row in rows) for kind, rows in found.items()}
    counts = {kind: [passed[kind], len(rows)] for kind, rows in found.items() if kind != "misscored"}
    return {
        **counts,
        "misscored": len(found["misscored"]) - passed["misscored"],
        "soak_minutes": minutes,
        "soak_growth_percent": round(grown, 2),
    }


def page(found: dict[str, list[dict]], summary: dict) -> str:
    lines = [
        "# Reliability",
        "",
        f"Written by `make torture` on {device()}. Each case gets an empty folder and either passes or not; "
        "`lib/bench/reliability` holds them all.",
        "",
        "| kind | passed | tried | wanted |",
        "|---|---|---|---|",
    ]
    for kind, rows in found.items():
        _, word, wanted = KINDS[kind]
        passed = sum(row["failed"] is None for row in rows)
        lines.append(f"| {kind.replace('_', ' ')}: {word} | {passed} | {len(rows)} | all of at least {wanted} |")
    lines += [
        f"| soak: {summary['soak_minutes']:g} minutes | grown by {summary['soak_growth_percent']} % | | below 2 % |",
        "",
    ]
    failed = [row for rows in found.values() for row in rows if row["failed"]]
    lines += ["## What failed", "", *(f"- `{row['name']}`: {row['failed']}" for row in failed)] if failed else []
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(json.dumps(torture(*map(float, sys.argv[1:2])), indent=1))
