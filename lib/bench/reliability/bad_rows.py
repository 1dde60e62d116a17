"""Rows of DATA_DIR with one mistake each: (name, task, file, change of the first good row, what the line must hold).

A change is a mapping of fields, where None takes a field out and NULL puts null; or bytes, which are the whole file.
"""

NULL = object()
GOOD = {
    "gsm8k": {"question": "2 + 3?", "answer": "5\n#### 5"},
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'def twice(x):\n    """2x"""\n',
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(3) == 6\n",
        "entry_point": "twice",
    },
    "ifeval": {
        "key": 1,
        "prompt": "Write 50 words.",
        "instruction_id_list": ["length_constraints:number_words"],
        "kwargs": [{"relation": "at least", "num_words": 50}],
    },
    "mt_bench": {"question_id": 81, "turns": ["Write.", "Write again."]},
    "triviaqa": {
        "question_id": "q1",
        "question": "Who wrote it?",
        "answer": {"aliases": ["Mark Twain"], "normalized_aliases": ["mark twain"]},
    },
    "spider": {"db_id": "world_1", "question": "How many?", "query": "SELECT count(*) FROM city"},
}
FILES = {
    "gsm8k": "gsm8k_test.jsonl",
    "humaneval": "humaneval.jsonl",
    "ifeval": "ifeval.jsonl",
    "mt_bench": "mt_bench.jsonl",
    "triviaqa": "triviaqa_nocontext_1k.jsonl",
    "spider": "spider_dev.jsonl",
}
BAD = [
    ("no-question", "gsm8k", {"question": None}, ("line 1", "question is missing")),
    ("no-answer", "gsm8k", {"answer": None}, ("line 1", "answer is missing")),
    ("a-null-question", "gsm8k", {"question": NULL}, ("line 1", "question must be")),
    ("a-number-as-question", "gsm8k", {"question": 7}, ("line 1", "question must be", "7")),
    ("a-list-as-answer", "gsm8k", {"answer": ["5"]}, ("line 1", "answer must be")),
    ("an-empty-question", "gsm8k", {"question": " \n"}, ("line 1", "question must not be empty")),
    ("an-answer-without-a-number", "gsm8k", {"answer": "five"}, ("line 1", "answer must hold a number")),
    ("100000-characters", "gsm8k", {"question": "a" * 100_000}, ("line 1", "question", "30,000 characters")),
    ("a-nul", "gsm8k", {"question": "a\0b"}, ("line 1", "question must hold no NUL")),
    ("a-lone-surrogate", "gsm8k", {"question": "a\ud800"}, ("line 1", "question must hold whole characters")),
    ("garbage", "gsm8k", b"not json\n", ("line 1", "not JSON Lines")),
    ("a-half-line", "gsm8k", b'{"question": "2 + 3?", "answer": "5"}\n{"question": ', ("line 2", "not JSON Lines")),
    ("a-json-list", "gsm8k", b"[1, 2]\n", ("line 1", "must be")),
    ("one-json-document", "gsm8k", b'[\n{"question": "a", "answer": "5"}\n]\n', ("line 1", "not JSON Lines")),
    ("an-empty-file", "gsm8k", b"", ("has no rows",)),
    ("utf-16-rows", "gsm8k", '{"question": "a", "answer": "5"}\n'.encode("utf-16"), ("line 1", "not JSON Lines")),
    ("gzip-bytes", "gsm8k", b"\x1f\x8b\x08\x00abc\n", ("line 1", "not JSON Lines")),
    ("a-field-twice", "gsm8k", b'{"question": "a", "question": "b", "answer": "5"}\n', ("line 1", "stands twice")),
    ("not-a-number-of-json", "gsm8k", b'{"question": "a", "answer": NaN}\n', ("line 1", "NaN")),
    ("a-null-test", "humaneval", {"test": NULL}, ("line 1", "test must be")),
    ("no-test", "humaneval", {"test": None}, ("line 1", "test is missing")),
    ("a-test-that-is-no-python", "humaneval", {"test": "def check(:\n"}, ("line 1", "test must be Python")),
    ("a-test-without-check", "humaneval", {"test": "x = 1\n"}, ("line 1", "check(candidate) in test")),
    ("another-entry-point", "humaneval", {"entry_point": "thrice"}, ("line 1", "entry_point")),
    ("a-number-as-task-id", "humaneval", {"task_id": 0}, ("line 1", "task_id must be")),
    (
        "an-unknown-instruction",
        "ifeval",
        {"instruction_id_list": ["a:b"]},
        ("'a:b'", "instruction_id_list"),
    ),
    ("no-parameters", "ifeval", {"kwargs": [{}]}, ("line 1", "must give relation", "kwargs")),
    (
        "a-null-parameter",
        "ifeval",
        {"kwargs": [{"relation": "at least", "num_words": NULL}]},
        ("num_words", "kwargs"),
    ),
    ("fewer-kwargs", "ifeval", {"kwargs": []}, ("line 1", "as many kwargs")),
    ("instructions-of-text", "ifeval", {"instruction_id_list": "a"}, ("line 1", "instruction_id_list must be")),
    ("a-null-key", "ifeval", {"key": NULL}, ("line 1", "key must be")),
    ("no-turns", "mt_bench", {"turns": []}, ("line 1", "turns must")),
    ("a-null-turn", "mt_bench", {"turns": [NULL]}, ("line 1", "turns.0 must be")),
    ("turns-of-text", "mt_bench", {"turns": "Write."}, ("line 1", "turns must be")),
    ("no-aliases", "triviaqa", {"answer": {"aliases": [], "normalized_aliases": []}}, ("line 1", "answer.aliases")),
    ("an-answer-of-text", "triviaqa", {"answer": "Mark Twain"}, ("line 1", "answer must be")),
    ("a-null-alias", "triviaqa", {"answer": {"aliases": [NULL], "normalized_aliases": ["a"]}}, ("answer.aliases.0",)),
    ("no-query", "spider", {"query": None}, ("line 1", "query is missing")),
    ("an-unknown-database", "spider", {"db_id": "atlantis"}, ("spider_dev.jsonl", "'atlantis'")),
]
