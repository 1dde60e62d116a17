"""Where things lie, whatever the working directory: notebooks run from their own folder too."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMS = NOTEBOOKS / "params"
RESULTS = ROOT / "results"
CHECKPOINTS = RESULTS / "checkpoints"
BUILD = ROOT / "build"
