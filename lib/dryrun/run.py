"""Every section in a process of its own, by the command that a user gives; what became of each."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from tqdm import tqdm

from lib.dryrun.tree import Tree
from lib.errors import redacted
from lib.paths import write_whole
from lib.reporting.profiles import Read

OK = "ok"
LONGEST = 900  # seconds of a section
MOST = 400  # characters of a reason


def run_all(tree: Tree, profile: Read, sections: list[str], jobs: int, logs: Path) -> dict[str, str]:
    """Section -> «ok», or in one line why it has no page. What each said lies in `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    found, running = {}, []
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(sections), unit="section", desc="dry run") as bar:
        futures = {
            pool.submit(run, tree, profile, section, logs / f"{section}.log", running=running): section
            for section in sections
        }
        try:
            for future in as_completed(futures):
                section = futures[future]
                found[section] = future.result()
                if found[section] != OK:
                    bar.write(f"{section}: {found[section]}", file=sys.stderr)
                bar.set_postfix_str(f"{sum(said != OK for said in found.values())} failed")
                bar.update()
        except BaseException:  # Ctrl-C: nothing that was started goes on
            for future in futures:
                future.cancel()
            for process in list(running):
                _end(process)
            raise
    return {section: found[section] for section in sections}


def run(
    tree: Tree, profile: Read, section: str, log: Path, seconds: int = LONGEST, running: list | None = None
) -> str:
    """Reproduce one section in the copy of the study, and look at its page. `running` gets its process meanwhile."""
    running = [] if running is None else running
    name = profile.path.stem
    how = "--section" if profile.is_folder else "--notebook"
    command = [sys.executable, "-W", "ignore", "-m", "lib", "reproduce", "--profile", name, how, section]
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, cwd=tree.root, env=tree.environment(), stdout=said, stderr=said, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        running.append(process)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"took more than {seconds} s: its last words are in {log.name}"
        finally:
            running.remove(process)
            _end(process)
    if status:
        return reason(log.read_text(encoding="utf-8", errors="replace"), status)
    return faults(tree.page(name, section))


def _end(process: subprocess.Popen) -> None:
    """End a process with all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def reason(log: str, status: int) -> str:
    """The line of a command's words that says why it failed: its error, else its last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    line = (errors or lines or [f"ended with status {status} without a word"])[-1]
    return redacted(line.removeprefix("error: "))[:MOST]


def faults(page: Path) -> str:
    """«ok» for a page with its notebook executed to the end, without an error in any cell; else what is wrong."""
    notebook = page.with_suffix(".ipynb")
    if not page.is_file() or not notebook.is_file():
        return f"no page {page.name} came of it"
    node = nbformat.read(notebook, as_version=4)
    for place, cell in enumerate(node.cells):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                return f"cell {place}: {output.ename}: {output.evalue}"[:MOST]
    if not (page.parent / "manifest.json").is_file():
        return "its page has no manifest"
    return OK


def report(found: dict[str, str], path: Path, say: Callable[[str], None] = print) -> int:
    """Write `path` and say the last line; the number of sections that failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    failed = [section for section, said in found.items() if said != OK]
    for section in failed:
        say(f"{section}: {found[section]}")
    say(f"{len(found)} sections, {len(found) - len(failed)} rendered, {len(failed)} failed")
    return len(failed)
