"""The prompt-template axis: the same questions in several frames, and whether decoders keep their order.

On a model that follows instructions, for one that was trained on one frame alone reads the others as noise: greedy
on 40 validation items, study-ar answers 23, 8 and 0 % of worded math in the three templates. SmolLM2 answers 13 to
21 % of the country questions in all four frames (24 validation items), which decided where this is asked.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from lib.analysis.rankings import Agreement, agreement, flipped
from lib.analysis.stats import Estimate
from lib.reporting.claims import HOLDS, OPEN, OWN, REFUTED, Claim, Ruling, above_floor
from lib.reporting.tables import accuracy_cells, comparison_table, outcomes, summary_row
from lib.running.run import Run
from lib.studies.autodeco.scores import mean_setting
from lib.tasks import get_task
from lib.tasks.prompt_templates import MARK, templates_of

OWN_FRAME = "the task's own"
# Method -> its name in tables, decoder and options; `autodeco` and `constant` stand for themselves.
FRAMED = {
    "greedy": ("greedy", "autoregressive", {}),
    "default": ("default (T = 1, P = 1)", "autoregressive", {"temperature": 1.0}),
    "min_p": ("min-p", "min_p", {}),
    "p_less": ("p-less", "p_less", {}),
    "autodeco": ("AutoDeco", "autodeco", {}),
    "constant": ("its mean as a constant", "autoregressive", None),
}
WHERE = "2606.29228"  # rankings of decoders flip with the prompt template


def frames_of(task: str) -> list[str]:
    """Names of the task in its own frame and in all templates."""
    return templates_of(get_task(task), follows_instructions=True)


def framed_runs(model: str, heads: str, task: str, size: dict) -> dict[tuple, Run]:
    """Keys are ("frame", task in its frame, method); without the constant, which follows. `size`: items, and the
    length limit where it is not the task's."""
    return {
        ("frame", name, method): Run.of(heads if method == "autodeco" else model, name, decoder, **size, **options)
        for name in frames_of(task)
        for method, (_, decoder, options) in FRAMED.items()
        if options is not None
    }


def framed_constants(model: str, task: str, size: dict, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
    """Ordinary sampling at the mean setting that AutoDeco chose in each frame."""
    found = {}
    for name in frames_of(task):
        mean = mean_setting(lines["frame", name, "autodeco"])
        found["frame", name, "constant"] = Run.of(model, name, "autoregressive", **size, **mean)
    return found


def frame_name(task: str) -> str:
    return task.partition(MARK)[2] or OWN_FRAME


def framed_table(runs: dict[tuple, Run], lines: dict[tuple, list[dict]]) -> pd.DataFrame:
    """Accuracy in % with its 95 % interval: a line a method, a column a frame."""
    keys = [key for key in lines if key[0] == "frame"]
    rows = pd.DataFrame(
        summary_row(runs[key], lines[key], frame=frame_name(key[1]), method=FRAMED[key[2]][0]) for key in keys
    )
    table = rows.assign(cell=accuracy_cells(rows)).pivot(index="method", columns="frame", values="cell")
    order = list(dict.fromkeys(rows.frame))
    return table.loc[[words for words, *_ in FRAMED.values()], order].rename_axis(index=None, columns=None)


def framed_scores(task: str, lines: dict[tuple, list[dict]]) -> np.ndarray:
    """[frames, methods, items] of 0 and 1."""
    return np.array(
        [[outcomes(lines["frame", name, method]).mean(1) for method in FRAMED] for name in frames_of(task)]
    )


def framed_agreement(task: str, lines: dict[tuple, list[dict]]) -> Agreement:
    """How far the order of methods is the same in all frames."""
    return agreement(framed_scores(task, lines))


def framed_differences(task: str, lines: dict[tuple, list[dict]]) -> pd.DataFrame:
    """Every method minus every later one in every frame, in points, paired on items; p after Holm over all."""
    return comparison_table(
        [
            (
                {"frame": frame_name(name), "method": FRAMED[one][0], "against": FRAMED[other][0]},
                lines["frame", name, one],
                lines["frame", name, other],
            )
            for name in frames_of(task)
            for one, other in combinations(FRAMED, 2)
        ]
    )


def flips(differences: pd.DataFrame) -> tuple[int, int, int]:
    """Pairs of methods whose order flips between frames, as seen and as told by verdicts, and how many there are."""
    signs = {1: "higher", -1: "lower", 0: "tied"}
    seen: dict[tuple, dict] = {}
    told: dict[tuple, dict] = {}
    for row in differences.itertuples():
        pair = row.method, row.against
        seen.setdefault(pair, {})[row.frame] = signs[int(np.sign(row.difference))]
        told.setdefault(pair, {})[row.frame] = row.verdict
    return flipped(seen)[0], *flipped(told)


def framed_claim(task: str, lines: dict[tuple, list[dict]]) -> Claim:
    """That the order of decoders flips: decided by pairs that are told apart both ways, else open.

    Does not hold where the whole interval of tau lies above 0.8, which is one flipped pair in ten.
    """
    found, differences = framed_agreement(task, lines), framed_differences(task, lines)
    _, told, pairs = flips(differences)
    verdict = HOLDS if told else REFUTED if found.low > 0.8 else OPEN
    best = np.sort(framed_scores(task, lines).mean(-1).max(-1))  # of each frame; two of them make a flip
    e = Estimate(found.tau, found.low, found.high, found.n, found.p)
    says = "the order of decoders flips with the prompt template"
    unit = f"Kendall's tau ({told} of {pairs} pairs told apart both ways)"  # which decide
    ruling = above_floor(Ruling(verdict, found.low, found.high), 100 * best[-2])
    return Claim(OWN, says, f"it does ({WHERE})", e, unit, ruling)


def framed_reading(task: str, lines: dict[tuple, list[dict]]) -> str:
    """Tau with its interval beside what one order would give, and the flips."""
    found, (seen, told, pairs) = framed_agreement(task, lines), flips(framed_differences(task, lines))
    return (
        f"- **Frames**: Kendall's tau between the orders in {len(frames_of(task))} frames is {found.tau:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}], {found.n} items; one order in all frames would give "
        f"{found.expected:.2f} with so few items (p = {found.p:.3f}, by shuffling frames within items). Of {pairs} "
        f"pairs of methods {seen} change their order between frames, {told} of them by differences that are told "
        "from 0 both ways after Holm."
    )
