"""What the rows of each file of questions must hold: a row that no scorer can judge is found when it is read."""

import ast
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LONGEST = 30_000  # characters of a field; the longest of the published rows has 6,000


def _readable(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > LONGEST:
        raise ValueError(f"must have at most {LONGEST:,} characters and has {len(text):,}")
    if "\0" in text:
        raise ValueError("must hold no NUL")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must hold whole characters, and has half of a pair")
    return text


def _with_a_number(text: str) -> str:
    if not re.search(r"\d", text):
        raise ValueError("must hold a number: it is what a response is compared with")
    return text


def _named(value: Any) -> Any:
    if type(value) is not int and not (isinstance(value, str) and value.strip()):
        raise ValueError("must be a whole number or text")
    return value


def _code(text: str) -> str:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"must be Python ({error})") from error
    return text


Text = Annotated[str, AfterValidator(_readable)]
Id = Annotated[Any, AfterValidator(_named)]
Texts = Annotated[list[Text], Field(min_length=1)]


class Row(BaseModel):
    """A row; other fields than those named are left alone."""

    model_config = ConfigDict(extra="allow")


class Gsm8k(Row):
    question: Text
    answer: Annotated[Text, AfterValidator(_with_a_number)]


class HumanEval(Row):
    task_id: Text
    prompt: Text
    canonical_solution: str
    test: Annotated[Text, AfterValidator(_code)]
    entry_point: Text

    @model_validator(mode="after")
    def tests_what_is_asked_for(self):
        if f"def {self.entry_point}(" not in self.prompt:
            raise ValueError("must define its entry_point in prompt")
        if "def check(" not in self.test:
            raise ValueError("must define check(candidate) in test")
        return self


# IFEval's instructions with the parameters of each: its checkers draw those that are not given at random.
INSTRUCTIONS = {
    "change_case:capital_word_frequency": ("capital_relation", "capital_frequency"),
    "change_case:english_capital": (),
    "change_case:english_lowercase": (),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "combination:two_responses": (),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:constrained_response": (),
    "detectable_format:json_format": (),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:title": (),
    "keywords:existence": ("keywords",),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:frequency": ("relation", "keyword", "frequency"),
    "keywords:letter_frequency": ("let_relation", "letter", "let_frequency"),
    "language:response_language": ("language",),
    "length_constraints:nth_paragraph_first_word": ("first_word", "num_paragraphs", "nth_paragraph"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_sentences": ("relation", "num_sentences"),
    "length_constraints:number_words": ("relation", "num_words"),
    "punctuation:no_comma": (),
    "startend:end_checker": ("end_phrase",),
    "startend:quotation": (),
}


class IfEval(Row):
    key: Id
    prompt: Text
    instruction_id_list: Texts
    kwargs: list[dict[str, str | int | float | list[str] | None]]

    @model_validator(mode="after")
    def can_be_checked(self):
        if len(self.kwargs) != len(self.instruction_id_list):
            raise ValueError("must have as many kwargs as instruction_id_list")
        for name, given in zip(self.instruction_id_list, self.kwargs, strict=True):
            if name not in INSTRUCTIONS:
                raise ValueError(f"must not ask for {name!r}, which no checker knows, in instruction_id_list")
            for parameter in INSTRUCTIONS[name]:
                if given.get(parameter) in (None, "", []):
                    raise ValueError(f"must give {parameter} of {name} in kwargs")
        return self


class MtBench(Row):
    question_id: Id
    turns: Texts


class SpiderQuestion(Row):
    db_id: Text
    question: Text
    query: Text


Column = Annotated[list[int | str], Field(min_length=2, max_length=2)]


class SpiderTables(Row):
    db_id: Text
    table_names_original: Texts
    column_names_original: Annotated[list[Column], Field(min_length=1)]
    column_types: Texts
    foreign_keys: list[Annotated[list[int], Field(min_length=2, max_length=2)]]
    primary_keys: list[int | list[int]]

    @model_validator(mode="after")
    def is_a_schema(self):
        columns, tables = self.column_names_original, len(self.table_names_original)
        if len(self.column_types) != len(columns):
            raise ValueError("must have as many column_types as column_names_original")
        for table, name in columns:
            if type(table) is not int or type(name) is not str or not -1 <= table < tables:
                raise ValueError(f"must name a table by its number in column_names_original, not {[table, name]}")
        for name in ("foreign_keys", "primary_keys"):
            for key in getattr(self, name):
                if any(not 0 <= column < len(columns) for column in (key if isinstance(key, list) else [key])):
                    raise ValueError(f"must name columns by their numbers in {name}, not {key}")
        return self


class Answer(BaseModel):
    aliases: Texts
    normalized_aliases: Annotated[list[str], Field(min_length=1)]


class TriviaQa(Row):
    question_id: Text
    question: Text
    answer: Answer


class Boxed(Row):
    """A problem of mathematics with its answer."""

    problem: Text
    answer: Id


class Choices(Row):
    """A question of MMLU-Pro."""

    question_id: Id
    question: Text
    options: Annotated[list[Text], Field(min_length=2, max_length=26)]
    answer: Text

    @model_validator(mode="after")
    def has_its_answer(self):
        if len(self.answer) != 1 or not 0 <= ord(self.answer) - ord("A") < len(self.options):
            raise ValueError(f"must have as answer the letter of one of its options, not {self.answer!r}")
        return self


class Gpqa(Row):
    question: Text = Field(alias="Question")
    right: Text = Field(alias="Correct Answer")
    first: Text = Field(alias="Incorrect Answer 1")
    second: Text = Field(alias="Incorrect Answer 2")
    third: Text = Field(alias="Incorrect Answer 3")
    name: Text = Field(alias="Record ID")


class Mbpp(Row):
    task_id: int
    code: Annotated[Text, AfterValidator(_code)]
    test_list: Annotated[list[Annotated[Text, AfterValidator(_code)]], Field(min_length=1)]


class MbppFull(Mbpp):
    text: Text


class MbppSanitized(Mbpp):
    prompt: Text


def program_tests(tests: Any, function: str | None) -> list[dict]:
    """The tests of a contest's problem as they are. Raises ValueError where one has no input and output as text, or,
    where a `function` is called, an input line or an output that is not JSON."""
    if not isinstance(tests, list):
        raise ValueError("must be a list of tests")
    for number, test in enumerate(tests, 1):
        for name in ("input", "output"):
            text = test.get(name) if isinstance(test, dict) else None
            if not isinstance(text, str):
                raise ValueError(f"must have {name} as text in test {number}")
            for line in [] if not function else text.split("\n") if name == "input" else [text]:
                _json(line, f"{name} of test {number}")
    return tests


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON in {what} ({error})") from error


class LiveCodeBench(Row):
    """A problem; its hidden tests, which are packed, are looked at when they judge."""

    question_id: Text
    question_content: Text
    contest_date: Any
    starter_code: str
    public_test_cases: str
    private_test_cases: str
    metadata: Text

    @model_validator(mode="after")
    def can_judge(self):
        given = _json(self.metadata, "metadata")
        function = given.get("func_name") if isinstance(given, dict) else 0
        if not isinstance(function, str | None):
            raise ValueError("must have an object in metadata, and func_name in it, if at all, as text")
        public = _json(self.public_test_cases, "public_test_cases")
        try:
            program_tests(public, function)
        except ValueError as error:
            raise ValueError(f"{error}, in public_test_cases") from error
        if not public and self.private_test_cases.strip() in ("", "[]"):
            raise ValueError("must have a test in public_test_cases or private_test_cases")
        return self


class CnnDailyMail(Row):
    id: Text
    article: Text
    highlights: Text


# File -> the shape of its rows, and the field that tells one from another.
SHAPES = {
    **{f"{name}.jsonl": (Boxed, None) for name in ("math500", "aime24", "aime25", "brumo25", "hmmt25", "beyondaime")},
    "cnn_dailymail_test.jsonl": (CnnDailyMail, "id"),
    "gpqa_diamond.jsonl": (Gpqa, "Record ID"),
    "gpqa_main.jsonl": (Gpqa, "Record ID"),
    "gsm8k_train.jsonl": (Gsm8k, None),
    "gsm8k_test.jsonl": (Gsm8k, None),
    "humaneval.jsonl": (HumanEval, "task_id"),
    "ifeval.jsonl": (IfEval, "key"),
    "livecodebench_v6.jsonl": (LiveCodeBench, "question_id"),
    "mbpp_full.jsonl": (MbppFull, "task_id"),
    "mbpp_sanitized.jsonl": (MbppSanitized, "task_id"),
    "mmlu_pro.jsonl": (Choices, "question_id"),
    "mmlu_pro_100.jsonl": (Choices, "question_id"),
    "mt_bench.jsonl": (MtBench, "question_id"),
    "spider_dev.jsonl": (SpiderQuestion, None),
    "spider_tables.jsonl": (SpiderTables, "db_id"),
    "triviaqa_nocontext.jsonl": (TriviaQa, "question_id"),
    "triviaqa_nocontext_1k.jsonl": (TriviaQa, "question_id"),
}
