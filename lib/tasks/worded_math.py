"""Math in words: GSM-Symbolic problems of `reasoning-gym` with the worked solution of their source.

The response is sentences with the equations in them and `#### answer` on a line of its own, as in GSM8K. The same
questions answered by the bare chain, `8*4=32;32-4=28#28`, are the contrast `terse_math`: there no token says again
what another one says. What is asked for stands behind the question.

A split holds out whole chains: no test question has the equations, in order, of a training question, whatever its
words. `worded_math_new` asks templates that no training question has.
"""

import re
from random import Random

from lib.tasks.base import Item, Task, generated
from lib.tasks.gsm_symbolic import MARK, _generators, equations, score

LARGEST = 200
LONGEST_QUESTION = 75  # words, digits and signs, as in PIECE
LONGEST_SOLUTION = 78
CANVAS = 96
PIECE = re.compile(r"\d|\w+|[^\w\s]")
# Templates of which at least 0.3 of the draws fit, by `usable_share`, but for 14, whose question lacks a word; the
# last were drawn by lot to be held out.
TEMPLATES = (4, 6, 16, 20, 24, 30, 31, 39, 40, 48, 57, 58, 62, 69, 72, 78, 95)
HELD_OUT = (10, 34, 43, 54)


def _example(template: int, seed: int) -> tuple[str, str, str]:
    row = _generators()[template](Random(seed), 1.0)
    solution = row.get("answer_cot") or row["metadata"]["answer_cot"]
    return row["question"].strip(), solution.strip(), str(row["answer"])


def fits(question: str, solution: str, answer: str) -> list[str] | None:
    """The equations of a draw that is short and over small whole numbers, and ends in the answer; else None."""
    chain = equations(solution)
    if chain is None or not answer.isdigit() or not chain[-1].endswith(f"={answer}"):
        return None
    if not solution.endswith(f"#### {answer}"):
        return None
    if len(PIECE.findall(question)) > LONGEST_QUESTION or len(PIECE.findall(solution)) > LONGEST_SOLUTION:
        return None
    numbers = re.findall(r"\d+(?:\.\d+)?", ";".join([*chain, solution]))
    return chain if all("." not in number and int(number) <= LARGEST for number in numbers) else None


def usable_share(template: int, draws: int = 200) -> float:
    """The share of a template's draws that fit."""

    def fit(seed: int) -> bool:
        try:
            return fits(*_example(template, seed)) is not None
        except ValueError:  # the generator found no numbers for this seed
            return False

    return sum(map(fit, range(draws))) / draws


def _draw(index: int, stream: str, templates: tuple[int, ...]) -> tuple[str, str, str, list[str], int]:
    """Question, solution, answer and chain of item `index`, and its template."""
    rng = Random(f"{stream}/{index}")
    template = rng.choice(templates)
    while True:
        try:
            question, solution, answer = _example(template, rng.getrandbits(32))
        except ValueError:  # the generator found no numbers for this seed
            continue
        if chain := fits(question, solution, answer):
            return question, solution, answer, chain, template


def _item(index: int, form: str, templates: tuple[int, ...]) -> Item:
    stream = "worded-math" if templates == TEMPLATES else "worded-math-new"
    question, solution, answer, chain, template = _draw(index, stream, templates)
    return Item(
        id=f"{stream}/{index}",
        prompt=f"{question}\n{form}:\n",
        target=solution if form == "In words" else f"{';'.join(chain)}{MARK}{answer}",
        reference={"answer": answer, "template": template, "steps": len(chain), "chain": ";".join(chain)},
    )


def _task(name: str, form: str, templates: tuple[int, ...], canvas: int) -> Task:
    def stream(split: str):
        def draw(index: int) -> Item:
            return _item(index, form, templates)

        return generated(draw, split, key=lambda item: item.reference["chain"], unique=lambda item: item.prompt)

    return Task(
        name=name,
        kind="math",
        licence="Apache-2.0 (reasoning-gym)",
        max_new_tokens=canvas,
        stream=stream,
        score=score,
    )


WORDED = _task("worded_math", "In words", TEMPLATES, CANVAS)
TERSE = _task("terse_math", "In numbers", TEMPLATES, 48)
NEW = _task("worded_math_new", "In words", HELD_OUT, CANVAS)
