"""What does not add up in the papers, computed from their printed cells: what to aim at instead of a slip."""

from dataclasses import dataclass

import pandas as pd

from lib.reporting.papers import printed


@dataclass(frozen=True)
class Erratum:
    """paper, where; printed: what stands there. found: what the printed cells come to. so: what we do about it."""

    paper: str
    where: str
    printed: str
    found: str
    so: str


def errata() -> list[Erratum]:
    """Every one that the cells show, in the order of the papers."""
    return [
        *_means(),
        *_copied(),
        *_error_cut(),
        *_losses("AutoDeco", printed("autodeco", "Table 1", "Table 2"), "consistently better than default sampling"),
        *_losses("TOLERATOR", printed("tolerator", "Table 1"), "consistent improvements over the baselines"),
        *_energy(),
    ]


def _wide(cells: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    return cells.pivot(index=index, columns="method", values="value").rename_axis(columns=None)


def _means() -> list[Erratum]:
    """Means that are not those of their columns, by more than rounding."""
    found = []
    for table in ("Table 1", "Table 2"):
        cells = printed("autodeco", table)
        for model, own in cells.groupby("model", sort=False):
            wide = own.pivot(index="task", columns="method", values="value")
            mean = wide.drop(index="mean").mean()
            if (mean - wide.loc["mean"]).abs().max() <= 0.0151:
                continue
            gain = {"printed": wide.loc["mean"], "columns": mean}
            stated, ours = (side.autodeco - side.default for side in gain.values())
            found.append(
                Erratum(
                    "AutoDeco",
                    f"{table}, {model}",
                    f"means {_three(wide.loc['mean'])}: AutoDeco {stated:+.2f} over default",
                    f"the columns come to {_three(mean)}: {ours:+.2f}",
                    "what is tested is the means of the columns",
                )
            )
    return found


def _three(row: pd.Series) -> str:
    return f"{row.greedy:.2f} (greedy), {row.default:.2f} (default), {row.autodeco:.2f} (AutoDeco)"


def _copied() -> list[Erratum]:
    """Tasks with the same cells at every k and method."""
    found = []
    for model, cells in printed("autodeco", "Tables 5-7").groupby("model", sort=False):
        wide = cells[cells.task != "mean"].pivot(index="task", columns=["k", "method"], values="value")
        same = wide[wide.duplicated(keep=False)]
        if len(same):
            found.append(
                Erratum(
                    "AutoDeco",
                    f"Tables 5-7, {model}",
                    f"{', '.join(same.index)} have the same pass@k at every k",
                    f"{same.shape[1]} cells each, equal to two decimals: one column copied",
                    "nothing of these columns is tested, nor the means with them",
                )
            )
    return found


def _error_cut() -> list[Erratum]:
    """Where the share of errors that AutoDeco removes does not grow with k, though the text says that it does."""
    cells = pd.concat([printed("autodeco", "Table 1"), printed("autodeco", "Tables 5-7")])
    wide = _wide(cells[cells.task == "mean"], ["model", "k"])
    cut = (100 * (wide.autodeco - wide.default) / (100 - wide.default)).dropna()
    found = []
    for model, own in cut.groupby(level="model", sort=False):
        if not own.sort_index().is_monotonic_increasing:
            parts = ", ".join(f"{value:.1f} % at {k}" for (_, k), value in own.sort_index().items())
            found.append(
                Erratum(
                    "AutoDeco",
                    f"appendix 8, {model}",
                    "the share of errors removed grows with the number of draws",
                    f"from the printed means: {parts}",
                    "the claim is judged model by model",
                )
            )
    return found


def _losses(paper: str, cells: pd.DataFrame, words: str) -> list[Erratum]:
    """Recovered cells in which the method is below a baseline that the sentence is about; means are no cells."""
    method = paper.lower()
    cells = cells[cells.task != "mean"]
    cells = cells[cells.forwards != "mean"] if "forwards" in cells else cells
    index = [name for name in ("table", "model", "task", "forwards") if name in cells]
    found = []
    for table, own in cells.groupby("table", sort=False):
        wide = _wide(own, index).reset_index()
        others = [name for name in ("default", "vanilla", "rcr") if name in wide]
        below = [
            f"{row.model} {row.task} {getattr(row, method) - getattr(row, other):+.2f} against {other}"
            for row in wide.itertuples()
            for other in others
            if getattr(row, method) < getattr(row, other)
        ]
        if below:
            told = f"below in {len(below)} of the {len(wide)} cells that are known: {'; '.join(below)}"
            if len(below) == len(wide):  # reviews quote what goes against the claim
                told = f"all {len(wide)} single cells that are known are below; they are from reviews, which "
                told += f"quote losses: {'; '.join(below)}"
            so = "a printed loss is tested like a printed gain"
            found.append(Erratum(paper, str(table), words, told, so))
    return found


def _energy() -> list[Erratum]:
    """The energies of two versions are in two units: times and percent."""
    cells = printed("mtad").set_index(["table", "unit"]).value
    times, percent = cells["abstract v2", "times less energy"], cells["abstract v4", "% less energy"]
    return [
        Erratum(
            "MTAD",
            "abstracts of v2 and v4",
            f"{times:g} times less energy (v2); {percent:g} % less energy (v4)",
            f"{times:g} times is {100 * (1 - 1 / times):.0f} % less, {percent:g} % is {1 / (1 - percent / 100):.2f} "
            "times: the later version claims less, on other models",
            "each version is a claim of its own",
        )
    ]
