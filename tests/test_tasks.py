"""Tasks: disjoint splits, pinned rows, scorers, and where rows come from."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest

from lib.bench.reliability.misscored import ANYTHING
from lib.errors import UserError
from lib.tasks import (
    PROTOCOLS,
    SECOND,
    TASKS,
    get_task,
    gsm8k,
    gsm_symbolic,
    humaneval,
    ifeval,
    instructions,
    triviaqa,
)
from lib.tasks.base import SPLITS, Item, Score, rows_hash
from lib.tasks.rows import load_rows

# The hash of the first 50 test items: where it changes, results before and after do not compare.
EMBEDDED = {
    "gsm_symbolic": "b658036aaea43cb9",
    "country_facts": "279af1ec6af0dfc4",
    "small_functions": "f4b8fc758d0b7d54",
}
REJECTED = (0, 35, 69, 74)  # templates of GSM-Symbolic that the rule leaves out, one of them just so
GSM8K = [
    {"question": "2 + 3?", "answer": "It is <<2+3=5>>5.\n#### 5"},
    {"question": "How many dollars?", "answer": "1000 + 234 = 1234\n#### 1,234"},
    {"question": "How cold?", "answer": "2 - 9 = -7\n#### -7"},
]
HUMANEVAL = [
    {
        "task_id": f"HumanEval/{index}",
        "prompt": f'def {name}(x):\n    """{doc}"""\n',
        "canonical_solution": f"    return {body}\n",
        "test": f"\n\ndef check(candidate):\n    assert candidate(3) == {result}\n",
        "entry_point": name,
    }
    for index, (name, doc, body, result) in enumerate(
        [("twice", "2x", "2 * x", 6), ("square", "x^2", "x * x", 9), ("negative", "-x", "-x", -3)]
    )
]
TRIVIAQA = [
    {
        "question": "Who wrote it?",
        "question_id": "q1",
        "answer": {"aliases": ["Mark Twain", "S. L. Clemens"], "normalized_aliases": ["mark twain", "s l clemens"]},
    },
    {
        "question": "Which one?",
        "question_id": "q2",
        "answer": {"aliases": ["The A"], "normalized_aliases": ["", "o"]},
    },
]


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    files = {"gsm8k_train": GSM8K, "gsm8k_test": GSM8K, "humaneval": HUMANEVAL, "triviaqa_nocontext_1k": TRIVIAQA}
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def test_registry():
    assert set(TASKS) == {*EMBEDDED, "instructions", *PROTOCOLS, *(task.name for task in SECOND)}
    assert all(get_task(name).name == name for name in TASKS)
    with pytest.raises(UserError, match="gsm_symbolic, country_facts"):
        get_task("mathematics")
    with pytest.raises(ValueError, match="train, validation, test"):
        get_task("gsm_symbolic").items("dev", 1)


@pytest.mark.parametrize("name", EMBEDDED)
def test_splits_share_no_prompt(name):
    prompts = {split: [item.prompt for item in TASKS[name].items(split, 500)] for split in SPLITS}
    assert all(not set(prompts[a]) & set(prompts[b]) for a, b in combinations(SPLITS, 2))
    for split in ("validation", "test"):
        assert len(set(prompts[split])) == 500


@pytest.mark.parametrize("name", EMBEDDED)
def test_rows_are_pinned(name):
    assert rows_hash(TASKS[name].items("test", 50)) == EMBEDDED[name]


@pytest.mark.parametrize("name", EMBEDDED)
def test_targets_are_right_and_others_wrong(name):
    task = TASKS[name]
    items = task.items("train", 100)
    assert all(score.correct == 1 for score in task.score_all([(item, item.target) for item in items]))
    wrong = {"gsm_symbolic": "1+1=2#99999", "country_facts": "Nowhere", "small_functions": "    return 'no'"}
    for text in (wrong[name], ""):
        assert all(score.correct == 0 for score in task.score_all([(item, text) for item in items]))


def test_templates_follow_the_rule():
    assert all(gsm_symbolic.usable_share(template) >= 0.3 for template in gsm_symbolic.TEMPLATES)
    for template in REJECTED:
        assert template not in gsm_symbolic.TEMPLATES
        assert gsm_symbolic.usable_share(template) < 0.3


def test_gsm8k(folder):
    task = TASKS["gsm8k"]
    items = task.items("test")
    assert [item.id for item in items] == [f"gsm8k/test/{row}" for row in range(3)]
    assert [item.reference["answer"] for item in items] == ["5", "1234", "-7"]
    assert [item.prompt for item in items] == [f"{row['question']}\n" for row in GSM8K]
    assert all(task.score(item, item.target).correct == 1 for item in items)
    assert all(task.score(item, "#### 77").correct == 0 for item in items)
    assert task.score(items[0], "no number").answer is None
    assert task.score(items[0], "So $x = \\boxed{\\frac{10}{2}}$, in 1 step.").correct == 1
    assert task.score(items[1], "That makes $1,234.00.").correct == 1


def test_gsm8k_validation_is_the_end_of_train(folder, monkeypatch):
    monkeypatch.setattr(gsm8k, "VALIDATION", 1)
    ids = {split: [item.id for item in TASKS["gsm8k"].items(split)] for split in ("train", "validation")}
    assert ids == {"train": ["gsm8k/train/0", "gsm8k/train/1"], "validation": ["gsm8k/train/2"]}


@pytest.mark.parametrize(
    "text, answer",
    [
        ("#### 12\n\nAnd 5 more", "12"),
        ("5 #### 12\nQ 7 #### 13 apples", "13"),
        ("#### none\nso \\boxed{4} of 5", "\\boxed{4}"),
        ("10-3 is 7.", "7"),
        ("10-3", "3"),
        ("= -3.50.", "-3.50"),
        ("", None),
        ("#### 9 * 2 = 18", "18"),
        ("#### 18 = 9 * 2", "18"),
        ("#### 2 + 2 = 4 apples and 3", "4"),
        ("#### 9 * 2", "9 * 2"),
        ("#### 3/4", "3/4"),
        ("#### 2 1/2", "2 + 1/2"),
        ("#### 1 000", "1000"),
        ("#### 1\u202f234\u202f567 dollars", "1234567"),
        ("#### 1 0000", "1"),
        ("#### 3 of 100", "3"),
        ("100 200 300", "300"),
        ("#### -$3", "-3"),
        ("#### $-3", "-3"),
        ("#### -\\$1,000.50", "-1000.50"),
        ("#### \u22123", "-3"),
        ("10-$3 = $7", "7"),
        ("#### **18**", "18"),
        ("#### $18$", "18"),
    ],
)
def test_final_answer(text, answer):
    assert gsm8k.final_answer(text) == answer


def test_gsm8k_is_scored_off_the_main_thread(folder):
    """math-verify's time limit is a signal, which other threads may not set."""
    item = TASKS["gsm8k"].items("test")[1]
    texts = {"#### 1,234": 1, "#### 7": 0, "\\boxed{\\frac{2468}{2}}": 1}
    with ThreadPoolExecutor(1) as pool:
        assert {text: pool.submit(gsm8k.score, item, text).result().correct for text in texts} == texts


def test_a_sum_that_was_not_worked_out_is_its_value_and_not_its_first_number():
    for answer, right in (("18", 1), ("9", 0)):
        assert gsm8k.score(Item("x", "", "", {"answer": answer}), "#### 9 * 2").correct == right


def test_a_humaneval_row_without_tests_is_named(folder):
    (folder / "humaneval.jsonl").write_text(json.dumps(HUMANEVAL[0] | {"test": None}))
    with pytest.raises(UserError, match="(?s)humaneval.*test"):
        TASKS["humaneval"].items("test")


@pytest.mark.parametrize(
    "change",
    [
        {"test": "def check(candidate):\n    assert candidate(3) == 7\n"},
        {"test": "def check(candidate):\n    pass\n"},
        {"canonical_solution": "    return object()\n"},
    ],
)
def test_a_humaneval_row_that_cannot_judge_is_named(folder, change):
    (folder / "humaneval.jsonl").write_text(json.dumps(HUMANEVAL[0] | change))
    with pytest.raises(UserError, match="HumanEval/0 cannot be judged"):
        TASKS["humaneval"].score(TASKS["humaneval"].items("test")[0], "    return 6")


def test_humaneval_tests_with_chance_and_helpers(folder):
    """What tests draw is the same for all; helpers are the row's, not the response's."""
    prompt = 'def helper(x):\n    return x + 1\n\n\ndef twice(x):\n    """2x"""\n'
    test = (
        "import random\ndef check(candidate):\n    for _ in range(20):\n        x = random.randint(0, 10**9)\n"
        "        assert helper(candidate(x)) == 2 * x + 1 and twice(x) == 2 * x\n"
    )
    row = HUMANEVAL[0] | {"prompt": prompt, "test": test, "canonical_solution": "    return 2 * x\n"}
    (folder / "humaneval.jsonl").write_text(json.dumps(row))
    item = TASKS["humaneval"].items("test")[0]
    texts = {
        "    return 2 * x": 1,
        "    return x + x": 1,
        "    return 2 * x + (x > 10**8)": 0,
        "    return helper(x)": 0,
    }
    scores = TASKS["humaneval"].score_all([(item, text) for text in texts])
    assert {text: score.correct for text, score in zip(texts, scores, strict=True)} == texts


def test_humaneval_needs_consent_before_anything_runs(folder, monkeypatch):
    monkeypatch.delenv("ALLOW_CODE_EXECUTION")
    with pytest.raises(UserError, match="ALLOW_CODE_EXECUTION=1"):
        TASKS["humaneval"].score(TASKS["humaneval"].items("test")[0], "    return 6")


@pytest.mark.slow
def test_all_of_humaneval_judges_its_own_solutions_right_and_one_object_wrong(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    items = TASKS["humaneval"].items("test")
    assert len(items) == 164
    scores = TASKS["humaneval"].score_all([(item, item.target) for item in items])
    assert [item.id for item, score in zip(items, scores, strict=True) if not score.correct] == []
    scores = TASKS["humaneval"].score_all([(item, ANYTHING) for item in items])
    assert [item.id for item, score in zip(items, scores, strict=True) if score.correct] == []


def test_humaneval(folder):
    task = TASKS["humaneval"]
    items = task.items("test")
    assert [item.id for item in items] == [row["task_id"] for row in HUMANEVAL]
    assert [s.correct for s in task.score_all([(item, item.target) for item in items])] == [1, 1, 1]
    assert [s.correct for s in task.score_all([(item, "    return 6") for item in items])] == [1, 0, 0]
    runs_on = "    return 2 * x\n\nprint(undefined)\n"
    assert task.score(items[0], runs_on).correct == 1
    assert task.score(items[0], "    import os\n    os._exit(0)").correct == 0
    with pytest.raises(UserError, match="test only"):
        task.items("train")


def test_triviaqa_is_judged_by_inclusion_in_the_first_line(folder):
    task = TASKS["triviaqa"]
    first, second = task.items("test")
    for text in ("Mark Twain", "It was by the writer Mark Twain, I think.\nNo", "S. L. Clemens!"):
        assert task.score(first, text).correct == 1, text
    for text in ("Marky Twain", "Someone else.\nMark Twain", ""):
        assert task.score(first, text).correct == 0, text
    assert task.score(second, "anything").correct == 0, "an alias that is empty after normalisation is no answer"
    with pytest.raises(UserError, match="test split only"):
        task.items("validation")


def _question(prompt: str, *aliases: str) -> Item:
    return Item("x", f"{prompt}\n", aliases[0], {"aliases": list(aliases)})


def test_triviaqa_counts_no_alias_that_the_question_says():
    nick = _question("What is the nickname of Nick Freeman, a solicitor?", "nick freeman", "mr loophole")
    assert triviaqa.score(nick, nick.prompt).correct == 0 and triviaqa.score(nick, "Nick Freeman").correct == 0
    assert triviaqa.score(nick, "Mr. Loophole").correct == 1
    only = _question("Who is Ann Lee?", "ann lee")
    assert triviaqa.score(only, "Ann Lee").correct == 1, "else nothing would answer it"


def test_triviaqa_takes_one_of_the_choices_that_a_question_offers():
    for prompt, alias, other in (
        ("A 'wherry' is a Drink; Cheese; Wind; or Boat?", "boat", "cheese"),
        ("How many letters? 55, 75 or 95?", "55", "75"),
        ("A 'Double (what?) Recession'? Dip; Blip or Whammy?", "dip", "blip"),
    ):
        item = _question(prompt, alias, "another")
        assert triviaqa.score(item, f"It is {alias}.").correct == 1, prompt
        for text in (prompt, f"{alias} or {other}", other):
            assert triviaqa.score(item, text).correct == 0, text
    assert triviaqa.offered("Known as the Mother or the Heart, what state is it?") == []


def test_no_question_of_triviaqa_is_answered_by_itself(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    items = TASKS["triviaqa"].items("test")
    assert [item.prompt for item in items if triviaqa.score(item, item.prompt).correct] == []


def test_truncate():
    assert humaneval.truncate("    a\n    if b\nif c\ndef d") == "    a\n    if b"
    assert humaneval.truncate("    a\n") == "    a\n"


def test_missing_file_is_named(folder):
    (folder / "gsm8k_test.jsonl").unlink()
    with pytest.raises(UserError, match=f"{folder}/gsm8k_test.jsonl"):
        TASKS["gsm8k"].items("test")


def test_broken_file_is_named(folder):
    (folder / "gsm8k_test.jsonl").write_text("not json\n")
    with pytest.raises(UserError, match=f"{folder}/gsm8k_test.jsonl is not JSON Lines"):
        TASKS["gsm8k"].items("test")


def test_unreachable_hub_names_the_cure(monkeypatch):
    import datasets

    def unreachable(*args, **options):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"set DATA_DIR to a folder with b.jsonl \(no route\)$"):
        load_rows("a/b", None, "test", "b.jsonl")


def test_humaneval_takes_the_code_block_of_a_chat_reply():
    item = Item(
        "x",
        'from typing import List\n\n\ndef half(x: List[int]) -> int:\n    """Half of the sum."""\n',
        "    return sum(x) // 2\n",
        {"test": "def check(f):\n    assert f([3, 5]) == 4\n", "entry_point": "half"},
    )
    body = "    return sum(x) // 2\n"
    whole = f"def half(x: List[int]) -> int:\n{body}"
    replies = {
        body: 1,
        f"{body}\nprint(half([1]))": 1,
        f"Sure! Here it is:\n```python\n{whole}```\nIt adds and halves.": 1,
        f"```\nhalf([1])\n```\nthen\n```python\n{whole}": 1,
        f"First wrong:\n```python\n{whole}```\nBetter:\n```python\n{whole.replace('2', '3')}```": 0,
        "It cannot be done.": 0,
    }
    for reply, right in replies.items():
        assert humaneval.score_many([(item, reply)])[0].correct == right, reply


FOLLOWED = {  # a response that follows an instruction, and one that does not
    "punctuation:no_comma": ("Bees work all day.", "Bees, it is said, work."),
    "change_case:english_lowercase": ("the bees work all day and sleep at night.", "The bees work all day."),
    "change_case:english_capital": ("THE BEES WORK ALL DAY AND SLEEP AT NIGHT.", "THE bees WORK ALL DAY."),
    "startend:quotation": ('"Bees "work" hard."', 'Bees "work".'),
    "detectable_format:title": ("<<Bees>>\nThey work.", "# Bees\nThey work."),
    "detectable_format:number_bullet_lists": ("* one\n* two\n* three", "* one\n* two"),
    "length_constraints:number_sentences": (
        "Dr. Smith keeps bees, e.g. in the U.S. and elsewhere. They work.",  # 2, though there are 7 full stops
        "They work. They sleep. They eat. They fly.",
    ),
    "length_constraints:number_words": ("They work.", "They work. " * 25),
    "keywords:existence": ("The light of a hand lamp.", "The light of a lamp."),
    "keywords:forbidden_words": ("Bees work.", "Bees work very much."),
    "detectable_content:postscript": ("Bees work.\nP.S. They sleep.", "Bees work."),
    "startend:end_checker": ("Bees work. That is all.", "That is all. Bees work."),
    "detectable_format:number_highlighted_sections": ("*Bees* work *hard*.", "*Bees* work."),
}


@pytest.mark.parametrize(
    "words, kind, given", instructions.INSTRUCTIONS, ids=[kind for _, kind, _ in instructions.INSTRUCTIONS]
)
def test_instructions_are_judged_by_the_checkers(words, kind, given):
    followed, not_followed = FOLLOWED[kind]
    question = ifeval.item("x", words, [kind], [given])
    assert ifeval.score(question, followed) == Score(1, "1/1")
    assert ifeval.score(question, not_followed) == Score(0, "0/1")
    both = ifeval.item("x", words, [kind, "detectable_format:json_format"], [given, {}])
    assert ifeval.score(both, followed) == Score(0, "1/2"), "a prompt counts only where all is followed"


@pytest.mark.parametrize("letter, text, right", [("#", "#a #b #c #d", 1), ("#", "aaaa #b", 0), ("E", "eE ee", 1)])
def test_ifeval_counts_the_sign_that_was_asked_for(letter, text, right):
    given = {"letter": letter, "let_frequency": 4, "let_relation": "at least"}
    question = ifeval.item("x", "", ["keywords:letter_frequency"], [given])
    assert [ifeval.score(question, text).correct for _ in range(5)] == [right] * 5


@pytest.mark.parametrize("given", [{}, {"letter": "#"}, {"let_frequency": 4, "let_relation": "at least"}])
def test_ifeval_draws_no_parameter(given):
    with pytest.raises(UserError, match="mend"):
        ifeval.score(ifeval.item("x", "", ["keywords:letter_frequency"], [given]), "Some text.")


def test_ifeval_is_whole_and_apart_from_the_training_prompts(monkeypatch):
    """541 prompts with 834 instructions of 25 kinds, as published; all can be judged; none is trained on."""
    monkeypatch.delenv("DATA_DIR", raising=False)
    items = TASKS["ifeval"].items("test")
    kinds = [kind for item in items for kind in item.reference["instructions"]]
    assert (len(items), len(kinds), len(set(kinds))) == (541, 834, 25)
    judged = {kind: item for item in items for kind in item.reference["instructions"]}
    scores = [ifeval.score(item, "I do not know. PLEASE ask again.").answer for item in judged.values()]
    assert all(score.split("/")[1].isdigit() for score in scores) and len(set(scores)) > 1
    learned = {item.prompt for item in TASKS["instructions"].items("train", 600)}
    assert len(learned) > 400 and not learned & {item.prompt for item in items}
    with pytest.raises(UserError, match="test split only"):
        TASKS["ifeval"].items("train", 1)


def test_committed_rows_need_no_network(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    assert len(TASKS["triviaqa"].items("test")) == 1000
