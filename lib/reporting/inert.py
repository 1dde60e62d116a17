"""Text of models, users and machines made harmless for a page, a table or a log: nothing in it acts or hides.

What a character would do is written out instead (`\\x1b`), so that a reader sees that it was there.
"""

import re

import pandas as pd

from lib.errors import redacted

LONGEST = 2000  # characters of a line; what is longer no reader reads, and viewers stop at a megabyte
# Control characters but tab and new line, marks that turn the direction of writing, line separators that are no
# new line, byte-order marks, halves of surrogate pairs (no encoding has them), tags that no font shows.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
FORMULA = tuple("=+-@\t\r＝＋－＠")  # what a spreadsheet takes for a formula where it begins a cell


def inert(text: str, longest: int = LONGEST) -> str:
    """`text` with what acts written out, and lines cut to `longest` characters with a count of the rest."""
    text = ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))
    if len(text) <= longest:
        return text
    return "\n".join(line if len(line) <= longest else _cut(line, longest) for line in text.split("\n"))


def _cut(line: str, longest: int) -> str:
    """At most `longest` characters, the count included, so that what was cut is not cut again."""
    kept = longest - 40
    return f"{line[:kept]}… [{len(line) - kept} characters more]"


def label_text(text: str) -> str:
    """Text for a label of matplotlib, which would read what stands between two dollar signs as mathematics."""
    return inert(text).replace("$", r"\$")


def markdown(text: str) -> str:
    """Markdown that holds no HTML and no link that runs code."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", inert(text))
    return re.sub(r"(?i)(\]\(\s*|\]:\s*)(javascript|vbscript|data):", r"\1unsafe%3A", text)


def markdown_cell(text: str) -> str:
    """One cell of a Markdown table."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(markdown(text).split()))


def csv_cell(value):
    """A cell that a spreadsheet shows and does not compute; numbers as they are."""
    if not isinstance(value, str):
        return value
    text = inert(redacted(value))
    if text.startswith(FORMULA) and not _is_number(text):
        return f"'{text}"
    return text


def csv_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts and names of columns are `csv_cell`s; the same table where none of them acts."""
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name].dtype)]
    safe = table.assign(**{name: table[name].astype(object).map(csv_cell) for name in texts if isinstance(name, str)})
    return safe.rename(columns=csv_cell)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
