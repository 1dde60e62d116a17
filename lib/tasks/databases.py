"""SQLite databases filled at random for a schema, and queries on them: two queries that ask the same agree on all."""

import random
import re
import sqlite3

ROWS = 30  # a table
MOST_COUNTED = 1000  # a larger number that a query counts up to gets no more rows
STEPS = 2_000_000  # of SQLite's machine, after which a query has failed: no clock decides
LONGEST, MOST = 10_000, 100_000  # bytes of a cell and of a query; cells of an answer
HEAP = 64 * 2**20  # bytes that SQLite may take, for sorting above all
# What a query may call: nothing random, no clock, nothing that makes large values or touches files.
FUNCTIONS = frozenset(
    "abs avg coalesce count glob group_concat ifnull iif instr length like lower ltrim max min nullif replace round "
    "rtrim substr substring sum total trim upper".split()
)
LITERAL = r"'[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?"
COUNTED = re.compile(r"\bcount\s*\([^()]*\)\s*(?:>=|<=|!=|<>|=|<|>)\s*(\d+)", re.I)
AVERAGED = re.compile(r"\b(?:avg|sum)\s*\(\s*(?:distinct\s+)?([\w.]+)\s*\)", re.I)
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


def database(schema: dict, query: str, seed: int, backwards: bool = False) -> sqlite3.Connection:
    """One database in memory, or the same with the rows of each table `backwards`. schema: a row of Spider's
    tables.json.

    Columns that foreign keys or `query` join have their values from one domain, of which a primary key takes each
    once. Values that `query` compares a column with are among that column's, numbers beside their neighbours, for
    else most conditions would hold nowhere. Other columns have few values in some databases, so that there are
    groups, and each its own in others, so that there are no ties. Where `query` counts up to a number, there are rows
    enough for it; where it takes an average of text, the text is numbers.
    """
    chooser = random.Random(f"{schema['db_id']}/{seed}")
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA hard_heap_limit = {HEAP}")
    tables, columns = schema["table_names_original"], schema["column_names_original"]
    wanted, joined = literals(query), _joined(schema, query)
    size = max([ROWS, *(4 * int(number) for number in COUNTED.findall(query) if int(number) < MOST_COUNTED)])
    averaged = {column.split(".")[-1].lower() for column in AVERAGED.findall(query)}
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
            digits = any(columns[other][1].lower() in averaged for other, root in joined.items() if root == group)
            domains[group] = _domain(kind, together, closed, chooser, size, digits)
        domain = domains[group]
        once = key or list(joined.values()).count(group) == 1 and len(set(domain)) == size
        filled[table].append(chooser.sample(domain, size) if once else _drawn(domain, chooser, size))
    for table, name in enumerate(tables):
        if name.startswith("sqlite_"):  # SQLite's own, which a dump has listed
            continue
        own = [(column, schema["column_types"][i]) for i, (at, column) in enumerate(columns) if at == table]
        kinds = ", ".join(f'"{column}" {"NUMERIC" if kind == "number" else "TEXT"}' for column, kind in own)
        connection.execute(f'CREATE TABLE "{name}" ({kinds})')
        marks = ", ".join("?" * len(own))
        rows = list(zip(*filled[table], strict=True))
        connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', rows[::-1] if backwards else rows)
    return connection


def _joined(schema: dict, query: str) -> dict[int, int]:
    """Column -> the first of those that foreign keys, or conditions of `query`, join with it, directly or not."""
    tables, columns = schema["table_names_original"], schema["column_names_original"]
    places = {(tables[at].lower(), name.lower()): i for i, (at, name) in enumerate(columns) if at >= 0}
    alias = {short.lower(): name.lower() for name, short in re.findall(r"(\w+)\s+as\s+(\w+)", query, re.I)}
    pairs = list(schema["foreign_keys"])
    for one, a, other, b in re.findall(r"(\w+)\.(\w+)\s*=\s*(\w+)\.(\w+)", query):
        ends = [(alias.get(t.lower(), t.lower()), name.lower()) for t, name in ((one, a), (other, b))]
        pairs += [tuple(places[end] for end in ends)] if all(end in places for end in ends) else []
    root = {place: place for place in range(len(columns))}
    for a, b in pairs:
        low, high = sorted((root[a], root[b]))
        root = {place: low if value == high else value for place, value in root.items()}
    return root


def _domain(kind: str, wanted: list[str], closed: bool, chooser: random.Random, rows: int, digits: bool) -> list:
    """The values of a column; `closed`: of a key, all different and as many as a table has `rows`; `digits`: numbers
    even in text."""
    many = closed or chooser.random() < 0.5
    size = rows if many else chooser.randint(3, 6)
    number_like = kind == "text" and (digits or chooser.random() < 0.25)  # numbers are kept as text in some tables

    def value():
        if kind == "number" or number_like:
            drawn = chooser.randint(1, 9999)
            return str(drawn) if number_like else drawn
        if kind == "time":
            return f"20{chooser.randint(10, 23)}-{chooser.randint(1, 12):02}-{chooser.randint(1, 28):02}"
        # Few values are few letters, so that columns of two tables share some.
        return chooser.choice("abcdefgh") + f"{chooser.randint(100, 99999)}" * many

    values = [value() for _ in range(size)]
    extra: list = []
    for text in wanted:
        number = re.fullmatch(r"-?\d+(\.\d+)?", text) and (float(text) if "." in text else int(text))
        extra += [text, text + "x"] if number is None else [number, number + 1, number - 1]
    extra = list(dict.fromkeys(extra))
    if closed:
        different = dict.fromkeys([*extra, *values])
        while len(different) < rows:
            different[value()] = None
        return list(different)[:rows]
    return values + extra * max(1, len(values) // max(1, len(extra)))  # as often as all others together


def _drawn(domain: list, chooser: random.Random, rows: int) -> list:
    """`rows` draws, some values oftener than others, so that groups differ in size."""
    weights = [chooser.random() ** 2 + 0.05 for _ in domain]
    return chooser.choices(domain, weights, k=rows)


def answer(connection: sqlite3.Connection, query: str, most: int = STEPS) -> tuple[list[tuple] | None, str]:
    """The rows of a query that may only read, and «ok»; None and «error», or «timeout» where it runs too long, which
    is `most` steps of SQLite's machine.

    A query that a model wrote runs in this process: what it may do, call, take and last is what stands above.
    """
    steps = iter(range(most // 1000))
    connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
    connection.set_authorizer(_allowed)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, LONGEST)
    rows = []
    try:
        for row in connection.execute(query):
            rows.append(row)
            if len(rows) * len(row) > MOST:
                return None, "timeout"
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        return None, "timeout" if "interrupted" in str(error) else "error"
    finally:
        connection.set_authorizer(None)
    return rows, "ok"


def _allowed(action: int, _, name: str | None, *__) -> int:
    reads = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
    calls = action == sqlite3.SQLITE_FUNCTION and str(name).lower() in FUNCTIONS
    return sqlite3.SQLITE_OK if reads or calls else sqlite3.SQLITE_DENY


def agree(a: list[tuple], b: list[tuple], ordered: bool) -> bool:
    """The same rows as often, in the same order where that was asked for."""
    a, b = ([tuple(map(_cell, row)) for row in rows] for rows in (a, b))
    return a == b if ordered else sorted(a) == sorted(b)


def _cell(value) -> tuple[str, float | str]:
    """Something to compare: 1 and 1.0 are the same, a sum may differ by its rounding."""
    if isinstance(value, int | float):
        return "number", round(float(value), 6)
    return type(value).__name__, str(value)
