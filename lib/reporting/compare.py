"""What differs between a result just made and the committed one, apart from what a clock or an energy counter said.

How that is told: a result follows from its parameters, its responses, the code of its tables and what it measures.
Where the first three are equal, a number can only differ because it was measured. Seconds and joules of responses are
measured in every result; other numbers only in a result whose manifest says what measures (`measures`). Words never
are: a verdict, a row or a sentence that differs is a change, whatever brought it about.
"""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from lib.running.committed import file_hashes
from lib.running.lines import MEASURED

DECIDE = ("parameters", "sources", "measures", "device", "responses")  # of a manifest, beside its runs
NUMBERS = ("value", "low", "high")  # of a claim or a headline
PICTURE = re.compile(r"data:image/[^\"')\s]+|\"image/(png|svg\+xml)\": *(\"[^\"]*\"|\[[^\]]*\])|<svg.*?</svg>", re.S)
NUMBER = re.compile(r"[-+\u2212]?(\d[\d.,]*(e[-+]?\d+)?|\b(nan|inf)\b)")
REUSED = re.compile(r"\breuse = (True|False)\b")  # rendered or decoded: injected, and no part of a result
ITEMS = "items.jsonl.gz"


def compare(new: dict[str, Path], old: Path) -> tuple[list[str], list[str]]:
    """What changed, and what differs only as measurements do: short words for a line, each naming its place.

    `new`: the files of the result just made, by name; `old`: the committed folder.
    """
    if "manifest.json" not in new or not (old / "manifest.json").exists():
        return ["pages" if "manifest.json" not in new else "it had no manifest"], []
    then, now = _json(old / "manifest.json"), _json(new["manifest.json"])
    have = {path.name for path in old.iterdir() if not path.name.startswith(".")}
    changed = [f"{name} {'added' if name in new else 'gone'}" for name in sorted(new.keys() ^ have)]
    if file_hashes(old) != then["files"]:
        changed.append("its files were not those that were written")
    changed += [key for key in DECIDE if then.get(key) != now.get(key)]
    changed += ["versions"] if _packages(then) != _packages(now) else []
    changed += _runs(then["runs"], now["runs"])
    both = sorted(new.keys() & have)
    if ITEMS in both:
        changed += _responses(old / ITEMS, new[ITEMS])
    measures, measured = now.get("measures") is not None, []
    for name in both:
        if name.endswith(".csv"):
            words, numbers = _table(old / name, new[name], measures)
        elif name in ("claims.json", "headline.json"):
            words, numbers = _entries(_json(old / name), _json(new[name]), measures)
        elif name.endswith((".html", ".ipynb")):
            words, numbers = ["words"] if _words(old / name) != _words(new[name]) else [], []
        else:
            continue
        changed += [f"{name} ({', '.join(words)})"] if words else []
        measured += [f"{name} ({', '.join(numbers)})"] if numbers else []
    return changed, measured or ["pictures and pages"]


def _packages(manifest: dict) -> dict:
    """Of the packages that a check compares: which Python ran them decides nothing."""
    return {name: version for name, version in manifest.get("versions", {}).items() if name != "python"}


def _runs(then: dict, now: dict) -> list[str]:
    """Runs that came or went, and what of the others' identities differs; a note on a replay decides nothing."""
    found = [f"{len(then.keys() ^ now.keys())} runs came or went"] if then.keys() != now.keys() else []
    parts: dict[str, int] = {}
    for name in then.keys() & now.keys():
        for part in (then[name].keys() | now[name].keys()) - {"replayed"}:
            parts[part] = parts.get(part, 0) + (then[name].get(part) != now[name].get(part))
    return found + [f"{part} of {count} runs" for part, count in sorted(parts.items()) if count]


def _responses(then: Path, now: Path) -> list[str]:
    """How many responses differ; their seconds and joules are not among what the file holds."""
    before, after = (Counter(map(_nameless, gzip.decompress(path.read_bytes()).splitlines())) for path in (then, now))
    differ = max((before - after).total(), (after - before).total())
    return [f"{differ} of {max(before.total(), after.total())} responses"] if differ else []


def _nameless(line: bytes) -> str:
    """A response without the name of its run, by which the file is ordered: runs that came or went are told apart."""
    return json.dumps({key: value for key, value in json.loads(line).items() if key != "run"})


def _table(then: Path, now: Path, measures: bool) -> tuple[list[str], list[str]]:
    """Columns that changed, and columns of measurements that differ."""
    before, after = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (then, now))
    if list(before.columns) != list(after.columns) or len(before) != len(after):
        return ["other rows or columns"], []
    words, numbers = [], []
    for column in before:
        if before[column].tolist() == after[column].tolist():
            continue
        free = column in MEASURED or (measures and _numeric(before[column]) and _numeric(after[column]))
        (numbers if free else words).append(column)
    return words, numbers


def _numeric(column: pd.Series) -> bool:
    return pd.to_numeric(column[column != ""], errors="coerce").notna().all()


def _entries(then, now, measures: bool) -> tuple[list[str], list[str]]:
    """Claims or headlines that changed, and those of which a measured value differs."""
    if isinstance(then, dict):
        pairs = [(name, then.get(name), now.get(name)) for name in sorted(then.keys() | now.keys())]
    else:
        pairs = [((a or b)["says"], a, b) for a, b in _pairs(then, now)]
    words, numbers = [], []
    for name, before, after in pairs:
        if before == after:
            continue
        (numbers if measures and _without(before) == _without(after) else words).append(name)
    return words, numbers


def _pairs(then: list, now: list) -> list[tuple]:
    length = max(len(then), len(now))
    return list(zip(then + [None] * (length - len(then)), now + [None] * (length - len(now)), strict=True))


def _without(entry: dict | None) -> dict | None:
    return entry and {key: value for key, value in entry.items() if key not in NUMBERS}


def _words(page: Path) -> str:
    """A page without its pictures and numbers, in which spaces only pad."""
    text = REUSED.sub("", PICTURE.sub("", page.read_text(encoding="utf-8")))
    return re.sub(r"[\s\-]+", " ", NUMBER.sub("#", text))


def _json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))
