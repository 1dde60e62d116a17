"""Whether the committed results are those that the committed code would make."""

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from lib.errors import UserError
from lib.paths import NOTEBOOKS, RESULTS, ROOT, result_files
from lib.reporting.collect import collected
from lib.reporting.profiles import read
from lib.reporting.render import parameters
from lib.running import index
from lib.running.committed import committed, file_hashes
from lib.running.identity import changes, identity, setting
from lib.running.run import Run
from lib.running.schema import checked, parsed
from lib.studies.base import BaseStudy

WAITS = "waits"  # in a line on a result that nothing damaged, but which today's code has not made or seen yet
CURE = "`git checkout` it, or reproduce that notebook"
NO_RESULTS = ("smoke", "checkpoints", "bench")  # folders of results/ that hold no notebooks that are committed


class Identity(BaseModel):
    """What a manifest keeps of a run, as far as it is compared here; lib/running/identity.py has the rest."""

    run: dict
    code: str
    scores: str


class Manifest(BaseModel):
    """What is read of a manifest."""

    parameters: dict
    runs: dict[str, Identity]
    measured: dict[str, dict]
    files: dict[str, str]
    sources: str
    versions: dict[str, str]
    device: str


def stale(study_of: Callable, results: Path = RESULTS, notebooks: Path = NOTEBOOKS) -> list[str]:
    """A line for every result that is not current: which, and what changed. `study_of(notebook)` gives its Study."""
    reasons = []
    for folder in _folders(results):
        profile, name = folder.parts[-2:]
        where = f"{profile}/{name}"
        try:
            raw = (folder / "manifest.json").read_bytes()
            manifest = checked(Manifest, parsed(raw, "manifest.json", CURE), "manifest.json", CURE)
            params = notebooks / "params"
            if (params / profile).is_dir():
                notebook, given = read(profile, params).section(name).notebook, {"section": name}
            else:
                notebook, given = name, {}
            study = study_of(notebook)
            values = parameters(notebooks / f"{notebook}.ipynb", profile, params, **given)
            found = _of_result(folder, manifest, study, values)
        except FileNotFoundError:
            found = [f"manifest.json is missing: {CURE}"]
        except UserError as error:
            found = [str(error)]
        reasons += [f"{where}: {line}" for line in found]
    return reasons


def _folders(results: Path) -> list[Path]:
    """`<results>/<profile>/<notebook>`: every folder that should hold a manifest."""
    folders = {path.parent for path in result_files("*", results) if path.is_file()}
    return sorted(folder for folder in folders if folder.parts[-2] not in NO_RESULTS)


def _of_result(folder: Path, manifest: dict, study, values: dict) -> list[str]:
    """What is not current in one result. `values`: the parameters that the profile gives it today."""
    reasons = []
    values = {k: v for k, v in values.items() if k in manifest["parameters"]}
    now = study.of(values)
    today = json.loads(json.dumps(now.parameters()))  # what the profile leaves out is at its default
    for key, value in today.items():
        then = manifest["parameters"].get(key, value)
        if key not in ("profile", "device") and then != value:
            reasons.append(f"{key} was {then!r}, the profile now says {value!r}")
    if other := _differing(manifest["files"], file_hashes(folder)):
        reasons.append(f"its files are not those that were written: {', '.join(other)}")
    if manifest.get("measures") != study.measures():
        reasons.append(f"{WAITS} to be measured anew, for what is measured in it, or what measures, changed")
    elif manifest["sources"] != study.sources():
        reasons.append(f"{WAITS} to be rendered, for the notebook or the code of its tables changed")
    packages = _locked()
    for package, version in manifest["versions"].items():
        locked = packages.get(package)
        if locked and version not in locked:
            reasons.append(
                f"{WAITS} for REPLAY=16 and to be rendered, for {package} was {version}, is {' or '.join(locked)}"
            )
    runs = list(dict.fromkeys(now.runs().values()))
    if type(now).later_runs is not BaseStudy.later_runs:  # they follow from responses, which are read for them alone
        have = _readable(folder, now.device)
        if all(run in have for run in runs):
            runs += now.later_runs({key: have[run] for key, run in now.runs().items()}).values()
    return reasons + _changed(manifest["runs"], runs, now.device)


def _readable(folder: Path, device: str) -> dict[Run, list[dict]]:
    """Stored responses; none where a changed scorer would have to run what a model wrote, and may not."""
    try:
        return committed(folder, device)
    except UserError:
        return {}


def _differing(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names whose hash is another or that one side lacks."""
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


_locked = cache(index.locked_versions)  # one reading of a long file for all results


def _changed(have: dict[str, dict], wanted: list[Run], device: str) -> list[str]:
    """What differs between the recorded identities of the runs and those of today's runs."""
    recorded = {json.dumps(entry["run"], sort_keys=True): entry for entry in have.values()}
    differs: Counter[str] = Counter()
    for run in wanted:
        then = recorded.get(json.dumps(setting(run), sort_keys=True))
        if then is None:
            differs["runs are missing"] += 1
            continue
        now = identity(run, device)
        differs.update(f"{key} changed" for key in changes(then, now))
        if then["scores"] != now["scores"]:
            differs[f"{WAITS} to be rendered, for the scorer changed: it scores the stored texts"] += 1
    cures = {"code changed": f"{WAITS} for REPLAY=16, for code changed: it certifies what decodes the same"}
    return [f"{cures.get(what, what)} ({count} runs)" for what, count in differs.items()]


def uncollected(
    results: Path = RESULTS, readme: Path = ROOT / "README.md", lock: Path = ROOT / "uv.lock"
) -> list[str]:
    """A line for every committed file, and every number of the README, that `make report` has not seen as it is."""
    try:
        then = index.read(results)
    except UserError as error:
        return [str(error)]
    if then is None:
        found = [
            f"{index.NAME}: {WAITS} for make report, which writes it: files that no manifest names are unwatched"
        ]
    else:
        found = list(_since(then, index.made(results, readme, lock)))
    try:
        wanted = collected(results, readme)
    except (UserError, ValueError, LookupError, TypeError) as error:  # a damaged file, named above or by `stale`
        return [*found, f"results: their headlines and claims cannot be collected ({error})"]
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            name = path.relative_to(results) if path.is_relative_to(results) else path.name
            found.append(f"{name}: {WAITS} for make report, for it is not what the results give")
    return found


def _since(then: dict, now: dict) -> list[str]:
    """What changed since an index was written."""
    lines = []
    for path in _differing(then["files"], now["files"]):
        what = "missing" if path not in now["files"] else "new" if path not in then["files"] else "changed"
        lines.append(f"results/{path}: {what} since the last make report")
    lines += [f"README.md: {part} changed since the last make report" for part in
              _differing(then["readme"], now["readme"])]  # fmt: skip
    for name in _differing(then["packages"], now["packages"]):
        was, is_ = (side["packages"].get(name, "none") for side in (then, now))
        lines.append(f"uv.lock: {WAITS} for make report, for {name} was {was}, is {is_}")
    return lines
