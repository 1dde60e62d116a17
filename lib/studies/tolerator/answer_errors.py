"""What is wrong with a wrong answer: kinds of error in the study's own tasks, by the answer and its item."""

import ast
import builtins
import math
import re

from lib.tasks.base import Item
from lib.tasks.graded_functions import LEVELS
from lib.tasks.gsm_symbolic import is_true, sides
from lib.tasks.sudoku import Shape, read, read_clues

# Of math: with these a right end is a guess.
FALSE_WORKING = ("malformed", "wrong arithmetic", "another end than its steps")


def worded_error(text: str, item: Item | None = None) -> str:
    """What is wrong with a wrong answer to a word problem, written in sentences with equations and `#### answer`.

    Equations are read and words are not. `wrong plan`: nothing in the equations, so that it is also what a right
    answer with true steps gets.
    """
    steps, mark, end = text.partition("####")
    found = sides(steps)
    if not mark or not re.fullmatch(r"\d+(\.\d+)?", end.strip()) or not found or not all(found):
        return "malformed"
    if not all(is_true(*pair) for pair in found):
        return "wrong arithmetic"
    return "wrong plan" if float(found[-1][1]) == float(end) else "another end than its steps"


def math_error(text: str, item: Item | None = None) -> str:
    """The same of a terse answer, written as `8*2=16;8+16=24#24`."""
    steps, mark, end = text.partition("#")
    found = re.findall(r"([\d+*/.()-]+)=(-?\d+(?:\.\d+)?)(?=;|$)", steps)
    if not mark or not re.fullmatch(r"-?\d+(\.\d+)?", end) or len(found) != steps.count(";") + 1:
        return "malformed"
    try:
        values = [(_value(left), float(right)) for left, right in found]
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return "malformed"
    if not all(math.isclose(left, right) for left, right in values):
        return "wrong arithmetic"
    return "wrong plan" if values[-1][1] == float(end) else "another end than its steps"


def _value(expression: str) -> float:
    """Of numbers and + - * / ( ) alone, which is what `math_error` lets through; powers are refused."""
    if "**" in expression or "//" in expression:
        raise ValueError(expression)
    return float(eval(compile(expression, "", "eval"), {"__builtins__": {}}))


def logic_error(text: str, item: Item) -> str:
    """What is wrong with a grid: it is none, it changes a clue, or a row, column or box holds a digit twice."""
    shape = Shape(*item.reference["box"], (0, 0))
    grid = read(text, shape.side)
    if grid is None:
        return "no grid"
    clues = read_clues(item.reference["clues"])
    kept = all(clue in (0, digit) for clue, digit in zip(clues, grid, strict=True))
    return "a digit twice" if kept else "another clue"


def code_error(text: str, item: Item) -> str:
    """What is wrong with a function that fails its tests; it is read and not run.

    `other numbers`: all but the numbers is as in the item's own function.
    """
    try:
        tree = ast.parse(item.prompt + text)
    except (SyntaxError, ValueError):
        return "does not parse"
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef)), None)
    if function is None:
        return "no function"
    names = {n.arg for n in ast.walk(function) if isinstance(n, ast.arg)} | {
        n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    if used - names - set(dir(builtins)):
        return "unknown name"
    return "other numbers" if _form(tree) == _form(ast.parse(item.prompt + item.target)) else "another function"


def _form(tree: ast.Module) -> str:
    """A program without its numbers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            node.value = 0
    return ast.dump(tree)


# Task -> its kinds of error.
ERRORS = {
    "gsm_symbolic": math_error,
    "terse_math": math_error,
    "worded_math": worded_error,
    "sudoku6": logic_error,
    "sudoku9": logic_error,
    "small_functions": code_error,
    **dict.fromkeys((level.name for level in LEVELS), code_error),
}
