"""What the papers print, each value with where it was read: shown beside our numbers, never mixed with them."""

from pathlib import Path

import pandas as pd


def printed(paper: str, *tables: str) -> pd.DataFrame:
    """The printed cells of a paper, of some tables or of all: table, model, task, method, value (%), source, and the
    paper's own columns (`forwards`, `k`)."""
    cells = pd.read_csv(Path(__file__).parent / f"{paper}.csv", dtype={"forwards": str, "k": "Int64"})
    return cells[cells.table.isin(tables)] if tables else cells
