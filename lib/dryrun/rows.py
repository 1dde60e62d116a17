"""Stand-in rows of every benchmark, under the names of the hub's fields: made up here, a few of each."""

import base64
import json
import pickle
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from lib.tasks.row_shapes import SHAPES

ROWS = 4
TRAIN = 508  # of GSM8K, whose last 500 rows are for validation
NAMES = ("apples", "coins", "stamps", "books")


def write_rows(folder: Path) -> None:
    """A file of JSON Lines for every benchmark, for DATA_DIR."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ROWS_OF.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows())
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _write_databases(folder / "spider_databases")


def _write_databases(folder: Path) -> None:
    """A database for each of Spider's schemas here, with three rows a table."""
    for schema in _spider_tables():
        path = folder / schema["db_id"] / f"{schema['db_id']}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = list(zip(schema["column_names_original"], schema["column_types"], strict=True))
        with closing(sqlite3.connect(path)) as connection:
            for number, table in enumerate(schema["table_names_original"]):
                own = [(name, kind) for (at, name), kind in columns if at == number]
                connection.execute(f"CREATE TABLE {table} ({', '.join(name for name, _ in own)})")
                for row in range(1, 4):
                    values = [20 * row if kind == "number" else f"{name} {row}" for name, kind in own]
                    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
            connection.commit()


def without_rows() -> list[str]:
    """Files of benchmarks that have no stand-in here."""
    return sorted(SHAPES.keys() - ROWS_OF.keys())


def words_of_rows() -> Iterator[str]:
    """All texts of all rows, for the tokenizers to learn."""
    for rows in ROWS_OF.values():
        for row in rows()[:ROWS]:
            yield from _texts(row)


def _texts(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _sum(place: int) -> tuple[str, str, str]:
    """A question, its solution and its answer."""
    a, b = place + 1, place % 3 + 1
    question = f"Ann has {a} {NAMES[place % 4]} and finds {b} more. How many does she have now?"
    return question, f"She has {a} + {b} = {a + b} {NAMES[place % 4]}.", str(a + b)


def _gsm8k(count: int) -> list[dict]:
    return [
        {"question": question, "answer": f"{solution}\n#### {answer}"}
        for question, solution, answer in map(_sum, range(count))
    ]


def _boxed(**more: Callable[[int], object]) -> list[dict]:
    """Problems whose answer stands in a box; `more`: further fields by the place of a row."""
    found = []
    for place in range(ROWS):
        question, solution, answer = _sum(place)
        row = {"problem": question, "solution": f"{solution} The answer is $\\boxed{{{answer}}}$.", "answer": answer}
        found.append(row | {name: value(place) for name, value in more.items()})
    return found


def _math500() -> list[dict]:
    return _boxed(
        subject=lambda place: "Algebra",
        level=lambda place: place % 5 + 1,
        unique_id=lambda place: f"test/algebra/{place}.json",
    )


def _olympiad() -> list[dict]:
    return _boxed(
        id=lambda place: place,
        problem_idx=lambda place: place + 1,
        problem_type=lambda place: ["Algebra"],
        question=lambda place: _sum(place)[0],
    )


def _deepmath() -> list[dict]:
    found = []
    for place in range(24):
        question, solution, answer = _sum(place)
        thought = {f"r1_solution_{i}": f"{solution} So \\boxed{{{answer}}}." for i in (1, 2, 3)}
        row = {"question": question, "final_answer": answer, "difficulty": 5.0, "topic": "Mathematics -> Algebra"}
        found.append(row | thought)
    return found


def _gpqa() -> list[dict]:
    found = []
    for place in range(ROWS):
        question, solution, answer = _sum(place)
        wrong = {f"Incorrect Answer {i}": str(int(answer) + i) for i in (1, 2, 3)}
        row = {"Question": question, "Correct Answer": answer, **wrong, "Explanation": solution}
        found.append(
            row | {"Record ID": f"rec{place}", "Subdomain": "Physics (general)", "High-level domain": "Physics"}
        )
    return found


def _mmlu_pro() -> list[dict]:
    found = []
    for place in range(ROWS):
        question, solution, answer = _sum(place)
        options = [str(number) for number in range(10)]
        at = int(answer)
        found.append(
            {"question_id": place, "question": question, "options": options, "answer": "ABCDEFGHIJ"[at],
             "answer_index": at, "cot_content": f"A: Let's think. {solution} The answer is ({'ABCDEFGHIJ'[at]}).",
             "category": "math", "src": "stand-in"}
        )  # fmt: skip
    return found


def _live_code_bench() -> list[dict]:
    """Two with standard input, two with a function; the hidden tests are packed as the hub packs them."""
    found = []
    for place in range(ROWS):
        calls = place % 2 == 1
        kind = "functional" if calls else "stdin"
        tests = [{"input": f"{a}", "output": f"{a + place}", "testtype": kind} for a in (1, 2, 30)]
        packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests[1:])))).decode()
        starter = "class Solution:\n    def more(self, a: int) -> int:\n        " if calls else ""
        found.append(
            {"question_title": f"More {place}", "question_content": f"Read a whole number and give {place} more.",
             "platform": "leetcode" if calls else "atcoder", "question_id": f"more_{place}", "contest_id": "1",
             "contest_date": f"2025-0{place + 1}-15T00:00:00", "starter_code": starter, "difficulty": "easy",
             "public_test_cases": json.dumps(tests[:1]), "private_test_cases": packed,
             "metadata": json.dumps({"func_name": "more"} if calls else {})}
        )  # fmt: skip
    return found


def _mbpp_full() -> list[dict]:
    """A row of each of the four ranges of ids that the hub's splits are."""
    return [
        {"text": f"Write a function more_{place} that adds {place} to a number.", "task_id": number,
         "code": f"def more_{place}(a):\r\n    return a + {place}", "test_setup_code": "",
         "test_list": [f"assert more_{place}({a}) == {a + place}" for a in (0, 1, 5)], "challenge_test_list": []}
        for place, number in enumerate(_mbpp_ids())
    ]  # fmt: skip


def _mbpp_sanitized() -> list[dict]:
    return [
        {"source_file": "stand-in", "task_id": number, "prompt": f"Write a function to add {place} to a number.",
         "code": f"def more_{place}(a):\n    return a + {place}", "test_imports": [],
         "test_list": [f"assert more_{place}({a}) == {a + place}" for a in (0, 1, 5)]}
        for place, number in enumerate(_mbpp_ids())
    ]  # fmt: skip


def _mbpp_ids() -> list[int]:
    return [2, 3, 4, *range(11, 11 + ROWS), *range(511, 511 + ROWS), *range(601, 601 + ROWS)]


def _human_eval() -> list[dict]:
    """One row: where tasks are taken together, one of them has fewer items than are asked for, as in the papers."""
    found = []
    for place in range(1):
        name = f"more_{place}"
        prompt = (
            f'def {name}(a: int) -> int:\n    """Add {place} to a.\n    >>> {name}(1)\n    {1 + place}\n    """\n'
        )
        test = (
            f"def check(candidate):\n    assert candidate(1) == {1 + place}\n    assert candidate(4) == {4 + place}\n"
        )
        found.append(
            {"task_id": f"HumanEval/{place}", "prompt": prompt, "entry_point": name,
             "canonical_solution": f"    return a + {place}\n", "test": test}
        )  # fmt: skip
    return found


def _trivia_qa() -> list[dict]:
    facts = (("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Egypt", "Cairo"))
    return [
        {"question": f"What is the capital of {country}?", "question_id": f"tc_{place}", "question_source": "made up",
         "answer": {"aliases": [city], "normalized_aliases": [city.lower()], "value": city,
                    "normalized_value": city.lower(), "type": "WikipediaEntity"}}
        for place, (country, city) in enumerate(facts)
    ]  # fmt: skip


def _if_eval() -> list[dict]:
    asked = (
        ("Write a sentence about the sea without any comma.", "punctuation:no_comma", {}),
        ("Write about the sun in lowercase letters only.", "change_case:english_lowercase", {}),
        ("Use the sign # at least twice.", "keywords:letter_frequency",
         {"let_relation": "at least", "letter": "#", "let_frequency": 2}),
        ("Write at least 5 words.", "length_constraints:number_words", {"relation": "at least", "num_words": 5}),
    )  # fmt: skip
    return [
        {"key": place, "prompt": prompt, "instruction_id_list": [name], "kwargs": [given]}
        for place, (prompt, name, given) in enumerate(asked)
    ]


def _mt_bench() -> list[dict]:
    kinds = ("writing", "math", "coding", "reasoning")
    return [
        {"question_id": 81 + place, "category": kind, "turns": [f"Say something on {kind}.", "Say it more shortly."],
         "reference": ["It is good.", "Good."] if kind in ("math", "coding", "reasoning") else []}
        for place, kind in enumerate(kinds)
    ]  # fmt: skip


def _spider() -> list[dict]:
    asked = (
        ("How many singers are there?", "SELECT count(*) FROM singer"),
        ("What are the names of all singers?", "SELECT name FROM singer"),
        ("Which singers are older than 30?", "SELECT name FROM singer WHERE age > 30"),
        ("How many songs are there?", "SELECT count(*) FROM song"),
    )
    return [{"db_id": "stage", "question": question, "query": query} for question, query in asked]


def _spider_tables() -> list[dict]:
    columns = [[-1, "*"], [0, "singer_id"], [0, "name"], [0, "age"], [1, "song_id"], [1, "singer_id"], [1, "title"]]
    return [
        {"db_id": "stage", "table_names_original": ["singer", "song"], "table_names": ["singer", "song"],
         "column_names_original": columns, "column_names": [[at, name.replace("_", " ")] for at, name in columns],
         "column_types": ["text", "number", "text", "number", "number", "number", "text"],
         "foreign_keys": [[5, 1]], "primary_keys": [1, 4]}
    ]  # fmt: skip


def _cnn_dailymail() -> list[dict]:
    return [
        {"id": f"{place:040x}", "highlights": f"{name.capitalize()} were sold at a market .\nPeople were glad .",
         "article": f"On Monday {name} were sold at a market by the river. Many people came. They were glad of it."}
        for place, name in enumerate(NAMES)
    ]  # fmt: skip


ROWS_OF: dict[str, Callable[[], list[dict]]] = {
    "aime24.jsonl": _olympiad,
    "aime25.jsonl": _olympiad,
    "beyondaime.jsonl": _olympiad,
    "brumo25.jsonl": _olympiad,
    "cnn_dailymail_test.jsonl": _cnn_dailymail,
    "deepmath_103k.jsonl": _deepmath,
    "gpqa_diamond.jsonl": _gpqa,
    "gpqa_main.jsonl": _gpqa,
    "gsm8k_test.jsonl": lambda: _gsm8k(ROWS),
    "gsm8k_train.jsonl": lambda: _gsm8k(TRAIN),
    "hmmt25.jsonl": _olympiad,
    "humaneval.jsonl": _human_eval,
    "ifeval.jsonl": _if_eval,
    "livecodebench_v6.jsonl": _live_code_bench,
    "math500.jsonl": _math500,
    "mbpp_full.jsonl": _mbpp_full,
    "mbpp_sanitized.jsonl": _mbpp_sanitized,
    "mmlu_pro.jsonl": _mmlu_pro,
    "mmlu_pro_100.jsonl": _mmlu_pro,
    "mt_bench.jsonl": _mt_bench,
    "spider_dev.jsonl": _spider,
    "spider_tables.jsonl": _spider_tables,
    "triviaqa_nocontext.jsonl": _trivia_qa,
    "triviaqa_nocontext_1k.jsonl": _trivia_qa,
}
