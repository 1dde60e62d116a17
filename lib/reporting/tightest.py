"""Which of several results of one notebook a reader is shown: that of the tightest profile."""

from collections.abc import Iterator
from pathlib import Path

from lib.paths import result_files

TIGHTEST_FIRST = ("paper", "gpu", "night", "laptop")  # smoke decides nothing


def tightest_first(results: Path, name: str) -> Iterator[Path]:
    """The files of that name in all results, those of the tightest profile first."""
    for profile in TIGHTEST_FIRST:
        yield from result_files(name, results, profile)


def tightest_pages(results: Path) -> list[Path]:
    """The manifest of every notebook's tightest result, in the order of notebooks."""
    found: dict[str, Path] = {}
    for path in tightest_first(results, "manifest.json"):
        found.setdefault(path.parent.name, path)
    return [found[stem] for stem in sorted(found)]
