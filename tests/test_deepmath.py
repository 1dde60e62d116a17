"""Trajectories for DeepMath-103K: its rows, the states at drawn positions, and heads trained on them end to end."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import AR, tiny

from lib.errors import UserError
from lib.models import registry
from lib.models.registry import Model
from lib.tasks.base import Score
from lib.training.autodeco import __main__ as command
from lib.training.autodeco import deepmath
from lib.training.autodeco.hidden_states import sampled_states, states_of
from lib.training.autodeco.recipe import RECIPES


class Letters:
    """A tokenizer of 24 words: every letter is one."""

    def encode(self, text, add_special_tokens=False):
        return [3 + ord(letter) % 21 for letter in text][-60:]

    def decode(self, ids, skip_special_tokens=True):
        return " ".join(map(str, ids))


ROWS = [
    {"question": f"What is {i} + {i}?", "final_answer": str(2 * i), "difficulty": 5.0, "r1_solution_1": "..."}
    for i in range(40)
]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    def write(rows=ROWS):
        (tmp_path / deepmath.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setenv("DATA_DIR", str(tmp_path))

    write()
    return write


def test_problems_are_asked_and_judged_as_the_benchmarks(rows):
    items = deepmath.TASK.items("train", 5)
    assert len({item.id for item in items}) == 5 and items == deepmath.TASK.items("train")[:5]
    assert [item.prompt for item in items] != [f"{row['question']}" for row in ROWS[:5]], "mixed by their text"
    item = items[0]
    assert item.prompt.endswith("\nMake sure you output the final answer within \\boxed{}.")
    right = item.reference["answer"]
    assert deepmath.TASK.score(item, f"<think>maybe 7</think> so \\boxed{{{right}}}").correct == 1
    assert deepmath.TASK.score(item, right).correct == 0, "a number without a box is no answer"
    assert deepmath.TASK.score(item, f"<think>\\boxed{{{right}}}").status == "unfinished"


def test_rows_without_an_answer_are_left_out_and_others_are_refused(rows):
    rows([*ROWS[:3], ROWS[0], {"question": "Prove it.", "final_answer": ""}])
    assert len(deepmath.TASK.items("train")) == 3
    with pytest.raises(UserError, match="train only, not 'test'"):
        deepmath.TASK.items("test", 1)
    rows([{"problem": "another form"}])
    with pytest.raises(UserError, match="zwhe99/DeepMath-103K"):
        deepmath.TASK.items("train", 1)


def test_states_at_drawn_positions_are_those_of_all_positions():
    base = Model("tiny", tiny(), Letters(), AR)
    rows = [("question\n", list(range(3, 20))), ("a longer question\n", [5, 6, 7, 0]), ("q\n", [9])]
    whole, some = states_of(base, rows), sampled_states(base, rows, positions=5)
    assert [len(response) for _, response in rows] == [17, 4, 1] and len(some.tokens) == 5 + 4 + 1
    assert some.tokens[5:9].tolist() == [5, 6, 7, 0], "a short response has all of its own"
    places = [whole.tokens[:17].tolist().index(token) for token in some.tokens[:5].tolist()]
    assert places == sorted(places) and places != list(range(5))
    assert torch.allclose(some.hidden[:5].float(), whole.hidden[places].float(), atol=2e-3)
    assert torch.allclose(some.hidden[5:].float(), whole.hidden[17:].float(), atol=2e-3)
    assert torch.equal(some.tokens, sampled_states(base, rows, positions=5).tokens)
    assert not torch.equal(some.tokens, sampled_states(base, rows, positions=5, seed=1).tokens)


def test_heads_are_trained_on_them_by_the_papers_recipe(rows, tmp_path, monkeypatch):
    """`python -m lib.training.autodeco r1-qwen-7b-autodeco` with a tiny base and answers that chance makes right."""
    name = "r1-qwen-7b-autodeco"
    assert (RECIPES[name].steps, RECIPES[name].learning_rate) == (400, 5e-6)
    source = command.SOURCES["r1-qwen-7b"]
    assert (source.tasks, source.samples) == (("deepmath",), 4) and source.prompts * source.samples >= 6000
    asked = []

    def score(item, text):
        asked.append(item.id)
        return Score(len(asked) % 2)

    monkeypatch.setattr(command.deepmath, "TASK", replace(deepmath.TASK, max_new_tokens=8, score=score))
    monkeypatch.setitem(command.SOURCES, "r1-qwen-7b", replace(source, prompts=6, samples=2, positions=4))
    monkeypatch.setitem(command.RECIPES, name, replace(RECIPES[name], steps=3, batch=16, width=8))
    monkeypatch.setattr(command, "load", lambda *given: Model("tiny", tiny(), Letters(), AR))
    monkeypatch.setattr(command, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(command, "BUILD", tmp_path / "build")
    assert command.main([name]) == 0
    assert len(asked) == 12 and len(set(asked)) == 6
    folder = tmp_path / "checkpoints" / name
    assert {path.name for path in folder.iterdir()} >= {"autodeco_heads.safetensors", "curve.jsonl", "recipe.json"}
    assert json.loads((folder / "measured.json").read_text())["positions"] <= 6 * 4
    again = len(asked)
    assert command.main([name]) == 0 and len(asked) == again, "what was drawn is not drawn again"


def test_no_right_answer_is_one_line(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command.deepmath, "TASK", replace(deepmath.TASK, max_new_tokens=4))
    source = replace(command.SOURCES["r1-qwen-7b"], prompts=2, samples=1)
    monkeypatch.setitem(command.SOURCES, "r1-qwen-7b", source)
    monkeypatch.setattr(command, "load", lambda *given: Model("tiny", tiny(), Letters(), AR))
    monkeypatch.setattr(command, "BUILD", tmp_path / "build")
    assert command.main(["r1-qwen-7b-autodeco"]) == 1
    assert "no right answers to train heads on" in capsys.readouterr().err
    assert registry.entry_of("r1-qwen-7b-autodeco").base == "r1-qwen-7b"
