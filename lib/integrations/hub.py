"""`make hub`: decoders as folders that `model.generate(..., custom_generate=FOLDER, trust_remote_code=True)` loads.

    python -m lib.integrations.hub [METHOD ...] [--into build/hub]

A folder is the modules of this library that a decoder needs, found by reading their imports, side by side under flat
names: `transformers` follows `from .x import` alone, and only within `custom_generate/`. It needs no `lib`.
"""

import argparse
import ast
import importlib.util
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import requires
from pathlib import Path

import lib.decoders  # noqa: F401  every decoder registers itself
from lib.decoding.registry import decoder_of
from lib.errors import UserError, exit_status, require_known
from lib.integrations.arguments import run
from lib.integrations.card import Method, card
from lib.integrations.heads import with_heads
from lib.paths import BUILD, ROOT

PACKAGE = "lib"
GIVEN = ("torch", "transformers", "numpy")  # what every folder may import anywhere
METHODS = {
    method.name: method
    for method in (
        Method("autodeco", "AutoDeco", "Small heads on a frozen model choose temperature and top-p at every token.",
               ("2510.26697",), ("autodeco_vs_default_math", "autodeco_vs_mean_constant_math"), with_heads),
        Method("tolerator", "TOLERATOR", "A masked diffusion model fills the whole answer, then masks random subsets "
               "of it again and predicts them from the rest.",
               ("2510.05090",), ("tolerator_vs_vanilla", "tolerator_vs_vanilla_same_eot")),
        Method("vanilla", "Vanilla diffusion decoding", "A masked diffusion model fills the answer, at each forward "
               "the positions that it is surest of, by the rules of LLaDA and Dream.",
               ("2502.09992", "2508.15487"), ("tolerator_vs_vanilla",)),
        Method("speculative", "Speculative decoding", "A small model drafts, the large one verifies the draft in one "
               "pass, and the text has the large one's distribution; token by token or by the whole block.",
               ("2211.17192", "2302.01318", "2403.10444"), ("speculative_vs_hf_assisted_speed",)),
        Method("mtad", "MTAD", "A small model drafts by joint probability, the large one accepts the longest prefix "
               "whose ratio of joints passes tau: faster, and not the large one's distribution.",
               ("2407.09722",), ("mtad_vs_speculative_speed", "mtad_vs_speculative_score")),
    )
}  # fmt: skip
GENERATE = '''"""{title} for `generate(custom_generate=...)`, by `make hub` of decoding-study {version}."""

{imports}


def generate(model, inputs=None, **given):
    """`inputs` [B, P] and responses behind them, [B, P + G]; README.md has every argument."""
    return {run}({options}, model, inputs, given{prepare})
'''


def build(name: str, folder: Path) -> Path:
    """The folder of a decoder: README.md, LICENSE and custom_generate are made anew, what else lies there stays.

    Raises UserError for one that `transformers` could not load.
    """
    require_known("method for the hub", [name], METHODS)
    method, kind = METHODS[name], decoder_of(name)
    used = [run, kind.decode, *filter(None, [method.prepare])]  # a decoder registers itself where it is imported
    modules = closure(thing.__module__ for thing in used)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = packages(modules, project["dependencies"])
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    code = part / "custom_generate"
    code.mkdir(parents=True)
    for module, path in modules.items():
        (code / f"{flat(module)}.py").write_text(rewritten(path, set(required)), encoding="utf-8")
    (code / "generate.py").write_text(_entry(method, kind.options, project["version"]), encoding="utf-8")
    (code / "requirements.txt").write_text("".join(f"{line}\n" for line in required.values()), encoding="utf-8")
    (part / "README.md").write_text(card(method, kind, folder), encoding="utf-8")
    shutil.copy(ROOT / "LICENSE", part)
    check(code)
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / code.name, ignore_errors=True)
    for made in part.iterdir():
        made.replace(folder / made.name)
    part.rmdir()
    return folder


def _entry(method: Method, options: type, version: str) -> str:
    things: list[Callable] = [*filter(None, [method.prepare]), run, options]
    imports = sorted(f"from .{flat(thing.__module__)} import {thing.__name__}" for thing in things)
    return GENERATE.format(
        title=method.title,
        version=version,
        imports="\n".join(imports),
        run=run.__name__,
        options=options.__name__,
        prepare=f", {method.prepare.__name__}" if method.prepare else "",
    )


def closure(roots: Iterable[str]) -> dict[str, Path]:
    """Modules of the library that `roots` import, themselves included, each with its file."""
    found: dict[str, Path] = {}
    todo = list(roots)
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found[module] = path = Path(importlib.util.find_spec(module).origin)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import) and any(_ours(alias.name) for alias in node.names):
                raise UserError(f"{where}: write `from {PACKAGE}.x import y`, which a folder can have")
            if isinstance(node, ast.ImportFrom) and _ours(node.module):
                for alias in node.names:
                    if _is_module(node.module, alias.name):
                        raise UserError(f"{where}: import what is used from {alias.name} by its name")
                todo.append(node.module)
    if len({flat(module) for module in found} | {"generate"}) <= len(found):
        raise UserError(f"two of these modules would have one flat name: {', '.join(sorted(found))}")
    return dict(sorted(found.items()))


def _is_module(package: str, name: str) -> bool:
    """Whether `from package import name` gives a module."""
    inside = importlib.util.find_spec(package).submodule_search_locations
    return inside is not None and importlib.util.find_spec(f"{package}.{name}") is not None


def _ours(module: str | None) -> bool:
    return f"{module}.".startswith(f"{PACKAGE}.")


def flat(module: str) -> str:
    """`lib.decoding.session` as `decoding_session`."""
    return module.removeprefix(f"{PACKAGE}.").replace(".", "_")


def _imports(tree: ast.Module) -> list[tuple[ast.stmt, str, bool]]:
    """Every import of a third party's package: the statement, the package, and whether all of the module needs it."""
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not _ours(node.module) else []
        for name in (name.split(".")[0] for name in names):
            if name not in sys.stdlib_module_names:
                found.append((node, name, node in tree.body))
    return found


def brought() -> set[str]:
    """Packages that come with `transformers`."""
    lines = (line for line in requires("transformers") or () if "extra ==" not in line)
    return {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines}


def packages(modules: dict[str, Path], dependencies: list[str]) -> dict[str, str]:
    """By package what requirements.txt says of those that the modules cannot be imported without.

    `transformers` reads one bound of a line, so that a line has the lower one alone; its own upper one, behind which
    the arguments of a forward have other names, stands on a line of its own.
    """
    needed = {*GIVEN}
    for path in modules.values():
        needed |= {name for _, name, whole in _imports(ast.parse(path.read_text(encoding="utf-8"))) if whole}
    lower = (re.match(r"[\w-]+[>=]=[\d.]+", line)[0] for line in dependencies)
    bounds = {re.match(r"[\w-]+", line)[0].replace("-", "_"): line for line in lower}
    needed -= brought() - {*GIVEN}
    strange = needed - bounds.keys()
    if strange:
        raise UserError(f"the folder would import {', '.join(sorted(strange))}, which pyproject.toml does not name")
    upper = [match for line in dependencies if (match := re.match(r"(transformers)\b.*(<[\d.]+)", line))]
    more = {match[1]: f"\n{match[1]}{match[2]}" for match in upper}
    return {name: bounds[name] + more.get(name, "") for name in sorted(needed)}


def rewritten(path: Path, required: set[str]) -> str:
    """A module as it stands in a folder: imports of the library from beside it, on one line up to `import`.

    `transformers` wants every package that is imported anywhere, but within a `try`: there goes an import inside a
    function of a package that only some calls need.
    """
    source = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _ours(node.module):
            at = node.lineno - 1
            lines[at] = lines[at].replace(f"from {node.module} import", f"from .{flat(node.module)} import", 1)
    for node, name, whole in _imports(tree):
        if not whole and name not in required:
            first, last, indent = node.lineno - 1, node.end_lineno, " " * node.col_offset
            inside = "\n".join(f"    {line}" for line in lines[first:last])
            lines[first] = f"{indent}try:\n{inside}\n{indent}finally:  # an error stays one\n{indent}    pass"
            lines[first + 1 : last] = [None] * (last - first - 1)
    return "\n".join(line for line in lines if line is not None) + "\n"


def check(code: Path) -> None:
    """UserError where what `transformers` would fetch by following imports is not all that lies there, or imports
    what requirements.txt does not name."""
    from transformers.dynamic_module_utils import get_imports, get_relative_import_files

    entry, there = code / "generate.py", {path.name for path in code.glob("*.py")}
    followed = {Path(file).name for file in get_relative_import_files(entry)} | {entry.name}
    if followed != there:
        raise UserError(
            f"{code}: transformers would fetch {sorted(followed ^ there)} otherwise than they are imported"
        )
    named = {re.match(r"[\w-]+", line)[0] for line in (code / "requirements.txt").read_text().splitlines()}
    for path in code.glob("*.py"):
        strange = set(get_imports(path)) - named - brought() - sys.stdlib_module_names
        if strange:
            raise UserError(f"{path} imports {', '.join(sorted(strange))}, which requirements.txt does not name")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.integrations.hub", description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", default=[*METHODS], metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--into", type=Path, default=BUILD / "hub")
    given = parser.parse_args(arguments)
    require_known("method for the hub", given.methods, METHODS)
    given.into.mkdir(parents=True, exist_ok=True)
    for name in given.methods:
        files = list((build(name, given.into / name) / "custom_generate").glob("*.py"))
        size = sum(path.stat().st_size for path in files)
        print(f"{given.into / name}: {len(files)} modules, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    sys.exit(exit_status(main))
