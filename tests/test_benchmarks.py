"""The public benchmarks: rows in the hub's fields, prompts, answers read from responses, programs in the sandbox."""

import base64
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from lib.errors import UserError
from lib.tasks import (
    DETAILS,
    PROTOCOLS,
    TASKS,
    choices,
    details,
    get_task,
    humaneval,
    judge,
    livecodebench,
    mt_bench,
    protocol_of,
    protocol_table,
    spider,
)
from lib.tasks.base import Item, Score
from lib.tasks.boxed import LINE, SOURCES, last_box
from lib.tasks.code_text import blocks, completed
from lib.tasks.livecodebench_programs import printed_right
from lib.tasks.protocol import Detailed
from lib.tasks.rows import FileRows
from lib.tasks.thinking import UNFINISHED, answer_of

BOXED = [{"problem": "Add 2 and 3.", "answer": 5}, {"problem": "Halve 1.", "answer": "\\frac{1}{2}"}]
GPQA = [
    {
        "Record ID": f"rec{index}",
        "Question": f"What is {index} + 1?",
        "Correct Answer": f"{index + 1}",
        "Incorrect Answer 1": "x",
        "Incorrect Answer 2": "y",
        "Incorrect Answer 3": "z",
    }
    for index in range(12)
]
MMLU = [
    {"question_id": 7, "question": "Which?", "options": list("pqrstuvwxy"), "answer": "J", "answer_index": 9},
    {"question_id": 8, "question": "Which else?", "options": ["p", "q", "r"], "answer": "B", "answer_index": 1},
]
MBPP = [
    {
        "task_id": 11,
        "text": "Write a function to double a number.",
        "code": "def twice(x):\r\n    return 2 * x",
        "test_setup_code": "",
        "test_list": ["assert twice(2) == 4", "assert twice(-1) == -2", 'assert twice("""a\nb""") == """a\nba\nb"""'],
        "challenge_test_list": [],
    },
    {
        "task_id": 12,
        "text": "Write a function check that gives the length of a pair.",
        "code": "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"
        "\ndef check(p):\n    return p.b - p.a",
        "test_setup_code": "",
        "test_list": ["assert check(Pair(1, 4)) == 3"],
        "challenge_test_list": [],
    },
    {"task_id": 601, "text": "No.", "code": "def f():\n    pass", "test_list": ["assert f() is None"]},
]
SANITIZED = [
    {
        "source_file": "x.ipynb",
        "task_id": 20,
        "prompt": "Write a function to take a square root.",
        "code": "import math\ndef root(x):\n    return math.sqrt(x)",
        "test_imports": ["import math"],
        "test_list": ["assert math.isclose(root(4), 2.0)"],
    }
]
STDIN = [{"input": f"{a} {a}\n", "output": f"{2 * a}\n", "testtype": "stdin"} for a in range(7)]
CALLED = [{"input": f"[1, {a}]\n2", "output": f"[2, {2 * a}]", "testtype": "functional"} for a in range(3)]
LCB = {"contest_id": "c", "platform": "atcoder", "difficulty": "easy", "question_title": "t"}
WRAPPED = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(STDIN[1:])))).decode()
LIVE = [
    LCB | {"question_id": "old", "question_content": "Old.", "contest_date": "2023-08-31T00:00:00",
           "starter_code": "", "public_test_cases": json.dumps(STDIN[:1]), "private_test_cases": "[]",
           "metadata": "{}"},
    LCB | {"question_id": "sum", "question_content": "Print the sum.", "contest_date": "2023-09-02T00:00:00",
           "starter_code": "", "public_test_cases": json.dumps(STDIN[:1]), "private_test_cases": WRAPPED,
           "metadata": "{}"},
    LCB | {"question_id": "times", "question_content": "Multiply.", "contest_date": "2025-04-01T00:00:00",
           "starter_code": "class Solution:\n    def times(self, a: List[int], b: int) -> List[int]:\n        ",
           "public_test_cases": json.dumps(CALLED[:1]), "private_test_cases": json.dumps(CALLED[1:]),
           "metadata": json.dumps({"func_name": "times"})},
]  # fmt: skip
NEWS = [{"id": "a1", "article": "word " * 500, "highlights": "The cat sat .\nIt slept ."}]
TALK = [
    {"question_id": 101, "category": "math", "turns": ["1 + 1?", "And twice that?"], "reference": ["2", "4"]},
    {"question_id": 102, "category": "writing", "turns": ["Write.", "Again."]},
]
TRIVIA = [
    {"question_id": "q", "question": "Which city?", "answer": {"aliases": ["Paris"], "normalized_aliases": ["paris"]}}
]
SCHEMA = {
    "db_id": "zoo",
    "table_names_original": ["animal"],
    "column_names_original": [[-1, "*"], [0, "id"], [0, "name"]],
    "column_types": ["text", "number", "text"],
    "foreign_keys": [],
    "primary_keys": [1],
}
ASKED = [{"db_id": "zoo", "question": "Which names?", "query": "SELECT name FROM animal ORDER BY name"}]
FILES = {
    **{source.name: BOXED for source in SOURCES},
    "gpqa_diamond": GPQA,
    "gpqa_main": GPQA,
    "mmlu_pro": MMLU,
    "mmlu_pro_100": MMLU,
    "mbpp_full": MBPP,
    "mbpp_sanitized": SANITIZED,
    "livecodebench_v6": LIVE,
    "cnn_dailymail_test": NEWS,
    "mt_bench": TALK,
    "triviaqa_nocontext": TRIVIA,
    "triviaqa_nocontext_1k": TRIVIA,
    "gsm8k_test": [{"question": "2 + 3?", "answer": "It is 5.\n#### 5"}],
    "humaneval": [
        {
            "task_id": "HumanEval/0",
            "prompt": 'def twice(x):\n    """2x"""\n',
            "canonical_solution": "    return 2 * x\n",
            "test": "def check(candidate):\n    assert candidate(3) == 6\n",
            "entry_point": "twice",
        }
    ],
    "ifeval": [{"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}],
    "spider_dev": ASKED,
    "spider_tables": [SCHEMA],
}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    for name, rows in FILES.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")
    for name in ("JUDGE_URL", "JUDGE_MODEL", "JUDGE_API_KEY", "SPIDER_DATABASES"):
        monkeypatch.delenv(name, raising=False)
    spider.schemas.cache_clear()
    yield tmp_path
    spider.schemas.cache_clear()


@pytest.fixture
def zoo(folder):
    (folder / "spider_databases" / "zoo").mkdir(parents=True)
    path = folder / "spider_databases" / "zoo" / "zoo.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE animal (id, name)")
        connection.executemany("INSERT INTO animal VALUES (?, ?)", [(1, "yak"), (2, "ant"), (3, "bee")])
        connection.execute("INSERT INTO animal VALUES (4, CAST(X'C9' AS TEXT))")  # Latin-1
        connection.commit()
    return path


def test_every_benchmark_is_a_task_with_a_protocol_and_judges_rows_of_the_hubs_fields(zoo):
    names = (
        "math500 aime24 aime25 brumo25 hmmt25 beyondaime gpqa_diamond gpqa_main mmlu_pro mmlu_pro_100 livecodebench "
        "mbpp mbpp_sanitized triviaqa gsm8k humaneval ifeval spider mt_bench cnn_dailymail spider_execution "
        "gsm8k_tolerator triviaqa_tolerator humaneval_tolerator"
    ).split()
    assert set(PROTOCOLS) == set(names)
    for name in names:
        task, protocol = get_task(name), protocol_of(name)
        items = task.items("test")
        assert items and len({item.id for item in items}) == len(items) and protocol.task is task
        assert [len(task.score_all([(item, text)])) for item in items for text in ("", "x")] == [1] * 2 * len(items)
        for split in ("train", "validation") if name != "gsm8k" else ():
            with pytest.raises(UserError, match=f"has (the|a) (split )?test.*{split}"):
                task.items(split)
    table = protocol_table([*names, "worded_math"])
    assert [row["task"] for row in table] == names and all(row["settings of"] and row["judged"] for row in table)
    with pytest.raises(UserError, match="protocol of a task 'worded_math'"):
        protocol_of("worded_math")


THOUGHTS = {
    "plain 5": "plain 5",
    "<think>Is it 4?</think>\n\nIt is 5.": "It is 5.",
    "no opening tag, as R1's template has it</think>5": "5",
    "<think>a</think>4<think>b</think>5": "5",
    "<think>Is it 4? Or 5": None,
    "<think>a</think>4<think>b": None,
    "<|channel|>analysis<|message|>4?<|end|><|start|>assistant<|channel|>final<|message|>5<|return|>": "5",
    "<|channel|>analysis<|message|>We have 4": None,
    "analysisWe have 4, no.assistantfinalIt is 5.": "It is 5.",
    "analysisWe have 4": None,
    "analysis shows that it is 5": "analysis shows that it is 5",
}


@pytest.mark.parametrize("text", THOUGHTS)
def test_a_thought_is_left_out_and_one_without_an_end_is_no_answer(text):
    assert answer_of(text) == THOUGHTS[text]


def test_no_task_reads_an_answer_in_a_thought_without_an_end(zoo):
    """Each is given its own right answer inside of a thought: unfinished; and behind it: right, or as it was."""
    for name in PROTOCOLS:
        task = get_task(name)
        item = task.items("test")[0]
        plain, inside, behind = task.score_all(
            [(item, text) for text in (item.target, f"<think>{item.target}", f"<think>no</think>{item.target}")]
        )
        assert inside == UNFINISHED == Score(0, None, "unfinished"), name
        assert behind == plain, name


def test_boxed_problems_are_asked_with_the_authors_line_and_32_768_tokens():
    for source in SOURCES:
        task = get_task(source.name)
        first, second = task.items("test")
        assert first.prompt == f"Add 2 and 3.\n{LINE}" and first.id == f"{source.name}/0"
        assert task.max_new_tokens == 32_768 and first.reference == {"answer": "5"}
        assert second.target == "\\boxed{\\frac{1}{2}}"


@pytest.mark.parametrize(
    "text, right",
    [
        ("\\boxed{5}", 1),
        ("First \\boxed{4}, no: \\boxed{5}.", 1),
        ("First \\boxed{5}, no: \\boxed{4}.", 0),
        ("$\\boxed{\\frac{10}{2}}$", 1),
        ("\\boxed{x = 5}", 1),
        ("\\boxed{\\text{5}}", 1),
        ("The answer is 5", 0),
        ("\\boxed{5", 0),
        ("\\boxed{}", 0),
        ("\\boxed{5}. I put the answer within \\boxed{}.", 1),
        ("\\boxed{5} and then \\boxed{ }, \\boxed{4", 1),
        ("\\boxed {5}", 1),
        ("\\\\boxed{5}", 1),
        ("\\boxed{x = \\boxed{5}}", 1),
    ],
)
def test_the_last_box_is_the_answer_and_no_other_number(text, right):
    assert get_task("aime25").score(get_task("aime25").items("test")[0], text).correct == right


def test_braces_in_a_box_are_balanced():
    assert last_box("a \\boxed{\\frac{\\sqrt{2}}{\\{3\\}}} b}") == "\\frac{\\sqrt{2}}{\\{3\\}}"
    assert last_box("\\boxed{\\text{a}\\\\}") == "\\text{a}\\\\"
    assert last_box("no box") is None and last_box("\\boxed{\\frac{1}{2}") is None


def test_choices_are_in_an_order_of_the_items_own():
    """Every letter is right somewhere, and the order is that of any other process."""
    items = get_task("gpqa_diamond").items("test")
    letters = [item.reference["answer"] for item in items]
    assert len(set(letters)) > 2 and letters == [
        item.reference["answer"] for item in get_task("gpqa_diamond").items("test")
    ]
    for item, row in zip(items, GPQA, strict=True):
        assert f"({item.reference['answer']}) {row['Correct Answer']}\n" in f"{item.prompt}\n"
    code = (
        "from lib.tasks import get_task\n"
        "print([item.reference['answer'] for item in get_task('gpqa_diamond').items('test')])"
    )
    for seed in "12":
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=_environment(PYTHONHASHSEED=seed)
        )
        assert run.stdout.strip() == str(letters), run.stderr


def _environment(**more):
    return {**os.environ, **more}


@pytest.mark.parametrize(
    "text, letter",
    [
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{(C)}}", "C"),
        ("\\boxed{D. 12 cm}", "D"),
        ("(A) is wrong. The answer is (B).", "B"),
        ("**Answer: C**", "C"),
        ("the answer is a number", None),
        ("Not (A), but (D)", "D"),
        ("B", "B"),
        ("So we get\nC.", "C"),
        ("I am not sure", None),
        ("\\boxed{E}", None),
        ("A person asks why", None),
        ("The answer is C\n\nThis follows from the law.", "C"),
        ("Answer: B\nExplanation: choice (A) ignores drag.", "B"),
        ("**Answer: B** since it falls", "B"),
        ("**Answer: A** since it falls", "A"),
        ("The answer is A because it falls", "A"),
        ("Answer: A photon is emitted", None),
        ("The answer is $A_1$", None),
        ("The answer is A or B", None),
        ("The answer is (A) and (B).", None),
        ("The answer is C, and B is wrong", "C"),
        ("The final answer is $\\text{B}$", "B"),
        ("the correct answer is option B", "B"),
        ("**The correct choice is (d)**", "D"),
        ("choice C", "C"),
        ("Answer option (A) is wrong, so (C)", "C"),
        ("\\boxed{A photon is emitted}", None),
        ("\\boxed{A or B}", None),
        ("Both (A) and (C) hold: \\boxed{A and C}", None),
        ("\\boxed{(A) and (C)}", None),
        ("\\boxed{B, C}", None),
        ("\\boxed{A/B}", None),
        ("\\boxed{A \\text{ or } B}", None),
        ("\\boxed{b}", "B"),
        ("\\boxed{\\text{Option B}}", "B"),
        ("\\boxed{\\text{The answer is B}}", "B"),
        ("\\boxed{\\left(B\\right)}", "B"),
        ("\\boxed{\\textbf{(B)}\\ 12\\text{ cm}}", "B"),
        ("\\boxed{B. Vitamin C}", "B"),
        ("\\boxed{B}. I put the letter within \\boxed{}.", "B"),
    ],
)
def test_the_letter_of_a_response(text, letter):
    assert choices.letter_of(text, 4) == letter


def test_mmlu_pro_has_up_to_ten_choices_and_gpqa_main_takes_the_last_letter_in_brackets():
    task = get_task("mmlu_pro")
    first, second = task.items("test")
    assert "(J) y" in first.prompt and task.score(first, "\\boxed{J}").correct == 1
    assert task.score(second, "\\boxed{J}").answer is None
    main = get_task("gpqa_main")
    item = main.items("test")[0]
    right = item.reference["answer"]
    assert item.prompt.endswith("Let's think step by step: ") and main.max_new_tokens == 256
    assert (
        main.score(item, f"({right.lower()})").correct == 1 and main.score(item, f"\\boxed{{{right}}}").correct == 0
    )


def test_gpqa_says_how_its_gate_is_opened(folder, monkeypatch):
    import datasets

    def gated(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub.")

    monkeypatch.delenv("DATA_DIR")
    monkeypatch.setattr(datasets, "load_dataset", gated)
    with pytest.raises(
        UserError, match="accept its terms at https.*`hf auth login`.*DATA_DIR.*gated dataset"
    ) as error:
        get_task("gpqa_diamond").items("test")
    assert "\n" not in str(error.value)


def test_a_bad_file_of_gpqa_is_not_called_gated(folder):
    (folder / "gpqa_diamond.jsonl").write_text("{")
    with pytest.raises(UserError, match="^[^ ]*gpqa_diamond.jsonl is not JSON Lines: line 1"):
        get_task("gpqa_diamond").items("test")
    (folder / "gpqa_diamond.jsonl").unlink()
    with pytest.raises(UserError, match="^no file "):
        get_task("gpqa_diamond").items("test")


PROMPT = 'import math\n\n\ndef twice(x):\n    """2x"""\n'
WHOLE = "def twice(x):\n    return 2 * x\n"
WRITTEN = {  # a response -> whether it is right
    "    return 2 * x\n": 1,
    "    return 2 * x\n\nprint(undefined)\n": 1,
    "return 2 * x": 1,
    "y = 2 * x\nreturn y\n": 1,
    "y = 2 * x\n    return y\n": 1,
    f"Sure:\n```python\n{WHOLE}```\nDone.": 1,
    f"```Python3\n{WHOLE}```": 1,
    f"```py title=a.py\n{WHOLE}```": 1,
    f"~~~\n{WHOLE}~~~": 1,
    f"````\n{WHOLE}````": 1,
    f"```python\r\n{WHOLE}```".replace("\n", "\r\n").replace("\r\r", "\r"): 1,
    f"1. Code:\n   ```python\n   {WHOLE.replace(chr(10), chr(10) + '   ')}```": 1,
    f"```python\n{WHOLE}": 1,
    "Here:\n```python\n    return 2 * x\n```": 1,
    "Here:\n```\nreturn 2 * x\n```": 1,
    WHOLE: 1,
    f"Here it is:\n\nimport math\n\n{WHOLE}\nThis function doubles.": 1,
    f"{WHOLE}\nassert twice(1) == 7\n": 1,
    f"{WHOLE}```\nThis function doubles.": 1,
    f"```python\n{WHOLE.replace('2', '3')}```\nBetter:\n```python\n{WHOLE}```": 1,
    "Here is the code:\n    return 2 * x": 1,
    "Here is the code:\n\n      y = 2 * x\n      return y\n\nIt doubles x.": 1,
    "```\nHere is the code:\n    return 2 * x\n```": 1,
    f"First:\n```python\nimport cmath\n```\nThen:\n```python\n{WHOLE.replace('2', '2 * int(cmath.e - 1)')}```": 1,
    f"```python\n{WHOLE}```\nWorse:\n```python\n{WHOLE.replace('2', '3')}```": 0,
    "    return 3 * x": 0,
    "It cannot be done.": 0,
    "": 0,
}


def test_the_program_of_a_response_is_found_however_it_is_written():
    test = {"test": "def check(f):\n    assert f(3) == 6\n", "entry_point": "twice"}
    item = Item("x", PROMPT, "    return 2 * x\n", test)
    scores = humaneval.score_many([(item, text) for text in WRITTEN])
    assert {text: score.correct for text, score in zip(WRITTEN, scores, strict=True)} == WRITTEN


def test_an_answer_that_was_begun_for_the_model_goes_on_in_its_fence():
    task = get_task("humaneval_tolerator")
    (item,) = task.items("test")
    assert item.reference["prefix"].endswith('```python\ndef twice(x):\n    """2x"""\n\n')
    assert item.prompt.startswith("Write a solution")
    texts = {
        "    return 2 * x\n```\nIt doubles.": 1,
        "    return 2 * x\n\n# Test\nassert 0": 1,
        "    return x\n```": 0,
        f"{WHOLE}```": 1,
    }
    scores = task.score_all([(item, text) for text in texts])
    assert {text: score.correct for text, score in zip(texts, scores, strict=True)} == texts


def test_fences_of_any_kind_and_line_ends():
    assert blocks("~~~js\r\na\r\n~~~ x\n```\nb") == ["a\n", "b"]


def test_a_body_goes_on_from_the_prompt():
    assert completed(PROMPT, "    return 1\ndef other():\n    pass", "twice") == f"{PROMPT}    return 1"


def test_mbpp_takes_the_function_itself_with_its_imports():
    (first, _), body = get_task("mbpp").items("test"), "def twice(x):\n    return re.sub('a', 'a', '') or 2 * x\n"
    texts = {
        f"def twice_all(x):\n    return x\n```\n```python\n{WHOLE}```": 1,
        f"```python\nimport re\n```\n{body}": 1,
        f"import re\n```\nAnd then:\n\n{body}": 1,
        f"```python\nimport re\n```\nand\n```python\n{body}```": 1,
        f"```python\nimport nothing_of_the_kind\n```\n{WHOLE}": 1,
        f"```python\nimport re\n```\n```python\nfrom __future__ import annotations\n{WHOLE}# re\n```": 1,
        "```python\nimport re\n```\nIt cannot be done.": 0,
    }
    scores = get_task("mbpp").score_all([(first, text) for text in texts])
    assert {text: score.correct for text, score in zip(texts, scores, strict=True)} == texts


def test_mbpp_tests_run_without_the_response_seeing_them_but_for_rows_with_objects():
    task = get_task("mbpp")
    first, second = task.items("test")
    assert [first.id, second.id] == ["mbpp/11", "mbpp/12"], "the test split alone"
    assert first.prompt.endswith(
        'assert twice(2) == 4\nassert twice(-1) == -2\nassert twice("""a\nb""") == """a\nba\nb"""'
    )
    pair = MBPP[1]["code"]
    texts = [
        (first, f"{WHOLE}```\nDone", 1),
        (first, f"```python\n{WHOLE}```", 1),
        (first, WHOLE.replace("2", "3"), 0),
        (first, "class A:\n    __eq__ = lambda a, b: True\ndef twice(x):\n    return A()", 0),
        (second, pair, 1),
        (second, pair.replace("p.b - p.a", "0"), 0),
        (second, "", 0),
    ]
    assert [score.correct for score in task.score_all([(item, text) for item, text, _ in texts])] == [
        right for *_, right in texts
    ]
    (item,) = get_task("mbpp_sanitized").items("test")
    assert get_task("mbpp_sanitized").score(item, "def root(x):\n    return x ** 0.5\n```").correct == 1


READS = {  # a program that reads -> whether it is right
    "a, b = map(int, input().split())\nprint(a + b)": 1,
    "import sys\na, b = sys.stdin.buffer.read().split()\nsys.stdout.write(str(int(a) + int(b)))": 1,
    "print(sum(map(int, open(0).read().split())))\nexit()\nprint(7)": 1,
    "import threading\ndef main():\n    print(sum(map(int, input().split())))\n"
    "t = threading.Thread(target=main)\nt.start()\nt.join()": 1,
    "if __name__ == '__main__':\n    print(float(sum(map(int, input().split()))))": 1,
    "print(gcd(4, 6) * 0 + sum(map(int, input().split())))": 1,
    "from __future__ import annotations\nprint(sum(map(int, input().split())))": 1,
    "print(0)": 0,
    "print(int(input().split()[0]) * 2 if 0 else 1 / 0)": 0,
    "print(sum(map(int, input().split())), 'extra')": 0,
}


def test_a_program_of_a_contest_passes_all_its_tests_or_is_wrong():
    task = get_task("livecodebench")
    read, called = task.items("test")
    assert [read.id, called.id] == ["livecodebench/sum", "livecodebench/times"], "the window begins in September 2023"
    assert "standard input" in read.prompt and "class Solution" in called.prompt and task.kind == "code"
    scores = task.score_all([(read, f"So:\n```python\n{code}\n```") for code in READS])
    assert {code: score.correct for code, score in zip(READS, scores, strict=True)} == READS
    body = "class Solution:\n    def times(self, a: List[int], b: int) -> List[int]:\n        return "
    texts = {
        f"```\n{body}[b * x for x in a]\n```": 1,
        f"```\n{body}tuple(b * x for x in a)\n```": 1,
        f"```\nfrom __future__ import annotations\n{body}[b * x for x in a]\n```": 1,
        f"```\n{body}a\n```": 0,
        f"{body}[b * x for x in a]": 1,
        "I cannot.": 0,
    }
    scores = task.score_all([(called, text) for text in texts])
    assert {text: score.correct for text, score in zip(texts, scores, strict=True)} == texts
    assert scores[-1].answer is None


def test_a_program_that_runs_too_long_is_a_timeout(monkeypatch):
    monkeypatch.setattr(livecodebench, "SECONDS", 0.5)
    item = get_task("livecodebench").items("test")[0]
    score = get_task("livecodebench").score(item, "```python\nwhile True:\n    pass\n```")
    assert (score.correct, score.status) == (0, "timeout")


def test_outputs_are_compared_by_lines_and_numbers_by_value():
    assert printed_right("1.0 2", "1 2\n") and printed_right("a\nb", " a \n b ")
    assert not printed_right("1\n2", "1 2") and not printed_right("a", "A") and not printed_right(None, "a")


def test_hidden_tests_that_would_run_code_when_they_are_read_are_refused():
    class Harm:
        def __reduce__(self):
            return print, ("harm",)

    harm = base64.b64encode(zlib.compress(pickle.dumps(Harm()))).decode()
    with pytest.raises(UserError, match="rows, row 1: private_test_cases cannot be read .*print"):
        livecodebench.tests_of(LIVE[0] | {"private_test_cases": harm}, "rows, row 1")
    with pytest.raises(UserError, match="cannot be read"):
        livecodebench.tests_of(LIVE[0] | {"private_test_cases": "!"}, "rows, row 1")


def _packed(tests) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


BROKEN = {  # fields of a problem -> what is said, when the rows are read or when they judge
    "no test": ({"public_test_cases": "[]", "private_test_cases": "[]"}, "must have a test in public_test_cases"),
    "no test, packed": ({"public_test_cases": "[]", "private_test_cases": _packed([])}, "hold no test"),
    "no JSON": ({"public_test_cases": "["}, "must be JSON in public_test_cases"),
    "no list": ({"public_test_cases": "{}"}, "must be a list of tests, in public_test_cases"),
    "no output": ({"public_test_cases": '[{"input": "1"}]'}, "must have output as text in test 1, in public"),
    "an input line": (
        {"public_test_cases": json.dumps([CALLED[0] | {"input": "[1, 2"}])},
        "must be JSON in input of test 1 .*, in public_test_cases",
    ),
    "a hidden output": (
        {"private_test_cases": _packed([CALLED[0], CALLED[1] | {"output": "nothing"}])},
        "private_test_cases cannot be read .must be JSON in output of test 2",
    ),
    "a hidden test": ({"private_test_cases": "[3]"}, "private_test_cases cannot be read .must have input as text"),
    "metadata": ({"metadata": "[]"}, "must have an object in metadata"),
    "no metadata": ({"metadata": "{"}, "must be JSON in metadata"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("hub", [False, True], ids=["file", "hub"])
def test_a_problem_whose_tests_judge_nothing_is_named(folder, monkeypatch, kind, hub):
    change, words = BROKEN[kind]
    rows = [LIVE[1], LIVE[2] | change]
    (folder / "livecodebench_v6.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if hub:
        import datasets

        monkeypatch.delenv("DATA_DIR")
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    task, place = get_task("livecodebench"), "lighteval/code_generation_lite" if hub else "livecodebench_v6.jsonl"
    code = "class Solution:\n    def times(self, a, b):\n        return [b * x for x in a]"
    livecodebench._rows.cache_clear()
    livecodebench._places.cache_clear()
    with pytest.raises(UserError, match=f"{place}.*, row 2: .*{words}"):
        task.score_all([(task.items("test")[1], code)])
    livecodebench._rows.cache_clear()
    livecodebench._places.cache_clear()


def test_rows_that_stay_on_disk_are_checked_when_they_are_read(tmp_path):
    from lib.tasks.row_shapes import SHAPES

    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(LIVE[0])}\n\n{json.dumps({'question_id': 'x'})}", encoding="utf-8-sig")
    rows = FileRows(path, SHAPES["livecodebench_v6.jsonl"][0], "mend it")
    assert len(rows) == 2 and rows[0] == LIVE[0]
    with pytest.raises(UserError, match="row 2: question_content is missing: mend it"):
        rows[1]


def test_trivia_is_judged_by_exact_match_and_by_inclusion():
    task, exact = get_task("triviaqa"), get_task("triviaqa_tolerator")
    (item,), (asked,) = task.items("test"), exact.items("test")
    assert asked.prompt == "Question: Which city??\nAnswer:"
    for text, inclusion, match in (
        ("Paris", 1, 1),
        (" paris, of course", 1, 1),
        ("It is Paris.", 1, 0),
        ("Rome", 0, 0),
        ("", 0, 0),
    ):
        for score in (task.score(item, text), exact.score(asked, text)):
            assert score.detail == {"inclusion": inclusion, "exact": match}, text
        assert (task.score(item, text).correct, exact.score(asked, text).correct) == (inclusion, match)


def test_gsm8k_as_tolerator_asks_it():
    task = get_task("gsm8k_tolerator")
    (item,) = task.items("test")
    assert item.prompt == "Q: 2 + 3?\nA:"
    found = [task.score(item, text) for text in ("So 2 + 3 is 5.\nQ: 7?", "The answer is 5. Or 6", "none")]
    assert [score.correct for score in found] == [1, 0, 0]
    assert [score.detail["strict"] for score in found] == [0, 1, 0]


def test_a_query_is_judged_on_the_real_database(zoo):
    task = get_task("spider_execution")
    (item,) = task.items("test")
    assert item.prompt.endswith("Schema:\nanimal(id, name)\nQuestion: Which names?\nSQL:")
    texts = {
        "SELECT name FROM animal ORDER BY name;": (1, 1),
        "SELECT name FROM animal ORDER BY name DESC": (1, 0),
        "SELECT name FROM animal WHERE id < 3": (0, 0),
        "SELECT title FROM animal": (0, 0),
        "DELETE FROM animal; SELECT 1": (0, 0),
        "no idea": (0, 0),
    }
    for text, (right, ordered) in texts.items():
        score = task.score(item, text)
        assert (score.correct, score.detail) == (right, {"execution": right, "ordered": ordered}), text
    with closing(sqlite3.connect(zoo)) as connection:
        assert connection.execute("SELECT count(*) FROM animal").fetchone() == (4,)


def test_the_real_databases_are_asked_in_the_order_of_the_file(folder):
    rows = [ASKED[0] | {"question": f"Which {number}?"} for number in range(9)]
    (folder / "spider_dev.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    items = get_task("spider_execution").items("test")
    assert [item.id for item in items] == [f"spider_execution/{number}" for number in range(9)]
    assert [f"Question: Which {number}?" in item.prompt for number, item in enumerate(items)] == [True] * 9
    assert [item.id for item in get_task("spider").items("test")] != [f"spider/{number}" for number in range(9)]
    assert "512" in protocol_of("spider_execution").whose and "hash" not in protocol_of("spider_execution").whose


def test_every_detail_of_a_stored_text_can_be_had_and_no_other_task_is_judged(zoo, monkeypatch):
    for name in PROTOCOLS:
        task = get_task(name)
        items = task.items("test")[:1]
        scores = task.score_all([(item, item.target) for item in items])
        told = [score.detail for score in scores if isinstance(score, Detailed)]
        names = DETAILS.get(name, ())
        assert [sorted(found) for found in told] == [sorted(names)] * bool(names), name
        texts = [items[0].target, "<think>never"]
        if name not in DETAILS:
            monkeypatch.delenv("ALLOW_CODE_EXECUTION", raising=False)
        found = details(name, [(items[0], text) for text in texts])
        assert found == [told[0] if told else {}, dict.fromkeys(names, 0)], name
        monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")


def test_a_missing_database_is_named(folder, monkeypatch):
    (item,) = get_task("spider_execution").items("test")
    with pytest.raises(UserError, match="no database .*zoo.sqlite: put the `database` folder"):
        get_task("spider_execution").score(item, "SELECT 1")


class Judge(BaseHTTPRequestHandler):
    asked: list[dict] = []
    reply = "Good. Rating: [[8]]"

    def do_POST(self):
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.dumps({"choices": [{"message": {"content": self.reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    Judge.asked, Judge.reply = [], "Good. Rating: [[8]]"
    server = HTTPServer(("127.0.0.1", 0), Judge)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
    monkeypatch.setenv("JUDGE_MODEL", "a-model")
    monkeypatch.setattr(judge, "FOLDER", tmp_path / "judged")
    yield Judge
    server.shutdown()
    server.server_close()


def test_both_turns_are_rated_once_by_the_users_judge(endpoint):
    first, plain = get_task("mt_bench").items("test")
    second, _ = mt_bench.second_turns([(first, "<think>1 and 1</think>It is 2."), (plain, "Words.")])
    assert (second.id, second.prompt) == ("mt_bench/101/2", "And twice that?")
    assert second.reference == {"history": [["1 + 1?", "It is 2."]]}
    pairs = [(first, "It is 2."), (second, "It is 4."), (plain, "Words."), (second, "<think>It")]
    scores = mt_bench.rate(pairs)
    assert [score.status for score in scores] == ["rated"] * 3 + ["unfinished"]
    assert scores[0].answer == "8" and scores[0].detail == {"rating": 8.0} and not scores[0].correct
    read = [body["messages"][0]["content"] for body in endpoint.asked]
    assert len(read) == 3 and all(body["model"] == "a-model" and body["temperature"] == 0 for body in endpoint.asked)
    assert read[0].rstrip().endswith("\n2") and read[1].rstrip().endswith("\n4"), (
        "the row's own reference of the turn"
    )
    assert "It is 2." in read[1] and "comparison" not in read[2]
    endpoint.reply = "no number"
    assert mt_bench.rate(pairs) == scores and len(endpoint.asked) == 3, "nothing is asked twice"
    assert mt_bench.rate([(plain, "Other words.")])[0] == Score(0, None, "error")


def test_no_judge_is_asked_unless_it_is_set(monkeypatch):
    item = get_task("mt_bench").items("test")[0]
    assert mt_bench.rate([(item, "2")]) == [Score(0, None, "unjudged")] == [get_task("mt_bench").score(item, "2")]
    monkeypatch.setenv("JUDGE_MODEL", "a-model")
    with pytest.raises(UserError, match="JUDGE_MODEL is set alone"):
        mt_bench.rate([(item, "2")])


def test_a_judge_that_does_not_answer_is_named(endpoint, monkeypatch):
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the judge at http://127.0.0.1:9/chat/completions did not answer"):
        mt_bench.rate([(get_task("mt_bench").items("test")[0], "2")])


def test_a_summary_has_its_rouge_and_an_article_is_cut():
    task = get_task("cnn_dailymail")
    (item,) = task.items("test")
    assert item.prompt.startswith("Summarize: word") and item.prompt.count("word") == 350
    score = task.score(item, "The cat sat.")
    assert (score.correct, score.status) == (0, "rated")
    assert score.detail["rouge1"] == pytest.approx(0.75) and score.answer == "0.7500"
    assert task.score(item, "").detail["rougeLsum"] == 0


@pytest.mark.slow
def test_ifeval_gives_the_same_scores_in_another_process(folder):
    """Signs that are no letters, and the language of a text that could be several, were once decided by chance."""
    code = """
from lib.tasks import ifeval
given = {"letter": "#", "let_frequency": 2, "let_relation": "at least"}
letter = ifeval.item("a", "", ["keywords:letter_frequency"], [given])
tongue = ifeval.item("b", "", ["language:response_language"], [{"language": "pt"}])
texts = ["#a #b", "aaaa", "la casa de papel", "o rato e o gato", "no mira en casa"]
found = [ifeval.score(item, text).correct for item in (letter, tongue) for text in texts]
"""
    command = [sys.executable, "-W", "ignore", "-c", f"{code}\nprint(found)"]
    other = subprocess.run(command, capture_output=True, text=True, env=_environment(PYTHONHASHSEED="1"))
    here: dict = {}
    exec(code, here)
    assert other.stdout.strip() == str(here["found"]), other.stderr
    assert here["found"][:5] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "name, row, words",
    [
        ("aime24", {"problem": "x", "answer": ""}, "answer must be a whole number or text"),
        ("mmlu_pro", MMLU[1] | {"answer": "D"}, "the letter of one of its options"),
        ("mbpp_full", MBPP[0] | {"test_list": ["assert ("]}, "test_list.0 must be Python"),
        ("gpqa_main", GPQA[0] | {"Correct Answer": " "}, "Correct Answer must not be empty"),
    ],
)
def test_a_row_that_cannot_be_judged_is_named(folder, name, row, words):
    (folder / f"{name}.jsonl").write_text(json.dumps(row))
    task = {"mbpp_full": "mbpp"}.get(name, name)
    with pytest.raises(UserError, match=words):
        TASKS[task].items("test")


@pytest.mark.parametrize("name, count", [("math500", 500), ("beyondaime", 100), ("mmlu_pro_100", 100), ("mbpp", 500),
                                         ("mbpp_sanitized", 257)])  # fmt: skip
def test_committed_benchmarks_are_whole(monkeypatch, name, count):
    monkeypatch.delenv("DATA_DIR")
    assert len(get_task(name).items("test")) == count == protocol_of(name).count


def test_the_size_of_a_benchmark_is_bounded():
    assert all(protocol_of(name).count for name in PROTOCOLS)
    assert "at most 1,055" in protocol_of("livecodebench").rows
