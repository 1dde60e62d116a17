"""Whether the committed results are those that the committed code would make."""

import json
from pathlib import Path

from lib.errors import UserError
from lib.evaluation import Run
from lib.identity import code_hash, identity, run_id
from lib.paths import NOTEBOOKS, RESULTS
from lib.render import parameters
from lib.report import file_hashes
from lib.studies import study_of
from lib.studies.base import committed


def stale(results: Path = RESULTS, notebooks: Path = NOTEBOOKS) -> list[str]:
    """A line for every result that is not current: which, and what changed."""
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
        if manifest["sources"] != code_hash(study.sources()):
            reasons.append(f"{where}: the notebook, or the code of its tables and figures, changed")
        now = study.of(values)
        runs = list(dict.fromkeys(now.runs().values()))
        have = committed(now, results)
        if all(run_id(run, now.device) in have for run in runs):  # the later ones follow from their responses
            found = {key: have[run_id(run, now.device)] for key, run in now.runs().items()}
            runs += now.later_runs(found).values()
        reasons += [f"{where}: {reason}" for reason in _changed(manifest["runs"], runs, now.device)]
    return reasons


def _changed(have: dict[str, dict], wanted: list[Run], device: str) -> list[str]:
    """What differs between the recorded identities of the runs and those of today's runs."""
    recorded = {json.dumps(entry["run"], sort_keys=True): entry for entry in have.values()}
    differs: dict[str, int] = {}
    for run in wanted:
        today = json.loads(json.dumps(identity(run, device)))
        then = recorded.get(json.dumps(today["run"], sort_keys=True))
        if then is None:
            differs["runs are missing"] = differs.get("runs are missing", 0) + 1
            continue
        for key in ("weights", "draft", "family", "rows", "code", "dtype"):
            # A model that the hub's cache does not hold cannot be compared.
            if then.get(key) != today.get(key) and not str(today.get(key)).endswith("@unknown"):
                differs[f"{key} changed"] = differs.get(f"{key} changed", 0) + 1
    return [f"{what} ({count} runs)" for what, count in differs.items()]
