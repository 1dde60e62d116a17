"""Whether the committed results are those that the committed code would make."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lib.errors import UserError
from lib.paths import NOTEBOOKS, RESULTS
from lib.reporting.render import parameters
from lib.running.committed import committed, file_hashes
from lib.running.evaluation import Run
from lib.running.identity import changes, identity, setting

WAITS = "waits"  # in a line on a result that nothing damaged, but which today's code has not made or seen yet


def stale(study_of: Callable, results: Path = RESULTS, notebooks: Path = NOTEBOOKS) -> list[str]:
    """A line for every result that is not current: which, and what changed. `study_of(notebook)` gives its Study."""
    reasons = []
    for path in sorted(results.glob("*/*/manifest.json")):
        profile, name = path.parts[-3:-1]
        if profile == "smoke":  # never committed
            continue
        manifest = json.loads(path.read_text())
        where = f"{profile}/{name}"
        try:
            study = study_of(name)
            values = parameters(notebooks / f"{name}.ipynb", profile, notebooks / "params")
        except UserError as error:
            reasons.append(f"{where}: {error}")
            continue
        values = {k: v for k, v in values.items() if k in manifest["parameters"]}
        for key, value in values.items():
            if manifest["parameters"][key] != value:
                reasons.append(f"{where}: {key} was {manifest['parameters'][key]!r}, the profile now says {value!r}")
        if manifest["files"] != file_hashes(path.parent):
            reasons.append(f"{where}: its files are not those that were written")
        if manifest.get("measures") != study.measures():
            reasons.append(
                f"{where}: {WAITS} to be measured anew, for what is measured in it, or what measures, changed"
            )
        elif manifest["sources"] != study.sources():
            reasons.append(f"{where}: {WAITS} to be rendered, for the notebook or the code of its tables changed")
        now = study.of(values)
        runs = list(dict.fromkeys(now.runs().values()))
        have = committed(path.parent, now.device)
        if all(run in have for run in runs):  # the later ones follow from their responses
            runs += now.later_runs({key: have[run] for key, run in now.runs().items()}).values()
        reasons += [f"{where}: {reason}" for reason in _changed(manifest["runs"], runs, now.device)]
    return reasons


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
