"""The command line: `python -m lib reproduce|render|report|check|bench`; the Makefile calls it."""

import argparse
import os
import re
import shutil
import sys
import time
from pathlib import Path

from lib.errors import UserError, exit_status
from lib.paths import BUILD, NOTEBOOKS, RESULTS, ROOT, result_files


def reproduce(profile: str, which: str, reuse: bool = False) -> None:
    """Decode what the notebooks need, with progress here; then render each and move it into results/.

    `reuse`: responses in results/ that are current are taken from there. SHARD=i/n decodes one of n parts and
    renders nothing: copy the parts' build/runs together, then run without it (or with it once more, where settings
    follow from other responses).
    """
    from lib.models.registry import entry_of
    from lib.reporting.collect import write_all
    from lib.reporting.render import parameters, render
    from lib.running.lock import locked
    from lib.studies import study_of

    shard = _part(os.environ.get("SHARD"))
    todo = []
    for name in _chosen(which, RESULTS / profile if reuse else None):
        study, out = study_of(name), BUILD / "results" / profile / name
        values = parameters(NOTEBOOKS / f"{name}.ipynb", profile)
        overrides = {"out": str(out.relative_to(ROOT)), "reuse": reuse}
        study = study.of({**values, **overrides})
        study.require_device()
        for run in study.runs().values():  # this finds unknown tasks and options
            entry_of(run.model)
        todo.append((name, study, out, overrides))
    for name, study, out, overrides in todo:  # every mistake in names or values was found above
        started = time.perf_counter()
        print(f"{name} at profile {profile}", file=sys.stderr)
        if shard:
            study.decode_part(shard)
            continue
        study.lines  # noqa: B018  decodes what is missing, under a progress bar
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out, f"the rendering of {name} at {profile}"):
            shutil.rmtree(out, ignore_errors=True)
            path = render(NOTEBOOKS / f"{name}.ipynb", profile, overrides=overrides, out=out)
        print(f"{path.relative_to(ROOT)} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if not shard:
        write_all()


def _chosen(which: str, rendered: Path | None) -> list[str]:
    """The notebooks that NB names; where it names none those of the headlines, or those in the folder `rendered`."""
    from lib.studies import HEADLINE_NOTEBOOKS, STUDIES

    if which:
        return list(STUDIES) if which == "all" else [which]
    return [name for name in STUDIES if (rendered / name).exists()] if rendered else list(HEADLINE_NOTEBOOKS)


def _part(text: str | None) -> tuple[int, int] | None:
    """`0/4` as (0, 4); None where it is not set."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(f"SHARD must be like 0/4, the first of four parts, not {text!r}")
    return int(found[1]), int(found[2])


def report() -> None:
    """Write results/headline.json, the claims and the README's tables anew from the results; print the headlines."""
    from lib.reporting.collect import write_all

    entries = write_all()
    for name, entry in sorted(entries.items()):
        low, high = entry["low"], entry["high"]
        if entry["value"] is None:
            print(f"{name:28s} not measured")
            continue
        print(
            f"{name:28s} {entry['value']:8.2f} [{low}, {high}] {entry['unit']}, n = {entry['n']}, {entry['profile']}"
        )


def check(replays: int = 0, seed: int = 0, waiting: bool = False) -> None:
    """Say which committed results are no longer current and why; exit 1 if any.

    `replays`: decode so many stored responses of every run again; see lib/running/replay.py. `waiting`: results that
    wait for a replay or a rendering are named, and are no error.
    """
    from lib.reporting.check import WAITS, stale, uncollected
    from lib.studies import study_of

    differ = _replayed(replays, seed) if replays else []
    found = stale(study_of) + uncollected()
    reasons = differ + found
    for reason in reasons:
        print(reason)
    # Lines on a replay hold what a model wrote: none of them waits.
    wait = [reason for reason in found if f": {WAITS} " in reason] if waiting else []
    if len(reasons) > len(wait):
        raise UserError(f"{len(reasons) - len(wait)} results are not current: rerun the profiles named above")
    print(f"{len(wait)} results wait, nothing is damaged" if wait else "every committed result is current")


def _replayed(count: int, seed: int) -> list[str]:
    """A line for every run that decodes otherwise today."""
    from lib.running.replay import replay

    reasons, responses, ties = [], 0, 0
    folders = [path.parent for path in result_files("manifest.json", RESULTS) if path.parts[-3] != "smoke"]
    for folder, found in replay(folders, count, seed):
        responses, ties = responses + found.responses, ties + found.ties
        if found.differ:
            item, then, now = found.differ[0]
            where = f"{'/'.join(folder.parts[-2:])}: run {found.run}"
            reasons.append(f"{where}: {len(found.differ)} of {found.responses} differ, {item}: {then!r}, {now!r}")
    print(f"{responses} responses decoded again, {len(reasons)} runs differ, {ties} ties of two tokens")
    return reasons


def bench(rounds: int) -> None:
    """Measure the engine beside its peers and the machine's limits; write results/bench."""
    from lib.bench.page import bench as measure
    from lib.bench.page import page

    print(page(measure(rounds)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_ in (
        ("reproduce", "decode and render notebooks at a profile"),
        ("render", "render again from the responses in results/"),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument("--profile", default="laptop")
        command.add_argument("--notebook", default="", help="a notebook's name, or all")
    commands.add_parser("report", help="collect results/headline.json")
    command = commands.add_parser("check", help="are the committed results current?")
    command.add_argument("--replay", type=int, default=0, help="decode so many responses of every run again")
    command.add_argument("--seed", type=int, default=0, help="which ones")
    command.add_argument("--waiting", action="store_true", help="what waits for a replay or a rendering is no error")
    command = commands.add_parser("bench", help="how fast is the engine on this machine?")
    command.add_argument("--rounds", type=int, default=9, help="of every case")
    asked = parser.parse_args(arguments)
    if asked.command in ("reproduce", "render"):
        return exit_status(lambda: reproduce(asked.profile, asked.notebook, reuse=asked.command == "render"))
    if asked.command == "check":
        return exit_status(lambda: check(asked.replay, asked.seed, asked.waiting))
    if asked.command == "bench":
        return exit_status(lambda: bench(asked.rounds))
    return exit_status(report)


if __name__ == "__main__":
    sys.exit(main())
