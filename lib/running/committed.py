"""Results as they are kept: which files, which responses, and which of them today's code would give."""

import gzip
import json
from hashlib import sha256
from pathlib import Path

from lib.running.identity import changes, identity
from lib.running.one_batch import scored_again
from lib.running.run import Run, run_of


def committed(folder: Path, device: str = "cpu") -> dict[Run, list[dict]]:
    """Responses in a result's folder that today's code would give, by run; seconds are each run's mean.

    Where a scorer changed, the texts are scored again. None of a folder whose files were changed.
    """
    if not (folder / "manifest.json").exists():
        return {}
    manifest = json.loads((folder / "manifest.json").read_text())
    if file_hashes(folder) != manifest["files"]:
        return {}
    rows, found = stored_lines(folder), {}
    for name, entry in manifest["runs"].items():
        run = run_of(entry["run"])
        now = identity(run, device)
        if changes(entry, now):
            continue
        lines = rows[name] if entry["scores"] == now["scores"] else scored_again(run, rows[name])
        found[run] = [line | manifest["measured"][name] for line in lines]
    return found


def stored_lines(folder: Path) -> dict[str, list[dict]]:
    """The lines of a result by the name of their run."""
    rows: dict[str, list[dict]] = {}
    with gzip.open(folder / "items.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            rows.setdefault(row.pop("run"), []).append(row)
    return rows


def file_hashes(folder: Path) -> dict[str, str]:
    """Hashes of a result's files, but for the manifest that holds them and the pages rendered around it."""
    return {
        path.name: sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(folder.iterdir())
        if path.name != "manifest.json" and path.suffix not in (".ipynb", ".html") and not _passing(path)
    }


def _passing(path: Path) -> bool:
    """No part of a result: what an editor or a desktop left there, and a manifest half-written when a kill came."""
    return path.name.startswith(".") or path.suffix == ".tmp" or not path.is_file()
