"""Notebooks to committed results: a profile's parameters, papermill, stable bytes, HTML, a move at the end."""

import copy
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from lib.errors import CURES, MachineError, UserError, says_out_of_memory
from lib.paths import BUILD, PARAMS, RESULTS, ROOT
from lib.reporting.html import page_of, prepared
from lib.reporting.profiles import read
from lib.reporting.publish import publish

KERNEL = {
    "TQDM_DISABLE": "1",  # a bar would leave one line an update in the notebook
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # a user's Agg would leave no figures
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore::SyntaxWarning,ignore:IProgress not found",  # of packages, not of this study
    "SOURCE_DATE_EPOCH": "0",  # matplotlib writes this date into SVG files
}
TQDM = re.compile(r"\d+(%\||it\b|/\d+).*\[\d+:\d\d(:\d\d)?(<|,)")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}\b")
CELL_FILE = re.compile(r"\S*/ipykernel_\d+/\d+\.py")
STYLER_ID = re.compile(r'id="(T_[0-9a-f]{5})')


def render(
    notebook: Path,
    profile: str,
    results: Path = RESULTS,
    params_dir: Path = PARAMS,
    build: Path = BUILD / "render",
    overrides: dict | None = None,
    out: Path | None = None,
    section: str = "",
) -> Path:
    """Execute a notebook with a profile's parameters and return its folder `results/<profile>/<stem>`.

    `section`: which of a profile's sections, where these are not named as notebooks; folder and files are called by
    it then. The folder holds `<stem>.ipynb`, `<stem>.html` and what the notebook wrote into `out`, and takes the
    place of an earlier one as a whole, unless that differs only in what was timed (see publish.py); a line on stderr
    says what came of it. All relative paths start at the repository root, which is also where the notebook runs.
    Raises UserError for an unknown profile or parameter, and for a failing cell, MachineError where memory or room
    ran out: then nothing in `results` has changed and the notebook lies under `build` as far as it ran.
    """
    notebook, stem = ROOT / notebook, section or Path(notebook).stem
    values = parameters(notebook, profile, params_dir, overrides, section)
    built = ROOT / build / profile / f"{stem}.ipynb"
    built.parent.mkdir(parents=True, exist_ok=True)
    with _environment(KERNEL | homes()):
        try:
            node = papermill.execute_notebook(
                notebook,
                built,
                parameters=values,
                kernel_name="python3",
                cwd=ROOT,
                log_output=False,
                progress_bar=sys.stderr.isatty(),
                # No warning that loopback is not encrypted, no traceback of a kernel that is stopped.
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
        except PapermillExecutionError as error:
            first = error.source.strip().splitlines()[0]
            last = f"{error.ename}: {error.evalue}".strip().splitlines()[-1]
            raise _kind(error.ename, error.evalue)(
                f"{notebook.name} failed in cell [{error.exec_count}], which begins `{first}`: {last}\n"
                f"The notebook as far as it ran: {built}"
            ) from error
        except DeadKernelError as error:
            raise MachineError(
                f"the kernel of {notebook.name} died, as it does when memory runs out; "
                f"the notebook as far as it ran: {built}"
            ) from error
    node = prepared(normalise(node), stem)
    nbformat.write(node, built)
    page = built.with_suffix(".html")
    page.write_text(page_of(node, stem), encoding="utf-8")
    written = sorted((ROOT / out).iterdir()) if out else []
    target = ROOT / results / profile / stem
    said = publish([built, page, *written], target, again=bool((overrides or {}).get("reuse")))
    print(f"{target.parent.name}/{stem}: {said}".replace(f"{ROOT}{os.sep}", ""), file=sys.stderr)
    return target


def parameters(
    notebook: Path, profile: str, params_dir: Path = PARAMS, overrides: dict | None = None, section: str = ""
) -> dict:
    """What to inject: the `common` values that the notebook declares, its section's, `overrides`, `profile`.

    Later sources win. `section`: see `render`; a profile that is a folder gives a notebook without it the `common`
    values alone. Raises UserError for an unknown notebook, profile or section, for a section whose notebook is not
    there, and for a parameter that nothing declares.
    """
    notebook, params_dir = ROOT / notebook, ROOT / params_dir
    notebooks = {path.stem: path for path in sorted(notebook.parent.glob("*.ipynb"))}
    if notebook.stem not in notebooks:
        raise UserError(f"no notebook {notebook}; there are: {', '.join(notebooks) or 'none'}")
    found = read(profile, params_dir)
    for one in found.sections.values():
        if one.notebook not in notebooks:
            raise UserError(f"{one.path}: no notebook {one.notebook!r}; there are: {', '.join(notebooks)}")
    chosen = found.section(section) if section and found.is_folder else found.sections.get(section or notebook.stem)
    if chosen and chosen.notebook != notebook.stem:
        raise UserError(f"{chosen.path}: the section {chosen.name!r} is of the notebook {chosen.notebook}: take that")
    declared = papermill.inspect_notebook(notebook)
    if "profile" not in declared:
        raise UserError(f"{notebook.name} must declare `profile` in its cell tagged parameters")
    known = [name for name in declared if name != "profile"]  # the profile is chosen by its argument alone
    common = found.common
    own = {**(chosen.values if chosen else {}), **(overrides or {})}
    for name in own:
        if name not in known:
            at = f"{chosen.path}: " if chosen and found.is_folder else ""
            raise UserError(f"{at}{notebook.name} has no parameter {name!r}; it has: {', '.join(known) or 'none'}")
    used = {name: value for name, value in common.items() if name in known}
    # A misspelt common parameter would be left out of every notebook without a word.
    if stray := common.keys() - used:
        others = {name for path in notebooks.values() for name in papermill.inspect_notebook(path)} - {"profile"}
        if unknown := sorted(stray - others):
            raise UserError(f"{found.path}: no notebook has the common parameter {', '.join(unknown)}")
    return {**used, **own, "profile": profile}


def normalise(notebook: NotebookNode) -> NotebookNode:
    """A copy without what differs between two executions: times, random ids, addresses, versions, paths.

    Normalising twice is the same as once.
    """
    node = copy.deepcopy(notebook)
    node.nbformat_minor = 5  # the first with cell ids
    for key in ("papermill", "widgets"):
        node.metadata.pop(key, None)
    node.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    node.metadata.get("language_info", {}).pop("version", None)
    styler_ids: dict[str, str] = {}
    for index, cell in enumerate(node.cells):
        cell.id = f"cell-{index:03d}"
        for key in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = _outputs(cell.outputs, styler_ids)
    return node


def _outputs(outputs: list[NotebookNode], styler_ids: dict[str, str]) -> list[NotebookNode]:
    """Outputs with stable text; the pieces of one stream between two displays are joined, stdout first.

    The kernel flushes a stream by the clock, so that where it is cut, and its order with the other stream,
    is chance.
    """
    kept: list[NotebookNode] = []
    run: dict[str, NotebookNode] = {}

    def flush():
        for name in sorted(run, reverse=True):  # stdout, stderr
            text = run[name].text
            if name == "stderr":
                text = "".join(part for part in re.split(r"(?<=[\r\n])", text) if not TQDM.search(part))
            run[name].text = _stable(text)
            if text.strip() or name == "stdout":
                kept.append(run[name])
        run.clear()

    for output in outputs:
        if output.output_type == "stream":
            if output.name in run:
                run[output.name].text += output.text
            else:
                run[output.name] = output
            continue
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue  # the state that it would show is dropped
        flush()
        for kind, value in output.get("data", {}).items():
            if isinstance(value, str) and kind.startswith("text/"):
                output.data[kind] = _stable(value)
        if "text/html" in output.get("data", {}):
            output.data["text/html"] = _stable_styler(output.data["text/html"], styler_ids)
        kept.append(output)
    flush()
    return kept


def _stable(text: str) -> str:
    text = CELL_FILE.sub("<cell>", ADDRESS.sub("", text))
    return text.replace(f"{ROOT}{os.sep}", "")


def _stable_styler(html: str, styler_ids: dict[str, str]) -> str:
    """A styled pandas table has a random id in its style sheet: number the tables of a notebook instead."""
    for found in STYLER_ID.findall(html):
        styler_ids.setdefault(found, f"T_{len(styler_ids):05x}")
    return re.sub(r"T_[0-9a-f]{5}", lambda match: styler_ids.get(match[0], match[0]), html)


def _kind(name: str, said: str) -> type[UserError]:
    """The error of a cell that failed: the machine's where memory, room or rights ran out, as `lacking` tells."""
    lacks = name in ("MachineError", "MemoryError", "OutOfMemoryError") or says_out_of_memory(said)
    return MachineError if lacks or any(os.strerror(number) in said for number in CURES) else UserError


def homes(folder: Path = BUILD / "home") -> dict[str, str]:
    """Where Jupyter, IPython, Matplotlib and the hub keep files: in `folder` where the home cannot be written.

    The start-up files of a user's own IPython never reach a notebook.
    """
    (folder / "ipython").mkdir(parents=True, exist_ok=True)  # IPython warns where it would have to make its parent
    found = {"IPYTHONDIR": str(folder / "ipython")}
    if not _writable(Path.home()):
        others = {"JUPYTER_RUNTIME_DIR": "jupyter", "MPLCONFIGDIR": "matplotlib", "HF_HOME": "huggingface"}
        found |= {name: str(folder / place) for name, place in others.items() if name not in os.environ}
    return found


def _writable(home: Path) -> bool:
    """Whether a file can be made there: rights alone do not say, as on a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=home):
            return True
    except OSError:
        return False


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the child processes started inside, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
