"""Code: LiveCodeBench (Jain et al. 2024), release 6: problems of contests from September 2023 to April 2025.

A problem is answered by a program that reads its input and prints, or by a method of a class; right where all tests,
public and hidden, pass in the sandbox, each within `SECONDS`. The release has problems from May 2023 on; those before
`SINCE` are left out, as AutoDeco does. The hidden tests are gigabytes: rows stay on disk, an item holds their hash.
"""

import json
import os
import pickle
import zlib
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from io import BytesIO

from lib.errors import UserError, why
from lib.tasks.base import Item, Score, Task
from lib.tasks.code_text import blocks, lines_of, parses
from lib.tasks.livecodebench_programs import caller, printed_right, reader, returned_right
from lib.tasks.protocol import Protocol, fill
from lib.tasks.row_shapes import program_tests
from lib.tasks.rows import FileRows, HubRows, open_rows
from lib.tasks.sandbox import Job, require_consent, run_calls
from lib.tasks.thinking import after_thoughts

HUB, CONFIG, FILE = "lighteval/code_generation_lite", "release_v6", "livecodebench_v6.jsonl"
SINCE = "2023-09-01"
SECONDS, MEMORY_MB = 6.0, 2048  # a test; the benchmark's own runner gives 6 seconds
FIRST = 4  # tests of the first round; each round has twice as many, of what still passes
READS = (
    "{question_content}\n\nWrite a Python program that solves this problem: it reads the input from standard input "
    "and prints the answer. Do not test it on the examples. Answer with the program in one code block."
)
CALLS = (
    "{question_content}\n\nSolve this problem in Python with the code below as the beginning. Answer with the whole "
    "program in one code block.\n\n```python\n{starter_code}\n```"
)


def stream(split: str) -> Iterator[Item]:
    """The problems of the window in the file's order. Raises UserError for any split but test."""
    if split != "test":
        raise UserError(f"livecodebench has the split test only, not {split!r}: train on another task")
    for row in _rows(os.environ.get("DATA_DIR")):
        if str(row["contest_date"])[:10] < SINCE:
            continue
        template = CALLS if row["starter_code"].strip() else READS
        prompt = fill(template, starter_code=row["starter_code"], question_content=row["question_content"].strip())
        tests = f"{row['public_test_cases']}\n{row['private_test_cases']}"
        reference = {
            "function": json.loads(row["metadata"]).get("func_name"),
            "tests": sha256(tests.encode()).hexdigest()[:16],
        }
        yield Item(f"livecodebench/{row['question_id']}", prompt, target="", reference=reference)


@cache
def _rows(folder: str | None) -> FileRows | HubRows:
    """The rows, on disk. `folder`: DATA_DIR, for the cache alone."""
    return open_rows(HUB, CONFIG, "test", FILE)


@cache
def _places(folder: str | None) -> dict[str, int]:
    return {f"livecodebench/{row['question_id']}": place for place, row in enumerate(_rows(folder))}


def tests_of(row: dict, where: str) -> list[dict]:
    """All tests of a row: input, output and testtype of each. Raises UserError, naming the row as `where` and the
    field, where they cannot be read or there is none."""
    found, function = [], json.loads(row["metadata"]).get("func_name")
    for field in ("public_test_cases", "private_test_cases"):
        try:
            found += program_tests(unpacked(row[field]), function)
        except Exception as error:  # what a broken pickle raises is of many kinds
            reason = why(error)
            raise UserError(f"{where}: {field} cannot be read ({reason}): take the row out") from error
    if not found:
        raise UserError(f"{where}: public_test_cases and private_test_cases hold no test: take the row out")
    return found


def unpacked(packed: str) -> list[dict]:
    """Tests: JSON, or, where they are hidden, JSON that was pickled, compressed and written in base 64."""
    if packed.lstrip()[:1] in ("[", "{", ""):
        return json.loads(packed.strip() or "[]")
    return json.loads(_TextOnly(BytesIO(zlib.decompress(b64decode(packed)))).load())


class _TextOnly(pickle.Unpickler):
    """Reads text and numbers; a pickle that wants a class or function, which could do anything, is refused."""

    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def program_of(text: str) -> str | None:
    """The last code block of a response, or all of it where that is Python; None without either."""
    text = lines_of(text)
    fenced = [block for block in blocks(text) if block.strip()]
    return fenced[-1] if fenced else text if text.strip() and parses(text) else None


@after_thoughts
def score_many(pairs: list[tuple[Item, str]]) -> list[Score]:
    """Right where the program passes every test of its problem; `answer` is the program."""
    require_consent()
    programs = [program_of(text) for _, text in pairs]
    status = ["ok" if program else "none" for program in programs]
    of_item = defaultdict(list)
    for place, (item, _) in enumerate(pairs):
        of_item[item.id].append(place)
    for places in of_item.values():
        _judge(pairs[places[0]][0], {place: programs[place] for place in places if programs[place]}, status)
    return [
        Score(int(found == "ok"), program, "timeout" if found == "timeout" else "ok")
        for found, program in zip(status, programs, strict=True)
    ]


def _judge(item: Item, programs: dict[int, str], status: list[str]) -> None:
    """Note in `status` which programs, by place, fail a test of an item, or run out of time."""
    folder, name = os.environ.get("DATA_DIR"), item.reference["function"]
    rows, number = _rows(folder), _places(folder)[item.id]
    tests = tests_of(rows[number], rows.where(number)) if programs else []
    wrapped = {place: caller(code, name) if name else reader(code) for place, code in programs.items()}
    at, size = 0, FIRST
    while wrapped and at < len(tests):
        part = tests[at : at + size]
        asked = [(place, test) for place in wrapped for test in part]
        jobs = [Job(wrapped[place], "_answer", (_given(test, name),)) for place, test in asked]
        for (place, test), outcome in zip(asked, run_calls(jobs, SECONDS, MEMORY_MB), strict=True):
            if outcome.status != "ran":
                status[place] = outcome.status
            elif not _right(outcome.values[0], test, name) and status[place] == "ok":
                status[place] = "wrong"
        wrapped = {place: code for place, code in wrapped.items() if status[place] == "ok"}
        at, size = at + size, 2 * size


def _given(test: dict, name: str | None) -> tuple:
    """What a test calls with: the input as text, or an argument of JSON a line."""
    return tuple(json.loads(line) for line in test["input"].split("\n")) if name else (test["input"],)


def _right(value, test: dict, name: str | None) -> bool:
    return returned_right(value, json.loads(test["output"])) if name else printed_right(value, test["output"])


def score(item: Item, text: str) -> Score:
    return score_many([(item, text)])[0]


PROTOCOLS = (
    Protocol(
        Task(
            "livecodebench", "code", f"CC BY 4.0 (card of {HUB}: «cc»)", 32_768, stream, score, score_many=score_many
        ),
        rows=f"{HUB}, {CONFIG}, test; contests since {SINCE}: at most 1,055, what LiveCodeBench's "
        "README gives the whole release, from May 2023 on",
        count=1055,
        prompt=f"{READS}  |  with starter code: {CALLS}",
        judged=f"the last code block passes all public and hidden tests, {SECONDS:g} seconds each",
        whose="AutoDeco: release and first date; last date, count and prompt are not printed (to the end, our words)",
    ),
)
