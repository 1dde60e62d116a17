"""results/index.json: a hash of every committed file under results/, so that one that changed, went or came is named.

A manifest has the hashes of what its notebook wrote; nothing else knows of the manifest itself, the pages, the
checkpoints and the numbers of the README. `make report` writes the index, at the end of every reproduction too.
"""

import json
import tomllib
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel

from lib.paths import RESULTS, ROOT, write_whole
from lib.running.lock import locked
from lib.running.schema import checked, parsed

NAME = "index.json"
NEVER_COMMITTED = ("smoke",)
CURE = "`git checkout results/index.json`, or `make report`"


class Index(BaseModel):
    """`files`: path under results/ to hash; `readme`: part of the README to hash; `packages`: of uv.lock."""

    files: dict[str, str]
    readme: dict[str, str]
    packages: dict[str, str]


def made(results: Path = RESULTS, readme: Path = ROOT / "README.md", lock: Path = ROOT / "uv.lock") -> dict:
    """The index of what is there now."""
    paths = [path.relative_to(results) for path in sorted(results.rglob("*")) if path.is_file()]
    files = {path.as_posix(): _hash((results / path).read_bytes()) for path in paths if _is_committed(path)}
    return {"files": files, "readme": _parts(readme.read_text(encoding="utf-8")), "packages": _packages(lock)}


def write(results: Path = RESULTS, readme: Path = ROOT / "README.md", lock: Path = ROOT / "uv.lock") -> None:
    """Take what is there now for what is right."""
    _replace(results / NAME, made(results, readme, lock))


def note(path: Path, results: Path = RESULTS) -> None:
    """Take one file for right, such as a manifest that a replay wrote into; nothing where there is no index."""
    if (results / NAME).exists() and path.is_relative_to(results):
        with locked(results / f".{NAME}", "the index of results"):
            found = read(results)
            found["files"][path.relative_to(results).as_posix()] = _hash(path.read_bytes())
            _replace(results / NAME, found)


def read(results: Path = RESULTS) -> dict | None:
    """The index as it was written; None where there is none. Raises UserError for one that is damaged."""
    path = results / NAME
    if not path.exists():
        return None
    return checked(Index, parsed(path.read_bytes(), str(path), CURE), str(path), CURE)


def _replace(path: Path, value: dict) -> None:
    write_whole(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def _is_committed(path: Path) -> bool:
    """Whether git would have it: no rehearsal, no leftover of a kill, of an editor or of this module."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.parts[0] not in NEVER_COMMITTED and path.suffix != ".tmp" and str(path) != NAME


def _parts(text: str) -> dict[str, str]:
    """What the README says of results: all between its marks."""
    found = text.partition("<!-- found -->")[2].partition("<!-- /found -->")[0]
    return {"what was found": _hash(found.encode())}


def _packages(lock: Path) -> dict[str, str]:
    return {name: ", ".join(versions) for name, versions in locked_versions(lock).items()}


def locked_versions(lock: Path = ROOT / "uv.lock") -> dict[str, list[str]]:
    """The versions that uv.lock has of a package: several where Python versions need several."""
    found: dict[str, list[str]] = {}
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        found.setdefault(package["name"], []).append(package["version"])
    return found


def _hash(raw: bytes) -> str:
    return sha256(raw).hexdigest()[:16]
