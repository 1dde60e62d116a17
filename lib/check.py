"""Whether the committed results are those that the committed code would make."""

import json
from pathlib import Path

from lib.evaluation import LIB, Run, code_hash, identity
from lib.paths import NOTEBOOKS, RESULTS
from lib.render import parameters
from lib.studies import STUDIES, study_of


def stale(results: Path = RESULTS, notebooks: Path = NOTEBOOKS) -> list[str]:
    """A line for every result that is not current: which, and what changed."""
    reasons = []
    for path in sorted(results.glob("*/*/manifest.json")):
        profile, name = path.parts[-3:-1]
        manifest = json.loads(path.read_text())
        where = f"{profile}/{name}"
        if name not in STUDIES:
            reasons.append(f"{where}: there is no such notebook any more")
            continue
        study = study_of(name)
        values = parameters(notebooks / f"{name}.ipynb", profile, notebooks / "params")
        values = {k: v for k, v in values.items() if k in manifest["parameters"]}
        asked = {k: list(v) if isinstance(v, tuple) else v for k, v in manifest["parameters"].items()}
        for key, value in values.items():
            if asked[key] != value:
                reasons.append(f"{where}: {key} was {asked[key]!r}, the profile now says {value!r}")
        module = LIB / "studies" / f"{STUDIES[name]}.py"
        if manifest["study"] != code_hash([module, LIB / "stats.py", LIB / "report.py"]):
            reasons.append(f"{where}: the study's code changed")
        wanted = study.of(values).runs().values()
        reasons += [f"{where}: {reason}" for reason in _changed(manifest["runs"], list(wanted))]
    return reasons


def _changed(have: dict[str, dict], wanted: list[Run]) -> list[str]:
    """What differs between the recorded identities of the runs and those of today's runs."""
    recorded = {json.dumps(entry["run"], sort_keys=True): entry for entry in have.values()}
    differs: dict[str, int] = {}
    for run in wanted:
        today = json.loads(json.dumps(identity(run)))
        then = recorded.get(json.dumps(today["run"], sort_keys=True))
        if then is None:
            differs["runs are missing"] = differs.get("runs are missing", 0) + 1
            continue
        for key in ("weights", "family", "rows", "code", "dtype"):
            if then[key] != today[key]:
                differs[f"{key} changed"] = differs.get(f"{key} changed", 0) + 1
    return [f"{what} ({count} runs)" for what, count in differs.items()]
