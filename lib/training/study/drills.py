"""Arithmetic without words, for training only: many equations a sequence where a word problem has two."""

from random import Random

from lib.tasks.base import Item, Score, Task, generated
from lib.tasks.gsm_symbolic import LARGEST, LONGEST_CHAIN


def _term(rng: Random) -> str:
    """An expression of the kinds that the chains of GSM-Symbolic hold, its value and operands at most LARGEST."""
    kind = rng.choice("+-*/+-*+-3")
    a, b = rng.randint(1, LARGEST), rng.randint(1, LARGEST)
    if kind == "+":
        total = rng.randint(1, LARGEST)
        a, b = min(a, total), abs(a - total) or 1
        return f"{a}+{b}" if rng.random() < 0.5 else f"{b}+{a}"
    if kind == "-":
        return f"{max(a, b)}-{min(a, b)}"
    if kind == "3":
        a, b, c = (rng.randint(1, LARGEST // 3) for _ in range(3))
        return f"{a}+{b}+{c}" if rng.random() < 0.5 else f"{a + b + c}-{b}-{c}"
    b = rng.randint(2, 20)
    a = rng.randint(1, LARGEST // b)
    return f"{a}*{b}" if kind == "*" else f"{a * b}/{b}"


def draw(index: int) -> Item:
    """Item `index`: expressions in the prompt, the same with their values as the response."""
    rng = Random(f"drills/{index}")
    terms, solved = [], []
    while True:
        term = _term(rng)
        equation = f"{term}={round(eval(term))}"  # digits and signs from above
        if len(";".join([*solved, equation])) >= LONGEST_CHAIN:
            break
        terms.append(term)
        solved.append(equation)
    return Item(f"drills/{index}", f"{' '.join(terms)}\n", ";".join(solved))


def score(item: Item, text: str) -> Score:
    """Right where every equation is."""
    return Score(int(text == item.target), text)


TASK = Task(
    name="drills",
    kind="math",
    licence="MIT (this repository)",
    max_new_tokens=40,
    stream=lambda split: generated(draw, split, key=lambda item: item.prompt),
    score=score,
)
