"""`python -m lib.dryrun [SECTION ...]`: does every section of the papers' profile reach its page? On stand-ins."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from lib.dryrun.cover import cover
from lib.dryrun.run import report, run_all
from lib.dryrun.tree import plant
from lib.errors import UserError, exit_status, require_known
from lib.paths import BUILD
from lib.reporting.profiles import Read, read

PROFILE = "paper"


def chosen(profile: Read, names: list[str], quick: bool) -> list[str]:
    """The sections that are named, by a section, its file or its notebook; else a covering few, or all."""
    if not names:
        return cover(profile) if quick else list(profile.sections)
    called = {name: {name, one.path.stem, one.notebook} for name, one in profile.sections.items()}
    require_known("section", names, list(dict.fromkeys(word for words in called.values() for word in sorted(words))))
    return [name for name, words in called.items() if words & set(names)]


def dry_run(names: list[str], quick: bool = False, jobs: int | None = None, keep: Path | None = None) -> None:
    """Plant a copy of the study among stand-ins, run the sections there, write build/dryrun.json.

    Raises UserError where a section failed.
    """
    profile = read(PROFILE)
    sections = chosen(profile, names, quick)
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise UserError(f"{keep} is not empty: name another folder")
        keep.mkdir(parents=True, exist_ok=True)
        failed = _run(keep.resolve(), profile, sections, quick, jobs)
    else:
        with tempfile.TemporaryDirectory(prefix="dryrun-", ignore_cleanup_errors=True) as folder:
            failed = _run(Path(folder).resolve(), profile, sections, quick, jobs)
    if failed:
        raise UserError(
            f"{failed} of {len(sections)} sections have no page: see build/dryrun.json, logs in build/dryrun"
        )


def _run(root: Path, profile: Read, sections: list[str], quick: bool, jobs: int | None) -> int:
    tree = plant(root, profile, sections, quick)
    found = run_all(tree, profile, sections, jobs or os.cpu_count() or 1, BUILD / "dryrun")
    return report(found, BUILD / "dryrun.json")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.dryrun", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="a section, its file or its notebook; all")
    parser.add_argument("--quick", action="store_true", help="the few that touch every paper and kind of model")
    parser.add_argument("--jobs", type=int, help="sections at a time, of up to 3 GB each; default: one a core")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave stand-ins, pages and figures there")
    asked = parser.parse_args(arguments)
    return exit_status(lambda: dry_run(asked.sections, asked.quick, asked.jobs, asked.keep))


if __name__ == "__main__":
    sys.exit(main())
