"""The command line: `python -m lib reproduce|render|plan|report|site|check|bench`; the Makefile calls it."""

import argparse
import os
import re
import shutil
import sys
import time
from pathlib import Path

from lib.errors import MachineError, UserError, exit_status, redacted, require_known
from lib.paths import BUILD, NOTEBOOKS, RESULTS, ROOT, result_files


def reproduce(profile: str, which: str, reuse: bool = False, section: str = "") -> None:
    """Decode what the notebooks need, with progress here; then render each and move it into results/.

    `which`: a notebook, or all; `section`: of a profile that is a folder a section, or a file with several.
    `reuse`: responses in results/ that are current are taken from there. SHARD=i/n decodes one of n parts and
    renders nothing: copy the parts' build/runs together, then run without it (or with it once more, where settings
    follow from other responses). Of a folder the sections go on after one that failed: the last line names it.
    """
    from lib.models.registry import entry_of
    from lib.reporting.collect import write_all
    from lib.reporting.profiles import read
    from lib.reporting.render import parameters, render
    from lib.running.lock import locked
    from lib.studies import study_of

    shard, in_folder = _part(os.environ.get("SHARD")), read(profile).is_folder
    todo = []
    for name, notebook in chosen(profile, which, section, RESULTS / profile if reuse else None).items():
        study, out = study_of(notebook), BUILD / "results" / profile / name
        of = name if in_folder else ""
        values = parameters(NOTEBOOKS / f"{notebook}.ipynb", profile, section=of)
        overrides = {"out": str(out.relative_to(ROOT)), "reuse": reuse}
        study = study.of({**values, **overrides})
        study.require_device()
        for run in study.runs().values():  # this finds unknown tasks and options
            entry_of(run.model)
        todo.append((name, notebook, study, out, overrides, of))
    failed = []
    for name, notebook, study, out, overrides, of in todo:  # mistakes in names or values were found above
        started = time.perf_counter()
        print(f"{name} at profile {profile}", file=sys.stderr)
        try:
            if shard:
                study.decode_part(shard)
                continue
            study.lines  # noqa: B018  decodes what is missing, under a progress bar
            out.parent.mkdir(parents=True, exist_ok=True)
            with locked(out, f"the rendering of {name} at {profile}"):
                shutil.rmtree(out, ignore_errors=True)
                path = render(NOTEBOOKS / f"{notebook}.ipynb", profile, overrides=overrides, out=out, section=of)
        except MachineError:
            raise
        except UserError as error:
            if not in_folder or len(todo) == 1:
                raise
            print(redacted(f"{name}: {error}"), file=sys.stderr)
            failed.append(name)
            continue
        print(f"{path.relative_to(ROOT)} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if not shard:
        write_all()
    if failed:
        said = f"{len(failed)} of {len(todo)} sections failed, for what is said above: {', '.join(failed)}"
        raise UserError(f"{said}; the same command goes on with them")


def chosen(profile: str, which: str, section: str = "", rendered: Path | None = None) -> dict[str, str]:
    """Section -> notebook of what a command names. Of a one-file profile a section is a notebook.

    Where nothing is named: of a folder all, of a file the notebooks of the headlines; or those in `rendered`.
    """
    from lib.reporting.profiles import read
    from lib.studies import HEADLINE_NOTEBOOKS, STUDIES

    found = read(profile)
    if which not in ("", "all"):
        require_known("notebook", [which], STUDIES)
    if not found.is_folder:
        if section:
            raise UserError(f"{profile} has no sections: name a notebook by NB, or take a profile that is a folder")
        names = [name for name in STUDIES if (rendered / name).exists()] if rendered else list(HEADLINE_NOTEBOOKS)
        names = list(STUDIES) if which == "all" else [which] if which else names
        return dict(zip(names, names, strict=True))
    files = dict.fromkeys(one.path.stem for one in found.sections.values())
    require_known("section", [section] if section else [], {**files, **found.sections})
    return {
        name: one.notebook
        for name, one in found.sections.items()
        if section in ("", name, one.path.stem)
        and which in ("", "all", one.notebook)
        and (which or section or not rendered or (rendered / name).exists())
    } or _none(profile, which, section)


def _none(profile: str, which: str, section: str) -> dict:
    """UserError for names that meet in no section; nothing rendered is no error."""
    if which in ("", "all"):
        return {}
    where = f"the section {section}" if section else "a section"
    raise UserError(f"{profile} has no notebook {which} in {where}: leave NB or SECTION out")


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


def site() -> None:
    """Build site/ from the results; print how many pages, and what is wrong with them."""
    from lib.reporting.site.build import SITE, build

    pages, requests, errors = build()
    for line in errors:
        print(line)
    size = sum(path.stat().st_size for path in SITE.rglob("*.html")) / 1e6
    print(f"site/index.html, {size:.1f} MB")
    print(f"{pages} pages, {requests} requests, {len(errors)} errors")
    if requests or errors:
        raise UserError("the site is not whole: see above")


def cards() -> None:
    """Write the model card of every checkpoint in results/, as `report` does too."""
    from lib.paths import write_whole
    from lib.reporting.cards import card_texts
    from lib.reporting.collect import DESCRIPTIONS, headlines

    for path, text in card_texts(RESULTS, headlines(RESULTS), DESCRIPTIONS).items():
        write_whole(path, text)
        print(path.relative_to(ROOT))


def push(name: str, repository: str, private: bool) -> None:
    """Send a checkpoint in results/ with its card to a repository of the hub; print the commit's address."""
    from lib.reporting import cards
    from lib.reporting.collect import DESCRIPTIONS, headlines

    print(cards.push(name, repository, RESULTS, headlines(RESULTS), DESCRIPTIONS, private=private or None))


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


def plan(profile: str, which: str = "", section: str = "") -> None:
    """Print what a profile's sections would take, without running them; write results/plan.json."""
    from lib.reporting.plan import plan_of, table, write

    found = plan_of(profile, chosen(profile, which or "all", section))
    write(found)
    print(table(found))


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
        ("plan", "what a profile would take: models, rows, forwards, memory, hours; nothing is run"),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument("--profile", default="laptop")
        command.add_argument("--notebook", default="", help="a notebook's name, or all")
        command.add_argument("--section", default="", help="of a profile that is a folder: a section, or a file")
        command.add_argument("--revision", help="of models from the hub, instead of the pinned ones")
    commands.add_parser("report", help="collect results/headline.json")
    commands.add_parser("site", help="the results as pages that link to one another, into site/")
    commands.add_parser("cards", help="write the model cards in results/checkpoints, as report does too")
    command = commands.add_parser("push", help="send a checkpoint of results/ with its card to the hub")
    command.add_argument("name", help="of the folder in results/checkpoints")
    command.add_argument("repository", help="on the hub: user/name; made where there is none")
    command.add_argument("--private", action="store_true", help="of a repository that is made")
    command = commands.add_parser("check", help="are the committed results current?")
    command.add_argument("--replay", type=int, default=0, help="decode so many responses of every run again")
    command.add_argument("--seed", type=int, default=0, help="which ones")
    command.add_argument("--waiting", action="store_true", help="what waits for a replay or a rendering is no error")
    command = commands.add_parser("bench", help="how fast is the engine on this machine?")
    command.add_argument("--rounds", type=int, default=9, help="of every case")
    asked = parser.parse_args(arguments)
    if getattr(asked, "revision", None):
        os.environ["HUB_REVISION"] = asked.revision  # what loads a model reads it, in every process
    if asked.command in ("reproduce", "render"):
        reuse = asked.command == "render"
        return exit_status(lambda: reproduce(asked.profile, asked.notebook, reuse, asked.section))
    if asked.command == "plan":
        return exit_status(lambda: plan(asked.profile, asked.notebook, asked.section))
    if asked.command == "check":
        return exit_status(lambda: check(asked.replay, asked.seed, asked.waiting))
    if asked.command == "bench":
        return exit_status(lambda: bench(asked.rounds))
    if asked.command == "push":
        return exit_status(lambda: push(asked.name, asked.repository, asked.private))
    return exit_status({"cards": cards, "report": report, "site": site}[asked.command])


if __name__ == "__main__":
    sys.exit(main())
