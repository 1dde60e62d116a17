"""SQL on Spider's own databases, asked as MTAD asks: one example, then schema, question and «SQL:».

The databases are those of the official archive: `<folder>/<db_id>/<db_id>.sqlite`, where the folder is named by
SPIDER_DATABASES, or is `spider_databases` in DATA_DIR. They are opened for reading alone.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.databases import agree, answer
from lib.tasks.protocol import Detailed, Protocol, fill
from lib.tasks.spider import TASK as RANDOM
from lib.tasks.spider import in_file_order, query_of
from lib.tasks.thinking import after_thought

EXAMPLE = (
    "Schema:\nbook(id, title, year)\nloan(book_id, person)\nloan.book_id = book.id\n"
    "Question: How many books from before 1950 are there?\nSQL: SELECT count(*) FROM book WHERE year < 1950;\n\n"
)
PROMPT = f"{EXAMPLE}Schema:\n{{tables}}\nQuestion: {{question}}\nSQL:"
STEPS = 200_000_000  # of SQLite's machine: the real tables have up to half a million rows
CURE = "put the `database` folder of Spider's archive there, or take the task spider, which needs none"


def stream(split: str) -> Iterator[Item]:
    """The questions of `spider` in the file's order, in MTAD's form. Raises UserError for any split but test."""
    for item in in_file_order(split):
        tables, _, question = item.prompt.removeprefix("Tables:\n").removesuffix("\nSQL:").rpartition("\nQuestion: ")
        prompt = fill(PROMPT, tables=tables, question=question)
        yield replace(item, id=item.id.replace("spider/", "spider_execution/"), prompt=prompt)


def database_of(name: str) -> Path:
    """The file of a database. Raises UserError, with the cure, where there is none."""
    data = os.environ.get("DATA_DIR")
    folder = os.environ.get("SPIDER_DATABASES") or (data and str(Path(data, "spider_databases")))
    if not folder:
        raise UserError(f"SPIDER_DATABASES names no folder: {CURE}")
    path = Path(folder, name, f"{name}.sqlite")
    if not path.is_file():
        raise UserError(f"no database {path}: {CURE}")
    return path


def _rows(path: Path, query: str) -> tuple[list[tuple] | None, str]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")  # some cells are Latin-1
        return answer(connection, query, STEPS)


@after_thought
def score(item: Item, text: str) -> Score:
    """Right where the two queries find the same set of rows: order, repeats and the order of columns do not count, as
    in MTAD's code. `ordered`: also in the same order where the given query has one, and as often."""
    path, query, given = database_of(item.reference["database"]), query_of(text), item.reference["query"]
    if query is None:
        return Detailed(0, detail={"execution": 0, "ordered": 0})
    right, fault = _rows(path, given)
    if right is None:
        raise UserError(f"the given query of {item.id} fails on {path} ({fault}): {CURE}")
    found, status = _rows(path, query)
    same = found is not None and _as_set(found) == _as_set(right)
    strict = found is not None and agree(right, found, "order by" in given.lower())
    detail = {"execution": int(same), "ordered": int(strict)}
    return Detailed(int(same), query, "timeout" if status == "timeout" else "ok", detail)


def _as_set(rows: list[tuple]) -> set[tuple[str, ...]]:
    return {tuple(sorted(map(str, row))) for row in rows}


PROTOCOLS = (
    Protocol(
        Task("spider_execution", "sql", RANDOM.licence, 128, stream, score),
        rows="xlangai/spider, spider, validation; the databases of Spider's archive",
        count=1034,
        prompt=PROMPT,
        judged="the same set of rows on the database of the question (MTAD's execution match); detail: in order",
        whose="MTAD: one example, schema, question, «SQL:»; its example is not printed, this one is ours; "
        "it takes the first 100 of the file, as the first 100 items are; its cut of prompts at 512 tokens, which can "
        "take a question away, is not done",
        shots=1,
        stops=(";",),
    ),
)
