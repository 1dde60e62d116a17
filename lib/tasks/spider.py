"""SQL: questions of Spider's development set (Yu et al. 2018), right where the query answers as the given one does.

Spider's own databases are not part of its repository. A query is run on databases that are filled at random for the
schema instead, and must agree with the given query on each of them: the idea of test-suite accuracy (Zhong et al.
2020). That is no published number: a query that is right on the one real database by chance is wrong here.
"""

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.databases import agree, answer, databases
from lib.tasks.rows import load_rows

DATABASES = 6


@cache
def schemas() -> dict[str, dict]:
    """Database id -> its row of tables.json."""
    return {row["db_id"]: row for row in load_rows("taoyds/spider", None, "tables", "spider_tables.jsonl")}


def stream(split: str) -> Iterator[Item]:
    """The 1,034 questions, in an order by hash: the file has those of a database together.

    Raises UserError for any split but test: there is no other here.
    """
    if split != "test":
        raise UserError(f"spider has the split test only (its development set), not {split!r}")
    rows = list(enumerate(load_rows("xlangai/spider", "spider", "validation", "spider_dev.jsonl")))
    for index, row in sorted(rows, key=lambda pair: sha256(f"spider/{pair[0]}".encode()).digest()):
        schema = schemas()[row["db_id"]]
        prompt = f"Tables:\n{described(schema)}\nQuestion: {row['question']}\nSQL:"
        yield Item(f"spider/{index}", prompt, target=row["query"], reference={"database": row["db_id"]})


def described(schema: dict) -> str:
    """A line a table with its columns, then what foreign keys join."""
    tables, columns = schema["table_names_original"], schema["column_names_original"]
    own = [", ".join(column for at, column in columns if at == table) for table in range(len(tables))]
    lines = [f"{name}({names})" for name, names in zip(tables, own, strict=True) if not name.startswith("sqlite_")]
    named = [f"{tables[at]}.{column}" if at >= 0 else column for at, column in columns]
    lines += [f"{named[a]} = {named[b]}" for a, b in schema["foreign_keys"]]
    return "\n".join(lines)


def query_of(text: str) -> str | None:
    """The first query in a response, up to its semicolon, the end of its code block or an empty line."""
    found = re.search(r"\b(select|with)\b.*", text, re.I | re.S)
    return re.split(r";|```|\n\s*\n", found[0])[0].strip() if found else None


def score(item: Item, text: str) -> Score:
    """Right where it agrees with the given query on every database; order counts where that one asks for it."""
    query = query_of(text)
    if query is None:
        return Score(0)
    schema, ordered = schemas()[item.reference["database"]], "order by" in item.target.lower()
    for connection in databases(schema, item.target, DATABASES):
        rows = answer(connection, query)
        if rows is None or not agree(answer(connection, item.target), rows, ordered):
            return Score(0, query)
    return Score(1, query)


TASK = Task(
    name="spider",
    kind="sql",
    licence="CC BY-SA 4.0 (taoyds/spider)",
    max_new_tokens=128,
    stream=stream,
    score=score,
    instruction="Write one SQLite query that answers the question. Answer with the query alone.\n\n",
)
