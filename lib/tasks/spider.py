"""SQL: questions of Spider's development set (Yu et al. 2018), right where the query answers as the given one does.

Spider's own databases are not part of its repository. A query is run on databases that are filled at random for the
schema instead, and must agree with the given query on each of them: the idea of test-suite accuracy (Zhong et al.
2020). That is no published number: a query that is right on the one real database by chance is wrong here, columns
must come in the order asked for, and queries that differ on missing values (NULL) alone are not told apart.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from hashlib import sha256
from json import dumps

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.databases import agree, answer, database
from lib.tasks.protocol import Protocol
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thought

DATABASES = 6
SEARCHED = 300  # databases, for one on which the given query finds something


@cache
def schemas() -> dict[str, dict]:
    """Database id -> its row of tables.json."""
    return {row["db_id"]: row for row in load_rows("taoyds/spider", None, "tables", "spider_tables.jsonl")}


def stream(split: str) -> Iterator[Item]:
    """The 1,034 questions, in an order by hash: the file has those of a database together.

    Raises UserError for any split but test: there is no other here.
    """
    for index, row in sorted(_rows(split), key=lambda pair: sha256(f"spider/{pair[0]}".encode()).digest()):
        yield _item(index, row)


def in_file_order(split: str) -> Iterator[Item]:
    """The same in the order of the file."""
    for index, row in _rows(split):
        yield _item(index, row)


def _rows(split: str) -> list[tuple[int, dict]]:
    if split != "test":
        raise UserError(f"spider has the split test only (its development set), not {split!r}")
    return list(enumerate(load_rows("xlangai/spider", "spider", "validation", "spider_dev.jsonl")))


def _item(index: int, row: dict) -> Item:
    if row["db_id"] not in schemas():
        place = f"spider_dev.jsonl, question {index + 1}"
        raise UserError(f"{place}: spider_tables.jsonl has no db_id {row['db_id']!r}: add it, or unset DATA_DIR")
    schema = schemas()[row["db_id"]]
    prompt = f"Tables:\n{described(schema)}\nQuestion: {row['question']}\nSQL:"
    reference = {
        "database": row["db_id"],
        "query": row["query"],
        "schema": sha256(dumps(schema, sort_keys=True).encode()).hexdigest()[:16],
    }
    return Item(f"spider/{index}", prompt, target=row["query"], reference=reference)


def described(schema: dict) -> str:
    """A line a table with its columns, then what foreign keys join."""
    tables, columns = schema["table_names_original"], schema["column_names_original"]
    own = [", ".join(column for at, column in columns if at == table) for table in range(len(tables))]
    lines = [f"{name}({names})" for name, names in zip(tables, own, strict=True) if not name.startswith("sqlite_")]
    named = [f"{tables[at]}.{column}" if at >= 0 else column for at, column in columns]
    lines += [f"{named[a]} = {named[b]}" for a, b in schema["foreign_keys"]]
    return "\n".join(lines)


def query_of(text: str) -> str | None:
    """The query in a response, None without one: of its first code block if there is one, else from the first line
    that begins as a query does, or the first SELECT; up to a semicolon or an empty line."""
    block = re.search(r"```(?:sql\w*)?(.*?)(?:```|$)", text, re.I | re.S)
    text = block[1] if block else text
    found = re.search(r"^\W*((?:select\b|with\s+\w+\s+as\s*\().*)", text, re.I | re.M | re.S)
    found = found or re.search(r"\b(select\b.*)", text, re.I | re.S)
    if not found:
        return None
    whole = re.split(r"\n\s*\n", found[1])[0]
    return re.match(r"(?:'[^']*'|\"[^\"]*\"|[^;])*", whole)[0].strip()


def tells(rows: list[tuple]) -> bool:
    """Whether an answer has anything in it: a row, with a value that is not 0 or NULL."""
    return any(value not in (0, None, "") for row in rows for value in row)


@cache
def _telling(name: str, query: str, most: int) -> int | str:
    """The first of `most` databases on which a query finds something; else what is wrong with it."""
    for seed in range(most):
        with closing(database(schemas()[name], query, seed)) as rows:
            found = answer(rows, query)[0]
        if found is None:
            return "fails: unset DATA_DIR, or take a newer SQLite"
        if tells(found):
            return seed
    return f"finds nothing on {most} databases: take the row out"


def _seeds(item: Item) -> list[int]:
    """The databases that judge an item. Raises UserError where its query finds nothing on any that was tried."""
    found = _telling(item.reference["database"], item.reference["query"], SEARCHED)
    if isinstance(found, str):
        raise UserError(f"the given query of {item.id} {found}")
    return [*range(DATABASES), *([found] if found >= DATABASES else [])]


@after_thought
def score(item: Item, text: str) -> Score:
    """Right where the response's query answers as the given one does.

    1. `DATABASES` databases are filled at random around what the given query compares and joins; nothing is NULL.
    2. Both queries run on each. Rows must be the same, as often, and in the same order where the given query has an
       ORDER BY anywhere.
    3. Where they differ on a database, it counts against the response unless the given query itself answers
       otherwise with the rows stored backwards: then a tie decided.
    4. They must agree on one database at least where the given query finds something (`tells`): a query that finds
       nothing agrees with any other that does so. Where it finds nothing on all six, more are drawn.

    Of queries with one thing wrong 98 % are found out (tests/test_spider.py). A query that fails is wrong.
    """
    query, given = query_of(text), item.reference["query"]
    if query is None:
        return Score(0)
    schema, ordered = schemas()[item.reference["database"]], "order by" in given.lower()
    agreed = 0
    for seed in _seeds(item):
        with closing(database(schema, given, seed)) as rows:
            right, found, status = answer(rows, given)[0], *answer(rows, query)
        if found is None:
            return Score(0, query, "timeout" if status == "timeout" else "ok")
        if agree(right, found, ordered):
            agreed += tells(right)
            continue
        with closing(database(schema, given, seed, backwards=True)) as rows:
            if agree(right, answer(rows, given)[0], ordered):  # no tie has decided it
                return Score(0, query)
    return Score(int(agreed > 0), query)


TASK = Task(
    name="spider",
    kind="sql",
    licence="CC BY-SA 4.0 (taoyds/spider)",
    max_new_tokens=128,
    stream=stream,
    score=score,
    instruction="Write one SQLite query that answers the question. Answer with the query alone.\n\n",
)
PROTOCOLS = (
    Protocol(
        TASK,
        rows="xlangai/spider, spider, validation; taoyds/spider, tables.json",
        count=1034,
        prompt="Tables:\n{tables}\nQuestion: {question}\nSQL:",
        judged="the query answers as the given one does on databases that are filled at random",
        whose="ours; for MTAD's, on Spider's own databases, see spider_execution",
        stops=(";",),
    ),
)
