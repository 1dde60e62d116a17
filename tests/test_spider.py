"""Spider on databases of our own: what a query may do, when two agree, and how often a wrong one is found out."""

import re
import sqlite3
from dataclasses import replace

import pytest

from lib.errors import UserError
from lib.tasks import get_task, spider
from lib.tasks.databases import ROWS, agree, answer, database, literals
from lib.tasks.spider import DATABASES, described, query_of, schemas, score

WRONG = (  # what a wrong query may have instead
    (r">=?", "<"), (r"<=?", ">"), (r"\bdesc\b", "ASC"), (r"\basc\b", "DESC"), (r"\bavg\b", "max"),
    (r"\bmax\b", "min"), (r"\bmin\b", "max"), (r"\bsum\b", "avg"), (r"\bdistinct\b", ""), (r"\bintersect\b", "UNION"),
    (r"\bunion\b", "EXCEPT"), (r"\bexcept\b", "INTERSECT"), (r"\bnot in\b", "IN"), (r"\bor\b", "AND"),
    (r"\band\b", "OR"), (r"!=", "="), (r"\blimit 1\b", "LIMIT 2"), (r"\bgroup by .*", ""), (r"\bwhere .*", ""),
    (r" = ", " != "), (r"^select count\( *\* *\) from", "SELECT count(*) + 1 FROM"),
)  # fmt: skip
SAME = (
    (r"\bfrom\b", "\n  from"),
    (r"count\(\s*\*\s*\)", "COUNT(1)"),
    (r"!=", "<>"),
    (r"([\w.]+) +> +(\d+)", r"\2 < \1"),
    (r"FROM (\w+) AS T1 JOIN (\w+) AS T2 ON ([\w.]+) += +([\w.]+)", r"FROM \2 AS T2 JOIN \1 AS T1 ON \4 = \3"),
)


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    schemas.cache_clear()  # of another test's DATA_DIR
    yield
    schemas.cache_clear()


@pytest.fixture
def items():
    return get_task("spider").items("test", 150)


def test_the_development_set_is_whole_and_mixed():
    items = get_task("spider").items("test")
    assert len(items) == len({item.id for item in items}) == 1034
    assert len({item.reference["database"] for item in items}) == len(schemas()) == 20
    assert len({item.reference["database"] for item in items[:40]}) > 10, "the file has a database's together"
    with pytest.raises(UserError, match="split test only"):
        get_task("spider").items("train")


def test_every_given_query_runs_and_most_find_something():
    found = []
    for name, query in {(item.reference["database"], item.target) for item in get_task("spider").items("test")}:
        answers = [answer(database(schemas()[name], query, seed), query) for seed in range(3)]
        assert {status for _, status in answers} == {"ok"}, query
        found.append(any(rows and rows != [(0,)] for rows, _ in answers))
    assert sum(found) / len(found) > 0.95


@pytest.mark.slow
def test_the_given_query_is_right_however_it_is_written(items):
    changed = 0
    for item in items:
        assert score(item, item.target).correct == 1
        assert score(item, f"Sure!\n```sql\n{item.target}\n```\nDone; select 1").correct == 1
        for old, new in SAME:
            other = re.sub(old, new, item.target, flags=re.I)
            if not re.search("having|between", item.target, re.I):  # there the literal would move out of its place
                changed += other != item.target
                assert score(item, other).correct == 1, other
    assert changed > 150


def test_a_wrong_query_is_found_out(items):
    caught = total = 0
    for item in items:
        for old, new in WRONG:
            wrong = re.sub(old, new, item.target, count=1, flags=re.I)
            if wrong != item.target:
                total += 1
                caught += 1 - score(item, wrong).correct
    assert total > 300 and caught / total > 0.96, "some of these changes change nothing"


def test_every_given_query_finds_something_on_a_database_that_judges_it():
    """Else any query that finds nothing would be right: three groups of them did."""
    by_id = {item.id: item for item in get_task("spider").items("test")}
    for item in by_id.values():
        assert spider._seeds(item)[:DATABASES] == list(range(DATABASES))
    for name in ("spider/478", "spider/477", "spider/216", "spider/986", "spider/975", "spider/921"):
        assert score(by_id[name], by_id[name].target).correct == 1
        for text in ("SELECT 1 WHERE 1 = 2", "SELECT 0", "SELECT 0.0", "SELECT NULL", "SELECT ''"):
            assert score(by_id[name], text).correct == 0, (name, text)


def test_a_query_that_finds_nothing_anywhere_judges_nothing(monkeypatch):
    monkeypatch.setattr(spider, "SEARCHED", 8)
    item = get_task("spider").items("test", 1)[0]
    monkeypatch.setattr(spider, "schemas", lambda: {"school": SCHEMA})
    item = replace(item, reference={"database": "school", "query": "SELECT name FROM pupil WHERE 1 = 2"})
    with pytest.raises(UserError, match="finds nothing on 8 databases"):
        score(item, "SELECT name FROM pupil WHERE 1 = 2")


def test_counts_have_rows_enough_and_averages_have_numbers():
    rows = database(SCHEMA, "SELECT pupil_id FROM marks GROUP BY pupil_id HAVING count(*) > 50", 0)
    assert rows.execute("SELECT count(*) FROM marks").fetchall() == [(200,)]
    found = database(SCHEMA, "SELECT avg(name) FROM pupil", 0)
    assert all(name.isdigit() for (name,) in found.execute("SELECT name FROM pupil"))


def test_what_is_no_query_is_wrong(items):
    for text in ("", "I do not know", "DROP TABLE x", "select nothing from nowhere"):
        assert score(items[0], text).correct == 0


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SELECT a FROM b; SELECT c", "SELECT a FROM b"),
        ("The query is:\n```sql\nselect a\nfrom b\n```\nwhich works", "select a\nfrom b"),
        ("WITH x AS (SELECT 1) SELECT * FROM x\n\nThis selects x.", "WITH x AS (SELECT 1) SELECT * FROM x"),
        ("Here is one with two joins:\n```sql\nSELECT a\n```", "SELECT a"),
        ("To select the names, use this:\nSELECT name FROM b", "SELECT name FROM b"),
        ("Use SELECT a FROM b;", "SELECT a FROM b"),
        ("SELECT a FROM b WHERE c = 'x; y' ; and more", "SELECT a FROM b WHERE c = 'x; y'"),
        ("with three rows selected", None),
        ("selected rows", None),
    ],
)
def test_the_query_in_a_response(text, query):
    assert query_of(text) == query


SCHEMA = {
    "db_id": "school",
    "table_names_original": ["pupil", "marks", "sqlite_sequence"],
    "column_names_original": [[-1, "*"], [0, "id"], [0, "name"], [1, "pupil_id"], [1, "mark"], [2, "seq"]],
    "column_types": ["text", "number", "text", "number", "number", "text"],
    "primary_keys": [1],
    "foreign_keys": [[3, 1]],
}


def test_keys_are_unique_and_those_that_refer_find_theirs():
    connection = database(SCHEMA, "SELECT name FROM pupil WHERE name = 'Ann Lee' AND id > 700", 0)
    ids = [row[0] for row in connection.execute("SELECT id FROM pupil")]
    assert len(set(ids)) == len(ids) == ROWS and 700 in ids and 701 in ids
    assert {row[0] for row in connection.execute("SELECT pupil_id FROM marks")} < set(ids), "some nobody refers to"
    assert ("Ann Lee",) in connection.execute("SELECT name FROM pupil").fetchall()
    again = database(SCHEMA, "SELECT name FROM pupil WHERE name = 'Ann Lee' AND id > 700", 0)
    assert list(again.iterdump()) == list(connection.iterdump()), "the same on every machine"
    other = database(SCHEMA, "SELECT name FROM pupil WHERE name = 'Ann Lee' AND id > 700", 1)
    assert list(other.iterdump()) != list(connection.iterdump())
    assert described(SCHEMA) == "pupil(id, name)\nmarks(pupil_id, mark)\nmarks.pupil_id = pupil.id"


def test_literals_of_a_query():
    query = (
        "SELECT x FROM t AS T1 WHERE T1.Name LIKE '%ab%' AND age BETWEEN 3 AND 4.5 AND c != \"d e\" AND f IN (1, 2)"
    )
    assert literals(query) == {"name": ["ab"], "age": ["3", "4.5"], "c": ["d e"], "f": ["1", "2"]}


def test_agreement_is_of_rows_as_often_and_in_order_where_asked():
    assert agree([(1, "a"), (2, "b")], [(2.0, "b"), (1, "a")], ordered=False)
    assert not agree([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], ordered=True)
    assert not agree([(1,), (1,)], [(1,)], ordered=False)
    assert not agree([(1, 2)], [(2, 1)], ordered=False), "columns are asked for in an order"
    assert not agree([(None,)], [("None",)], ordered=False) and not agree([(1,)], [("1",)], ordered=False)
    assert agree([(0.1 + 0.2,)], [(0.3,)], ordered=True)


FORBIDDEN = (
    "DELETE FROM pupil",
    "ATTACH DATABASE '/tmp/x' AS x",
    "PRAGMA database_list",
    "SELECT load_extension('x')",
    "SELECT 1; SELECT 2",
    "SELECT zeroblob(10)",
    "SELECT random()",
    "SELECT date('now')",
    "SELECT printf('%1000000d', 1)",
    "SELECT hex(name) FROM pupil",
    f"SELECT '{'x' * 20_000}'",
    "SELECT group_concat(a.name || b.name || c.name) FROM pupil AS a, pupil AS b, pupil AS c",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "SELECT 'a\0b",
)
TOO_MUCH = (
    "SELECT count(*) FROM pupil, pupil AS b, pupil AS c, pupil AS d, pupil AS e, pupil AS f",
    "SELECT * FROM pupil, marks, marks AS b, marks AS c",
    "SELECT * FROM pupil, marks, marks AS b, marks AS c ORDER BY pupil.name || b.mark || c.mark",
)


@pytest.mark.parametrize(("query", "end"), [(q, "error") for q in FORBIDDEN] + [(q, "timeout") for q in TOO_MUCH])
def test_a_query_may_only_read_and_not_for_long(query, end):
    connection = database(SCHEMA, "", 0)
    assert answer(connection, query) == (None, end)
    assert answer(connection, "SELECT count(*) FROM pupil") == ([(ROWS,)], "ok"), "and leaves all as it was"


def test_a_tie_decides_no_score(monkeypatch):
    """On databases whose largest mark two pupils share, either may be named; without a tie only the one."""
    item = get_task("spider").items("test", 1)[0]
    query = "SELECT pupil_id FROM marks ORDER BY mark DESC LIMIT 1"
    item = replace(item, reference={"database": "school", "query": query})
    monkeypatch.setattr(spider, "schemas", lambda: {"school": SCHEMA})
    other = "SELECT pupil_id FROM marks ORDER BY mark DESC, rowid DESC LIMIT 1"

    def tied(at):
        def made(*given, **more):
            connection = database(*given, **more)
            if given[2] in at:
                connection.execute("UPDATE marks SET mark = 10000 WHERE rowid IN (1, 30)")
            else:
                connection.execute("UPDATE marks SET mark = pupil_id * 100 + rowid / 100.0")
                connection.execute("UPDATE marks SET mark = 99999 WHERE rowid = (SELECT min(rowid) FROM marks)")
            return connection

        return made

    monkeypatch.setattr(spider, "database", tied({1, 2}))
    assert score(item, other).correct == 1 and score(item, query).correct == 1
    assert score(item, "SELECT pupil_id FROM marks ORDER BY mark LIMIT 1").correct == 0
    monkeypatch.setattr(spider, "database", tied(range(DATABASES)))
    assert score(item, other).correct == 0, "one database at least must agree"


def test_a_given_query_that_fails_is_told_apart_from_a_wrong_answer(items):
    item = replace(items[0], reference=items[0].reference | {"query": "SELECT nothing"})
    with pytest.raises(UserError, match=f"the given query of {item.id} fails"):
        score(item, "SELECT 1")


def test_what_is_scored_by_is_part_of_a_row():
    """Another given query or schema is another row, so that no old score counts for it."""
    item = get_task("spider").items("test", 1)[0]
    assert item.reference["query"] == item.target and len(item.reference["schema"]) == 16


def test_this_sqlite_reads_double_quotes_as_text():
    """Spider's queries have strings in double quotes; a SQLite without that habit would fail them."""
    assert sqlite3.connect(":memory:").execute('SELECT "no such column"').fetchall() == [("no such column",)]
