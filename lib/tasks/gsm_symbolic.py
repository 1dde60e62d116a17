"""Math: GSM-Symbolic word problems of `reasoning-gym`, answered by a chain of equations.

The templates are those whose worked solutions often reduce to a few true equations over small integers
(`TEMPLATES`; `usable_share` is the rule that chose them), and of their draws those that do are taken: a
model of five million parameters is to be right about half the time, or no method can be told from another.
The response is the chain, `13-10=3;13+3=16#16`: the answer stands after the mark, as in GSM8K.
"""

import re
from collections.abc import Callable
from functools import cache
from random import Random

from lib.tasks.base import Item, Score, Task, generated

MARK = "#"
LARGEST = 100
MOST_EQUATIONS = 3
LONGEST_CHAIN = 40  # characters, the answer included
LONGEST_QUESTION = 60  # words, digits and signs

_NUMBER = r"\d+(?:\.\d+)?"
_TERM = rf"\(*\s*{_NUMBER}\s*\)*"
_EXPRESSION = re.compile(rf"{_TERM}(?:\s*[-+*/]\s*{_TERM})*$")


@cache
def generators():
    # Imported late: the package takes a second and only this task needs it.
    from reasoning_gym.arithmetic.gsm_symbolic import generators_00_49, generators_50_99

    found = {}
    for module in (generators_00_49, generators_50_99):
        for name, function in vars(module).items():
            if name.startswith("generate_"):
                found[int(name.removeprefix("generate_"))] = function
    return found


def sides(solution: str) -> list[tuple[str, str] | None]:
    """Expression and value of each equation of a worked solution, without words and units; None where unreadable."""
    found = []
    for line in solution.split("####")[0].splitlines():
        sides = line.replace(",", "").split("=")
        for left, right in zip(sides, sides[1:], strict=False):
            left = re.sub(r"/\s*[a-z][a-z ]*", " ", left, flags=re.I)  # units such as "boys/girl"
            left = re.sub(r"(?<=[\d\s])[x×](?=[\d\s])", "*", left)
            left = re.sub(r"[^\d.+\-*/() ]+", " ", left)
            expression = _EXPRESSION.search(left.strip())
            value = re.match(rf"[\s$€£]*({_NUMBER})", right)
            readable = expression and value
            found.append(
                (re.sub(r"\.0\b", "", expression.group().replace(" ", "")), value.group(1).removesuffix(".0"))
                if readable
                else None
            )
    return found


def equations(solution: str) -> list[str] | None:
    """The equations of a worked solution without words and units, or None where one is not true as it stands."""
    found = sides(solution)
    if not all(pair and is_true(*pair) for pair in found):
        return None
    return [f"{expression}={value}" for expression, value in found if expression != value] or None


def is_true(expression: str, value: str) -> bool:
    """Whether an expression of numbers and signs has that value."""
    if not re.fullmatch(r"[\d.+\-*/()]+", expression) or "**" in expression or "//" in expression:
        return False
    try:
        return abs(eval(expression, {"__builtins__": {}}) - float(value)) < 1e-9  # digits and signs only
    except (SyntaxError, ZeroDivisionError, TypeError, OverflowError):
        return False


def example(template: int, seed: int) -> tuple[str, str, str]:
    """Question, worked solution and answer of a draw. Raises ValueError where the seed gives no numbers."""
    row = generators()[template](Random(seed), 1.0)
    solution = row.get("answer_cot") or row["metadata"]["answer_cot"]
    return row["question"], solution, str(row["answer"])


def chain_to(answer: str, solution: str) -> list[str] | None:
    """The equations of a worked solution that end in a whole answer, None where they do not."""
    chain = equations(solution)
    return chain if chain and answer.isdigit() and chain[-1].endswith(f"={answer}") else None


def small(text: str, largest: int) -> bool:
    """Whether all numbers in a text are whole and no larger."""
    return all("." not in number and int(number) <= largest for number in re.findall(_NUMBER, text))


def pieces(text: str) -> int:
    """Words, digits and signs."""
    return len(re.findall(r"\d|\w+|[^\w\s]", text))


def fits(question: str, solution: str, answer: str) -> list[str] | None:
    """The chain of a draw that is short, over small integers, and ends in the answer; else None."""
    chain = chain_to(answer, solution)
    short = (
        chain is not None
        and len(chain) <= MOST_EQUATIONS
        and len(";".join(chain)) + len(answer) <= LONGEST_CHAIN
        and pieces(question) <= LONGEST_QUESTION
        and small(";".join(chain), LARGEST)
    )
    return chain if short else None


def usable_share(template: int, draws: int = 200, fits: Callable = fits) -> float:
    """The share of a template's draws that fit: `TEMPLATES` are those at 0.3 or more."""

    def fit(seed: int) -> bool:
        try:
            return fits(*example(template, seed)) is not None
        except ValueError:  # the generator found no numbers for this seed
            return False

    return sum(map(fit, range(draws))) / draws


TEMPLATES = (
    4, 6, 10, 16, 30, 31, 34, 39, 43, 48, 54, 57, 62, 72, 78,
)  # fmt: skip


def draw(index: int) -> Item:
    """Item `index` of the endless stream: a template and its numbers, both from one seeded generator."""
    rng = Random(f"gsm-symbolic/{index}")
    template = rng.choice(TEMPLATES)
    while not (chain := fits(*(drawn := example(template, rng.getrandbits(32))))):
        pass
    question, _, answer = drawn
    return Item(
        id=f"gsm-symbolic/{index}",
        prompt=f"{question}\n",
        target=f"{';'.join(chain)}{MARK}{answer}",
        reference={"answer": answer, "template": template},
    )


def marked(text: str) -> str | None:
    """The whole number that stands alone behind the last mark, of one sign or of four; None where there is none."""
    found = re.findall(rf"{MARK}([^{MARK}\n]*)", text)
    last = found[-1].replace("$", "").strip().removesuffix(".") if found else ""
    return last if re.fullmatch(r"-?\d+", last) else None


def score(item: Item, text: str) -> Score:
    """Right where the number behind the last mark equals the answer."""
    answer = marked(text)
    return Score(int(answer is not None and int(answer) == int(item.reference["answer"])), answer)


TASK = Task(
    name="gsm_symbolic",
    kind="math",
    licence="Apache-2.0 (reasoning-gym)",
    max_new_tokens=40,
    stream=lambda split: generated(draw, split, key=lambda item: item.prompt),
    score=score,
)
