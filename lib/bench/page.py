"""The results of `make bench`: JSON for programs, a table and a figure for readers, under the machine's name."""

import json
import platform
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from lib.bench import gpu, work
from lib.bench.engine import cases
from lib.bench.rows import Row
from lib.paths import RESULTS
from lib.reporting.result_folder import style
from lib.running.cost import device_name

# Case -> what must be reached: at least for ratios, at most for shares that are lost.
WANTED = {
    "smollm2-b1": 1.25, "study-ar-b1": 2.5, "study-ar-b64": 1.5, "samples-8": 1.4, "nucleus-2k": 1.0,
    "nucleus-49k": 3.0, "nucleus-152k": 3.0, "speculative-vs-assisted": 1.3, "bandwidth-share": 85.0,
}  # fmt: skip
AT_MOST = {"mtad-outside": 10.0, "autodeco-b1": 1.0, "evaluation-outside": 5.0, "memory-over": 10.0}
SHARES = {"bandwidth-share", "product-share", *AT_MOST}  # in %
WORDS = {
    "smollm2-b1": "SmolLM2, greedy, batch 1",
    "study-ar-b1": "study model, greedy, batch 1",
    "study-ar-b64": "study model, greedy, batch 64",
    "samples-8": "eight samples of each of eight prompts",
    "nucleus-2k": "a draw from a nucleus, 2,048 tokens",
    "nucleus-49k": "the same, 49,152 tokens",
    "nucleus-152k": "the same, 151,936 tokens",
    "speculative-vs-assisted": "speculative decoding, greedy, SmolLM2",
    "tolerator-b1": "TOLERATOR on the diffusion model, batch 1",
    "tolerator-b16": "the same, batch 16",
    "mtad-outside": "MTAD's time outside of the two networks",
    "autodeco-b1": "what AutoDeco's heads add to a token",
    "evaluation-outside": "a run's time outside of decoding",
    "bandwidth-share": "a token of SmolLM2 beside reading its weights once",
    "product-share": "a token of SmolLM2 beside the products alone",
    "memory-over": "peak memory above weights, cache and logits",
}


def bench(rounds: int, folder: Path | None = None) -> list[Row]:
    """Measure every case and write `engine.json`, `engine.md` and the figure; with DEVICE=cuda a GPU's cases."""
    on_gpu, rows = work.device() != "cpu", []
    folder = folder or RESULTS / ("gpu/bench" if on_gpu else "bench")
    for row in (gpu.cases if on_gpu else cases)(rounds):
        rows.append(row)
        print(f"{row.case}: {row.ratio.value:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]", file=sys.stderr)
    known = list(gpu.WORDS if on_gpu else WORDS)
    rows.sort(key=lambda row: known.index(row.case))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.json").write_text(json.dumps(as_json(rows), indent=1) + "\n")
    (folder / "engine.md").write_text(page(rows))
    drawn = figure(rows)
    drawn.savefig(folder / "engine.svg", metadata={"Date": None})
    drawn.savefig(folder / "engine.png", metadata={"Software": None}, dpi=150)
    return rows


def as_json(rows: list[Row]) -> dict:
    return {
        "device": device(),
        "threads": torch.get_num_threads(),
        "rows": [
            {
                "case": row.case,
                **{name: round(float(getattr(row.ratio, key)), 3)
                   for name, key in (("ratio", "value"), ("low", "low"), ("high", "high"))},
                "ours": round(float(row.ours), 3),
                "peer": round(float(row.peer), 3),
                "unit": row.unit,
                "by": row.by,
                "against": row.against,
                "rounds": row.ratio.n,
            }
            for row in rows
        ],
    }  # fmt: skip


def device() -> str:
    """The GPU's or the processor's name."""
    if work.device() != "cpu":
        return device_name(work.device())
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0] if info.exists() else platform.machine()


def reached(row: Row) -> str:
    if row.case in AT_MOST:
        return f"{'yes' if row.ratio.value <= AT_MOST[row.case] else 'no'} (at most {AT_MOST[row.case]:g} %)"
    if row.case in WANTED:
        unit = " %" if row.case in SHARES else ""
        return f"{'yes' if row.ratio.value >= WANTED[row.case] else 'no'} (at least {WANTED[row.case]:g}{unit})"
    return ""


def page(rows: list[Row]) -> str:
    lines = [
        "# The engine's speed",
        "",
        f"Written by `make bench` on {device()}, {torch.get_num_threads()} threads, torch {torch.__version__}. Ours "
        "and the peer run in turns in one process, after both were seen to make the same tokens. Medians over "
        "rounds, with their 95 % bootstrap interval. A ratio above 1 is ours being faster. Ours and the peer are "
        "each at the fastest of their settings; `compiled` is `DECODING_COMPILE=on`, and of `generate` its own.",
        "",
        "| case | what | ratio or share | ours | peer | | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        e, unit = row.ratio, " %" if row.case in SHARES else ""
        value = f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]{unit}"
        numbers = f"{row.ours:.4g} ({row.by}) | {row.peer:.4g} {row.unit} | {row.against}"
        lines.append(f"| `{row.case}` | {(WORDS | gpu.WORDS)[row.case]} | {value} | {numbers} | {reached(row)} |")
    return "\n".join([*lines, "", "![ratios](engine.png)", ""])


def figure(rows: list[Row]):
    """The ratios with their intervals; the mark is what must be reached."""
    style()
    shown = [row for row in rows if row.case not in SHARES][::-1]
    drawn, axis = plt.subplots(figsize=(9, 0.45 * len(shown) + 1))
    for place, row in enumerate(shown):
        e = row.ratio
        axis.errorbar(e.value, place, xerr=[[e.value - e.low], [e.high - e.value]], fmt="o", color="C0", capsize=3)
        if row.case in WANTED:
            axis.plot(WANTED[row.case], place, "|", color="0.4", ms=14)
    axis.axvline(1, color="0.7", lw=1)
    axis.set_yticks(range(len(shown)), [(WORDS | gpu.WORDS)[row.case] for row in shown])
    axis.set(xlabel="times as fast (bar: the aim)", xscale="log")
    axis.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axis.minorticks_off()
    return drawn
