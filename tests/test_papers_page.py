"""What does not add up in the papers, recomputed by hand here, and what others found beside our verdicts."""

import csv
import json

import pandas as pd
import pytest

from lib.paths import NOTEBOOKS, RESULTS
from lib.reporting.claims import EQUIVALENT, HOLDS, OPEN, REFUTED, UNTESTABLE
from lib.reporting.papers import errata as module
from lib.reporting.papers import prior as prior_module
from lib.reporting.papers.errata import errata
from lib.reporting.papers.prior import AGREES, ANOTHER, DIFFERS, MISSING, NEAREST, UNTOLD, prior


def by_place(paper: str, where: str):
    (found,) = [e for e in errata() if (e.paper, e.where) == (paper, where)]
    return found


def test_the_mean_of_table_2_is_that_of_its_columns():
    """By hand: (47.41 + 47.65 + 53.00 + 32.35) / 4 = 45.10, (48.91 + 50.75 + 53.14 + 33.90) / 4 = 46.675."""
    found = by_place("AutoDeco", "Table 2, R1-Distill-Qwen-7B")
    assert "+4.41" in found.printed and "45.10 (default)" in found.found and "+1.57" in found.found
    assert not [e for e in errata() if e.where.startswith("Table 1, ")], "those of Table 1 follow from their columns"


def test_copied_columns_are_those_of_one_model():
    found = by_place("AutoDeco", "Tables 5-7, Llama-Nemotron-8B")
    assert found.printed.split(" have ")[0] == "BRUMO25, BeyondAIME, HMMT25", "AIME has cells of its own"


def test_the_error_cut_falls_where_the_text_says_that_it_grows():
    """By hand at k = 32: (80.20 - 80.27) / (100 - 80.27) = -0.35 %."""
    assert "-0.4 % at 32" in by_place("AutoDeco", "appendix 8, Qwen3-30B-A3B").found
    assert not [e for e in errata() if e.where == "appendix 8, GPT-OSS-20B"], "there it does grow"


def test_printed_losses_are_found_with_their_size():
    found = by_place("TOLERATOR", "Table 1").found
    assert "Dream-7B MBPP -5.40 against vanilla" in found and "LLaDA-8B TriviaQA -9.58 against rcr" in found
    assert "all 5 single cells that are known are below" in found and "GSM8K" not in found, (
        "means over budgets are no cells"
    )
    assert "1 of the 16 cells" in by_place("AutoDeco", "Table 1").found


def test_energy_is_put_into_one_unit():
    found = by_place("MTAD", "abstracts of v2 and v4").found
    assert "35 % less" in found and "1.31 times" in found


def test_a_paper_without_a_slip_has_no_entry(monkeypatch):
    """The finder speaks of cells, not of papers: mended cells are passed over."""
    cells = module.printed("autodeco", "Table 2")
    rest = cells[(cells.task != "mean")].groupby(["model", "method"], as_index=False).value.mean()
    mended = cells.merge(rest, on=["model", "method"], suffixes=("", "_mean"))
    mended["value"] = mended.value.where(mended.task != "mean", mended.value_mean.round(2))
    monkeypatch.setattr(module, "printed", lambda *_: mended)
    assert module._means() == []


@pytest.mark.parametrize(
    ("verdict", "expects", "beside"),
    [
        (HOLDS, "gain", AGREES),
        (REFUTED, "gain", DIFFERS),
        (EQUIVALENT, "gain", DIFFERS),
        (EQUIVALENT, "none", AGREES),
        (HOLDS, "none", DIFFERS),
        (OPEN, "gain", UNTOLD),
        (OPEN, "none", UNTOLD),
        (REFUTED, "loss", AGREES),
        (UNTESTABLE, "gain", MISSING),
        (REFUTED, "another rule", NEAREST),
        (UNTESTABLE, "another rule", MISSING),
    ],
)
def test_agreement_follows_from_our_verdict(verdict, expects, beside):
    row = {"paper": "MTAD", "source": "s", "theirs": "t", "expects": expects, "notebook": "30_mtad_scores"}
    ours = {"from": "30_mtad_scores", "says": "a beats b", "verdict": verdict, "size": "", "profile": "night"}
    ours |= {"value": 1.0, "low": 0.5, "high": 1.5, "n": 9, "unit": "points"}
    assert prior_module._beside(row | {"claim": "a beats b"}, [ours])["beside"] == beside
    assert prior_module._beside(row | {"claim": "another"}, [ours])["beside"] == MISSING


def test_every_prior_names_a_notebook_and_is_shown():
    rows = list(csv.DictReader(open(prior_module.Path(prior_module.__file__).with_name("prior.csv"))))
    assert len(prior([])) == len(rows) >= 9
    claims = json.loads((RESULTS / "claims.json").read_text())
    pages = {row["from"] for row in claims}
    for row in rows:
        if row["notebook"] in pages:
            assert sum((c["from"], c["says"]) == (row["notebook"], row["claim"]) for c in claims) == 1, row["claim"]
    assert all((NOTEBOOKS / f"{row['notebook']}.ipynb").exists() for row in rows)
    assert {row["expects"] for row in rows} <= {*prior_module.EXPECTED, ANOTHER}
    assert pd.DataFrame(rows).paper.nunique() == 3
