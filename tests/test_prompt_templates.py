"""Prompt templates: the question whole, the answers as they were, and who can be asked so."""

import pytest

from lib.errors import UserError
from lib.tasks import get_task
from lib.tasks.base import SPLITS
from lib.tasks.prompt_templates import FRAMES, MATH, question_of, templates_of

# All but gsm8k, whose own frame is the bare question.
FRAMED = [(name, template) for name, (frame, of_it) in FRAMES.items() if frame.strip() for template in of_it]


def test_there_are_three_for_each_task():
    for _, templates in FRAMES.values():
        assert len(templates) == 3 and all(text.count("{question}") == 1 for text in templates.values())
    assert all("####" in text and "number" in text for text in MATH.values()), "the scorer reads behind the mark"


@pytest.mark.parametrize(("name", "template"), FRAMED)
def test_the_question_is_whole_and_the_answers_stay(name, template):
    plain, framed, frame = get_task(name), get_task(f"{name}@{template}"), FRAMES[name][0]
    assert framed.name == f"{name}@{template}" and framed.instruction == ""
    assert (framed.max_new_tokens, framed.score, framed.kind) == (plain.max_new_tokens, plain.score, plain.kind)
    for split in SPLITS:
        for own, other in zip(plain.items(split, 20), framed.items(split, 20), strict=True):
            assert (own.id, own.target, own.reference) == (other.id, other.target, other.reference)
            question, form = own.prompt.rstrip("\n").rsplit("\n", 1)
            assert form == frame.strip() and question_of(own, frame) == question
            assert question in other.prompt and form not in other.prompt and "{question}" not in other.prompt
            assert framed.score(other, own.target).correct == 1
    prompts = {other.prompt for other in framed.items("test", 20)}
    assert not prompts & {item.prompt for item in plain.items("test", 20)}
    assert len(prompts) == len({item.prompt for item in plain.items("test", 20)})


def test_who_is_asked_in_which_frames():
    task = get_task("worded_math")
    assert templates_of(task, follows_instructions=False) == ["worded_math"]
    names = templates_of(task, follows_instructions=True)
    assert names == ["worded_math", *(f"worded_math@{name}" for name in MATH)]
    assert [get_task(name).name for name in names] == names
    assert templates_of(get_task("country_facts"), follows_instructions=True) == ["country_facts"]


def test_what_there_is_not_is_refused():
    with pytest.raises(UserError, match="no prompt template 'plain'; known: question-answer"):
        get_task("worded_math@plain")
    with pytest.raises(UserError, match="country_facts has no prompt templates; those that have: worded_math"):
        get_task("country_facts@chain-of-thought")
    with pytest.raises(UserError, match="no task 'worded'"):
        get_task("worded@chain-of-thought")
    with pytest.raises(ValueError, match="does not end with"):
        question_of(get_task("country_facts").items("test", 1)[0], FRAMES["worded_math"][0])
