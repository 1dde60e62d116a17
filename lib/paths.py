"""Where things lie, whatever the working directory: notebooks run from their own folder too."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMS = NOTEBOOKS / "params"
RESULTS = ROOT / "results"
CHECKPOINTS = RESULTS / "checkpoints"
BUILD = ROOT / "build"


def result_files(name: str, results: Path = RESULTS, profile: str = "*") -> list[Path]:
    """`<results>/<profile>/<notebook>/<name>` of every result; a hidden folder is what a killed publishing left."""
    return sorted(path for path in results.glob(f"{profile}/*/{name}") if not path.parent.name.startswith("."))
