"""The command line: `python -m lib reproduce|report|check`; the Makefile calls it."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from lib.errors import UserError

NOTEBOOKS = Path("notebooks")
RENDERED = Path("build/render")


def reproduce(profile: str, which: str) -> None:
    """Compute what the notebooks need, with progress here; then render each and move it into results/."""
    from lib.render import parameters_for, render
    from lib.report import RESULTS, write_headlines
    from lib.studies import STUDIES, study_of

    names = list(STUDIES) if which in ("", "all") else [which]
    studies = []
    for name in names:
        study = study_of(name)
        out = RENDERED / profile / name
        parameters = parameters_for(NOTEBOOKS / f"{name}.ipynb", profile)
        studies.append((name, out, study.of({**parameters, "out": str(out), "reuse": False})))
    for name, out, study in studies:
        started = time.perf_counter()
        print(f"{name} at profile {profile}", file=sys.stderr)
        study.lines  # noqa: B018  decodes what is missing, under a progress bar
        shutil.rmtree(out, ignore_errors=True)
        path = render(NOTEBOOKS / f"{name}.ipynb", profile, overrides={"out": str(out), "reuse": False})
        for file in out.iterdir():
            if file.suffix not in (".ipynb", ".html"):
                os.replace(file, RESULTS / profile / name / file.name)
        print(f"{path} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    write_headlines()


def report() -> None:
    """Write results/headline.json anew from the results, and print it."""
    from lib.report import write_headlines

    for name, entry in sorted(write_headlines().items()):
        low, high = entry["low"], entry["high"]
        print(f"{name:28s} {entry['value']:8.2f} [{low}, {high}] {entry['unit']}, n = {entry['n']}, {entry['profile']}")


def check() -> None:
    """Say which committed results are no longer current and why; exit 1 if any."""
    from lib.check import stale

    reasons = stale()
    for reason in reasons:
        print(reason)
    if reasons:
        raise UserError(f"{len(reasons)} results are not current: rerun the profiles named above")
    print("every committed result is current")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("reproduce", help="run and render notebooks at a profile")
    command.add_argument("--profile", default="laptop")
    command.add_argument("--notebook", default="", help="a notebook's name, or all")
    commands.add_parser("report", help="collect results/headline.json")
    commands.add_parser("check", help="are the committed results current?")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "reproduce":
            reproduce(asked.profile, asked.notebook)
        else:
            {"report": report, "check": check}[asked.command]()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
