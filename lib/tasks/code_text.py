"""The program in what a model wrote: in a fence of any kind, without one, or as the body of a function alone."""

import ast
import re
from textwrap import indent

from lib.tasks.protocol import cut

FENCE = re.compile(r"(`{3,}|~{3,})[^`\n]*\n(.*?)(?:\1|\Z)", re.S)
STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint")  # Chen et al. 2021: what follows a body
START = re.compile(r"^(?:import |from |def |async def |class |@)", re.M)
LONGEST = 2_000  # lines; a program of any of the benchmarks is shorter


def blocks(text: str) -> list[str]:
    """What stands in fences of backquotes or tildes, whatever they are labelled; the last may be open."""
    return [body for _, body in FENCE.findall(lines_of(text))]


def lines_of(text: str) -> str:
    """The same text with line feeds alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parses(code: str) -> bool:
    """Whether it is Python."""
    try:
        compile(code, "<text>", "exec", dont_inherit=True)  # which refuses a return outside of a function too
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def defines(code: str, name: str) -> bool:
    """Whether a function of that name begins in it."""
    return re.search(rf"\bdef\s+{re.escape(name)}\s*\(", code) is not None


def before_prose(code: str, head: str = "") -> str:
    """The first lines of `code` that are Python behind `head`: what a model wrote behind its program is left out."""
    rows = code.split("\n")[:LONGEST]
    while rows:
        try:
            compile(head + "\n".join(rows), "<text>", "exec", dont_inherit=True)
            break
        except SyntaxError as error:
            at = (error.lineno or 1) - head.count("\n")
            rows = rows[: max(0, min(at, len(rows)) - 1)]
        except (ValueError, RecursionError, MemoryError):
            return ""
    return "\n".join(rows)


def program(text: str, name: str) -> str:
    """The program that defines the function `name`: the last fenced one that does, else the first without a fence,
    either with what it uses of imports that stand apart; else the text."""
    text = lines_of(text)
    fenced = blocks(text)
    whole = [block for block in fenced if defines(block, name)]
    if whole:
        return with_imports(whole[-1], fenced)
    apart, end = [], 0
    for start in START.finditer(text) if defines(text, name) else ():
        if start.start() < end:
            continue
        found = before_prose(text[start.start() :])
        if defines(found, name):
            return with_imports(_definitions(found), [*fenced, *apart])
        apart.append(found)
        end = start.start() + len(found)
    return _definitions(apart[0]) if apart else text


def with_imports(code: str, others: list[str]) -> str:
    """`code` behind those imports of other pieces that it lacks and uses."""
    nodes = [node for piece in others if parses(piece) for node in ast.parse(piece).body]
    lines = [
        ast.unparse(node)
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom) and any(_used(alias, code) for alias in node.names)
    ]
    lines = [line for line in dict.fromkeys(lines) if line not in code]
    joined = "\n".join([*lines, code])
    return joined if lines and parses(joined) else code


def _used(alias: ast.alias, code: str) -> bool:
    name = (alias.asname or alias.name).split(".")[0]
    return name == "*" or re.search(rf"\b{re.escape(name)}\b", code) is not None


def _definitions(code: str) -> str:
    """Python without the statements at its top that do something: a test or an example that was written along."""
    kept = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
    )
    return "\n".join(ast.unparse(node) for node in ast.parse(code).body if isinstance(node, kept))


def completed(prompt: str, text: str, name: str) -> str:
    """A program from `prompt`, which ends inside the function `name`, and a response to it.

    In this order: the last fenced block that defines the function; the response as the body that goes on from the
    prompt, where it is indented; a function written without a fence; the last fenced block, or all, as a body whose
    indentation was lost; what is indented as the body.
    """
    text = lines_of(text)
    head = prompt[: prompt.index(f"def {name}(")]  # its imports and helpers
    fenced = blocks(text)
    whole = [block for block in fenced if defines(block, name)]
    if whole:
        return f"{head}\n{with_imports(_level(whole[-1]), fenced)}"
    first = next((line for line in text.split("\n") if line.strip()), "")
    if not first[:1].isspace() and defines(text, name):
        return f"{head}\n{program(text, name)}"
    if first[:1].isspace():
        return f"{prompt}{cut(text, STOPS)}"
    indented = re.findall(r"^[ \t]+\S.*", text, re.M | re.S)
    body = next(filter(None, (_body(prompt, given) for given in (*fenced[-1:], text, *indented))), None)
    return body or f"{prompt}{cut(text, STOPS)}"


def _level(block: str) -> str:
    """A block without the indentation that its first line has, as in a list of steps."""
    space = re.match(r"\n*([ \t]*)", block)[1]
    return re.sub(rf"^{space}", "", block, flags=re.M) if space else block


def _body(prompt: str, text: str) -> str | None:
    """A program with `text` as the body, of which the first line or all lost their indentation: whichever keeps more
    lines of it. None where neither is Python."""
    prompt, text = f"{prompt.rstrip()}\n", text.strip("\n")
    own = cut(text, STOPS)
    level = indent(_level(own), "    ")
    ways = (own, level) if text[:1].isspace() else (f"    {own}", indent(text, "    "))
    kept = max((before_prose(way, prompt) for way in ways), key=lambda code: code.count("\n"))
    return f"{prompt}{kept}\n" if kept.strip() and parses(prompt + kept) else None
