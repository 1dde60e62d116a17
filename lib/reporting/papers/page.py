"""results/papers.md: what does not add up in the papers, and what others found, beside what is found here."""

from lib.reporting.inert import markdown_cell
from lib.reporting.papers.errata import errata
from lib.reporting.papers.prior import prior


def page(claims: list[dict]) -> str:
    """Markdown, wholly computed: the printed cells are in this package, the verdicts in results/claims.json."""
    lines = [
        "# Beside the papers",
        "",
        "Written by `make report`. What the papers' own cells contradict, and what others found on the same "
        "questions. Cells are in `lib/reporting/papers/`, each with where it was read.",
        "",
        "## What does not add up in them",
        "",
        "| paper, place | printed | what the cells say | so |",
        "|---|---|---|---|",
    ]
    lines += [_line(f"{e.paper}, {e.where}", e.printed, e.found, e.so) for e in errata()]
    lines += [
        "",
        "## What others found",
        "",
        "Theirs is on other models and tasks: what *differs* is a reason to look, not a refutation. What *cannot be "
        "told apart here* has an interval with zero in it (of a ratio: 1).",
        "",
        "| about | source | theirs | ours | beside |",
        "|---|---|---|---|---|",
    ]
    for row in prior(claims):
        name = row["from"]
        link = f" ([{name[:2]}]({row['profile']}/{name}/{name}.ipynb))" if name else ""
        cells = [markdown_cell(row[key]) for key in ("paper", "source", "theirs", "ours")]
        lines.append(f"| {' | '.join(cells)}{link} | **{row['beside']}** |")
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return f"| {' | '.join(map(markdown_cell, cells))} |"
