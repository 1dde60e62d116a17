"""Where things lie, whatever the working directory: notebooks run from their own folder too."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMS = NOTEBOOKS / "params"
RESULTS = ROOT / "results"
CHECKPOINTS = RESULTS / "checkpoints"
BUILD = ROOT / "build"


def write_whole(path: Path, text: str) -> None:
    """`text` into a file, whole or not at all."""
    staging = path.with_suffix(f".{os.getpid()}.tmp")
    staging.write_text(text, encoding="utf-8")
    os.replace(staging, path)


def result_files(name: str, results: Path = RESULTS, profile: str = "*") -> list[Path]:
    """`<results>/<profile>/<notebook>/<name>` of every result; a hidden folder is what a killed publishing left."""
    return sorted(path for path in results.glob(f"{profile}/*/{name}") if not path.parent.name.startswith("."))
