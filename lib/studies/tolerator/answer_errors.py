"""What is wrong with a wrong answer: kinds of error in the math and code of the study's own tasks."""

import ast
import builtins
import math
import re

# Of math: with these a right end is a guess.
FALSE_WORKING = ("malformed", "wrong arithmetic", "another end than its steps")


def math_error(text: str, prompt: str = "") -> str:
    """What is wrong with a wrong answer to a word problem, written as `8*2=16;8+16=24#24`.

    `wrong plan`: nothing in what is written, so that it is also what a right answer with true steps gets.
    """
    steps, mark, end = text.partition("#")
    found = re.findall(r"([\d+*/.-]+)=(-?\d+(?:\.\d+)?)(?=;|$)", steps)
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
    """Of numbers and + - * / alone, which is what `math_error` lets through; powers are refused."""
    if "**" in expression or "//" in expression:
        raise ValueError(expression)
    return float(eval(compile(expression, "", "eval"), {"__builtins__": {}}))


def code_error(text: str, prompt: str = "") -> str:
    """What is wrong with a function that fails its tests; it is read and not run."""
    try:
        tree = ast.parse(prompt + text)
    except (SyntaxError, ValueError):
        return "does not parse"
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef)), None)
    if function is None:
        return "no function"
    names = {n.arg for n in ast.walk(function) if isinstance(n, ast.arg)} | {
        n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return "unknown name" if used - names - set(dir(builtins)) else "another function"
