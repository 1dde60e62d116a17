"""Math in words: GSM-Symbolic problems of `reasoning-gym` with the worked solution of their source.

The response is sentences with the equations in them and `#### answer` on a line of its own, as in GSM8K. The same
questions answered by the bare chain, `8*4=32;32-4=28#28`, are the contrast `terse_math`: there no token says again
what another one says. What is asked for stands behind the question.

A split holds out whole chains: no test question has the equations, in order, of a training question, whatever its
words. `worded_math_new` asks templates that no training question has.
"""

from random import Random

from lib.tasks.base import Item, Task, generated
from lib.tasks.gsm_symbolic import MARK, chain_to, example, pieces, score, small

LARGEST = 200
LONGEST_QUESTION = 75  # words, digits and signs
LONGEST_SOLUTION = 78
CANVAS = 96
# Templates of which at least 0.3 of the draws fit (`usable_share` with the `fits` below), but for 14, whose question
# lacks a word; the last were drawn by lot to be held out.
TEMPLATES = (4, 6, 16, 20, 24, 30, 31, 39, 40, 48, 57, 58, 62, 69, 72, 78, 95)
HELD_OUT = (10, 34, 43, 54)


def fits(question: str, solution: str, answer: str) -> list[str] | None:
    """The equations of a draw that is short and over small whole numbers, and ends in the answer; else None."""
    question, solution = question.strip(), solution.strip()
    chain = chain_to(answer, solution)
    short = pieces(question) <= LONGEST_QUESTION and pieces(solution) <= LONGEST_SOLUTION
    if chain is None or not short or not solution.endswith(f"#### {answer}"):
        return None
    return chain if small(";".join([*chain, solution]), LARGEST) else None


def _draw(index: int, stream: str, templates: tuple[int, ...]) -> tuple[str, str, str, list[str], int]:
    """Question, solution, answer and chain of item `index`, and its template."""
    rng = Random(f"{stream}/{index}")
    template = rng.choice(templates)
    while True:
        try:
            question, solution, answer = example(template, rng.getrandbits(32))
        except ValueError:  # the generator found no numbers for this seed
            continue
        if chain := fits(question, solution, answer):
            return question.strip(), solution.strip(), answer, chain, template


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
