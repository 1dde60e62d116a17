"""A hash of what code does: of named definitions and of all that they use, wherever in `lib` it stands.

Comments, docstrings, import lines, the words of an error and the place of a file do not count, so that code can be
moved and described better; an unused neighbour does not count, so that a file can grow. Python finds what a name
means when it runs, this module when it reads: what is reached through a table or an attribute alone must be named.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "lib"
Name = tuple[str, str]  # module and definition
# Tables of everything: which of it a result uses is named beside them. Errors and model cards decide nothing, nor
# does what of the class Model makes one without a name in the registry, for no run has such a model.
APART = frozenset(
    [("lib.models.registry", name) for name in ("MODELS", "HEADS", "TIERS")]
    + [("lib.models.families", "FAMILIES")]
    + [("lib.models.registry", f"Model.{name}") for name in ("assumed", "from_pretrained", "pair")]
    + [("lib.decoding.registry", name) for name in ("DECODERS", "decoder")]
    + [("lib.tasks", "TASKS"), ("lib.studies", "STUDIES")]
    + [("lib.models.cards", "Known"), ("lib.models.cards", "write"), ("lib.models.publish", "Publishes")]
    + [("lib.errors", name) for name in ("UserError", "require_known", "exit_status")]
)


@dataclass(frozen=True)
class Module:
    """A parsed file: the statements that define each name, and where the names that it imports come from.

    methods: what is in a class, by `Class.name`; a root may be one alone.
    """

    definitions: dict[str, list[ast.stmt]]
    methods: dict[str, list[ast.stmt]]
    imports: dict[str, Name]


def closure(roots: Iterable[Name], within: tuple[str, ...] = (PACKAGE,), root: Path = ROOT) -> dict[Name, str]:
    """The shape of every definition that `roots` (module, name) use, themselves included, in the modules `within`.

    Raises ValueError for a root that is not there.
    """
    found: dict[Name, str] = {}
    todo = list(roots)
    for module, name in todo:
        if _definition(root, module, name) is None:
            raise ValueError(f"{module} has no {name}")
    while todo:
        place = _definition(root, *todo.pop())
        if place is None or place in found or place in APART:
            continue
        module, name = place
        if not any(f"{module}.".startswith(f"{package}.") for package in within):
            continue
        here = _module(root, module)
        nodes = here.definitions.get(name) or here.methods[name]
        found[place] = "".join(_shape(node) for node in nodes)
        for node in nodes:
            todo += _used(root, module, node)
    return found


def hash_of(roots: Iterable[Name], within: tuple[str, ...] = (PACKAGE,), root: Path = ROOT) -> str:
    """One hash of a closure; the modules' names are no part of it."""
    shapes = sorted((name, shape) for (_, name), shape in closure(roots, within, root).items())
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def files_hash(paths: Iterable[Path]) -> str:
    """A hash of files by their names and bytes; of a notebook the sources of its cells count."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            digest.update(json.dumps(["".join(cell["source"]) for cell in cells]).encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def name_of(thing) -> Name:
    """Module and name of a function or class at the top of a module."""
    return thing.__module__, thing.__qualname__


@cache
def _file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


@cache
def _module(root: Path, module: str) -> Module:
    tree = ast.parse(_file(root, module).read_text(encoding="utf-8"))
    definitions: dict[str, list[ast.stmt]] = {}
    methods: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if not _apart(module, node, part)]
            methods |= {f"{node.name}.{name}": [part] for part in node.body for name in _defines(part)}
        for name in _defines(node):
            definitions.setdefault(name, []).append(node)
    return Module(definitions, methods, _imports(tree.body))


def _defines(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module gives a meaning, or changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [found for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)]
        return [name.id for name in names[:1] if isinstance(targets[0], ast.Subscript)] or [n.id for n in names]
    if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
        return [name for child in ast.walk(node) if child is not node and isinstance(child, ast.stmt)
                for name in _defines(child)]  # fmt: skip
    return []


def _apart(module: str, kind: ast.ClassDef, part: ast.stmt) -> bool:
    return any((module, f"{kind.name}.{name}") in APART for name in _defines(part))


def _imports(nodes: Iterable[ast.AST]) -> dict[str, Name]:
    """Local name -> (module, name) of `from lib... import ...` lines."""
    found = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{PACKAGE}."):
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return found


def _definition(root: Path, module: str, name: str) -> Name | None:
    """Where a name that a module has is defined, through any re-export; None outside of the package."""
    while _file(root, module):
        here = _module(root, module)
        if name in here.definitions or name in here.methods:
            return module, name
        if name not in here.imports:
            return None
        module, name = here.imports[name]
    return None


def _used(root: Path, module: str, node: ast.stmt) -> list[Name]:
    """The names of the package that a statement uses, its own imports included."""
    nodes = list(ast.walk(node))
    imports = _module(root, module).imports | _imports(nodes)
    found = []
    for part in nodes:
        if isinstance(part, ast.Name):
            found.append(imports.get(part.id, (module, part.id)))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imports:
            place = imports[part.value.id]
            found.append((f"{place[0]}.{place[1]}", part.attr))  # of a module that was imported by name
    return found


def _shape(node) -> str:
    """A syntax tree as text, without what does not count. Empty fields are left out, for Python versions differ in
    which of them there are."""
    if isinstance(node, list):
        kept = (_shape(part) for part in node if not isinstance(part, ast.Import | ast.ImportFrom))
        return f"[{','.join(kept)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise):
        return "Raise()"
    skip = ()
    documented = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and ast.get_docstring(node) is not None:
        skip = node.body[:1]
    if isinstance(node, ast.JoinedStr):  # Python 3.12 first had empty parts there
        skip = [part for part in node.values if isinstance(part, ast.Constant) and part.value == ""]
    parts = []
    for key, value in ast.iter_fields(node):
        if isinstance(value, list):
            value = [part for part in value if part not in skip]
        if value is None or value == []:
            continue
        parts.append(f"{key}={_shape(value)}")
    return f"{type(node).__name__}({','.join(parts)})"
