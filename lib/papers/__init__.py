"""What the papers print, each value with where it was read: shown beside our numbers, never mixed with them."""

from pathlib import Path

import pandas as pd


def printed(paper: str) -> pd.DataFrame:
    """The printed cells of a paper: table, model, task, forwards, method, value (%), source."""
    return pd.read_csv(Path(__file__).parent / f"{paper}.csv", dtype={"forwards": str})
