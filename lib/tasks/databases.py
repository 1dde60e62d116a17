"""SQLite databases filled at random for a schema, and queries on them: two queries that ask the same agree on all."""

import random
import re
import sqlite3
from collections.abc import Iterator

ROWS = 30  # a table
STEPS = 2_000_000  # of SQLite's machine, after which a query has failed: no clock decides
LONGEST, MOST = 100_000, 10_000  # bytes of a cell, rows of an answer
ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
LITERAL = r"'[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?"
COMPARED = re.compile(
    rf"([\w.]+)\s*(?:>=|<=|!=|<>|=|<|>|(?:not\s+)?like|(?:not\s+)?between|(?:not\s+)?in\s*\()\s*({LITERAL})"
    rf"(?:\s*(?:and|,)\s*({LITERAL}))?",
    re.I,
)


def literals(query: str) -> dict[str, list[str]]:
    """Column (without table, lower case) -> what the query compares it with."""
    found: dict[str, list[str]] = {}
    for column, *values in COMPARED.findall(query):
        known = found.setdefault(column.split(".")[-1].lower(), [])
        known += [value.strip("'\"").replace("%", "") for value in values if value]
    return found


def database(schema: dict, query: str, seed: int) -> sqlite3.Connection:
    """One database in memory. schema: a row of Spider's tables.json.

    Columns that foreign keys join have their values from one domain, of which a primary key takes each once. Values
    that `query` compares a column with are among that column's, numbers beside their neighbours, for else most
    conditions would hold nowhere. Other columns have few values in some databases, so that there are groups, and
    many in others, so that there are no ties.
    """
    chooser = random.Random(f"{schema['db_id']}/{seed}")
    connection = sqlite3.connect(":memory:")
    tables, columns = schema["table_names_original"], schema["column_names_original"]
    wanted, joined = literals(query), _joined(schema)
    domains: dict[int, list] = {}
    filled: dict[int, list[list]] = {table: [] for table in range(len(tables))}
    for place, (table, _) in enumerate(columns):
        if table < 0:
            continue  # the star
        kind, group = schema["column_types"][place], joined[place]
        # A key that refers to another table is often one of two columns that are the key together.
        key = place in schema["primary_keys"] and all(place != a for a, _ in schema["foreign_keys"])
        if group not in domains:
            together = [value for other, root in joined.items() if root == group
                        for value in wanted.get(columns[other][1].lower(), [])]  # fmt: skip
            closed = key or list(joined.values()).count(group) > 1
            domains[group] = _domain(kind, together, closed, chooser)
        domain = domains[group]
        values = chooser.sample(domain, ROWS) if key and len(domain) >= ROWS else _drawn(domain, chooser)
        filled[table].append(values)
    for table, name in enumerate(tables):
        if name.startswith("sqlite_"):  # SQLite's own, which a dump has listed
            continue
        own = [(column, schema["column_types"][i]) for i, (at, column) in enumerate(columns) if at == table]
        kinds = ", ".join(f'"{column}" {"NUMERIC" if kind == "number" else "TEXT"}' for column, kind in own)
        connection.execute(f'CREATE TABLE "{name}" ({kinds})')
        marks = ", ".join("?" * len(own))
        connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', zip(*filled[table], strict=True))
    return connection


def _joined(schema: dict) -> dict[int, int]:
    """Column -> the first of those that foreign keys join with it, directly or not."""
    root = {place: place for place in range(len(schema["column_names_original"]))}
    for a, b in schema["foreign_keys"]:
        low, high = sorted((root[a], root[b]))
        root = {place: low if value == high else value for place, value in root.items()}
    return root


def _domain(kind: str, wanted: list[str], closed: bool, chooser: random.Random) -> list:
    """The values of a column; `closed`: of a key, all different and as many as a table has rows."""
    many = closed or chooser.random() < 0.5
    size = ROWS if many else chooser.randint(3, 6)
    if kind == "number":
        values = list(range(1, size + 1)) if closed else [chooser.randint(1, 9999) for _ in range(size)]
    elif kind == "time":
        values = [f"20{chooser.randint(10, 23)}-{chooser.randint(1, 12):02}-{chooser.randint(1, 28):02}"
                  for _ in range(size)]  # fmt: skip
    elif chooser.random() < 0.25:  # numbers are kept as text in some tables
        values = [str(chooser.randint(1, 9999)) for _ in range(size)]
    else:  # few values are few letters, so that columns of two tables share some
        values = [chooser.choice("abcdefgh") + f"{chooser.randint(100, 99999)}" * many for _ in range(size)]
    extra: list = []
    for text in wanted:
        number = re.fullmatch(r"-?\d+(\.\d+)?", text) and (float(text) if "." in text else int(text))
        extra += [text, text + "x"] if number is None else [number, number + 1, number - 1]
    extra = list(dict.fromkeys(extra))
    if closed:
        return list(dict.fromkeys([*extra, *values]))[:ROWS]
    return values + extra * max(1, len(values) // max(1, len(extra)))  # as often as all others together


def _drawn(domain: list, chooser: random.Random) -> list:
    """ROWS draws, some values oftener than others, so that groups differ in size."""
    weights = [chooser.random() ** 2 + 0.05 for _ in domain]
    return chooser.choices(domain, weights, k=ROWS)


def answer(connection: sqlite3.Connection, query: str) -> list[tuple] | None:
    """The rows of a query that may only read; None where it fails, runs too long or answers with too much."""
    steps = iter(range(STEPS // 1000))
    connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    try:
        rows = connection.execute(query).fetchmany(MOST + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, UnicodeError):
        return None
    return rows if len(rows) <= MOST else None


def agree(a: list[tuple], b: list[tuple], ordered: bool) -> bool:
    """The same rows as often, in the same order where that was asked for."""
    a, b = ([tuple(map(_cell, row)) for row in rows] for rows in (a, b))
    return a == b if ordered else sorted(a) == sorted(b)


def _cell(value) -> tuple[str, float | str]:
    """Something to compare: 1 and 1.0 are the same, a sum may differ by its rounding."""
    if isinstance(value, int | float):
        return "number", round(float(value), 6)
    return type(value).__name__, str(value)


def databases(schema: dict, query: str, count: int) -> Iterator[sqlite3.Connection]:
    """`count` of them, closed as one goes on."""
    for seed in range(count):
        connection = database(schema, query, seed)
        try:
            yield connection
        finally:
            connection.close()
