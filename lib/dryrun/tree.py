"""A copy of the study in a folder of its own, with stand-ins in place of what a user would download or train."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from lib.dryrun.cut import cut, defaults
from lib.dryrun.hub import fill, write_heads
from lib.dryrun.rows import without_rows, write_rows
from lib.errors import UserError
from lib.models.registry import MODELS
from lib.paths import CHECKPOINTS, NOTEBOOKS, ROOT
from lib.reporting.profiles import COMMON, Read

FILES = ("README.md", "LICENSES.md", "pyproject.toml", "uv.lock")
# What a user may have set that would make another run of it, or lead out of the copy.
UNSET = (
    "DECODING_COMPILE", "DECODING_STUDY_CACHE", "ENGINE", "HF_DATASETS_CACHE", "HF_ENDPOINT", "HF_TOKEN",
    "HUB_REVISION", "HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN", "JUDGE_API_KEY", "JUDGE_MODEL", "JUDGE_URL",
    "MODEL_BITS", "MODEL_PLACE", "SHARD", "SPIDER_DATABASES", "TRANSFORMERS_CACHE",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "VLLM_OPTIONS",
)  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """Where the copy lies. The user's own results, runs and hub cache are never written to."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "hub"

    @property
    def data(self) -> Path:
        return self.root / "rows"

    def page(self, profile: str, section: str) -> Path:
        return self.root / "results" / profile / section / f"{section}.html"

    def environment(self) -> dict[str, str]:
        """Of a process that runs in the copy: offline, on one core, without a GPU."""
        kept = {name: value for name, value in os.environ.items() if name not in UNSET}
        return kept | {
            "ALLOW_CODE_EXECUTION": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "DATA_DIR": str(self.data),
            "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": str(self.root / "home"),
            "HF_HUB_CACHE": str(self.cache),
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(self.root / "home" / "modules"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(self.root),
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
        }


def plant(root: Path, profile: Read, sections: list[str], quick: bool = False) -> Tree:
    """Copy the library and the notebooks into `root`, with the stand-ins and the profile of those sections, cut.

    `quick`: to one task a section. Raises UserError for a model or a benchmark that has no stand-in.
    """
    tree = Tree(root)
    if lacking := without_rows():
        raise UserError(f"{lacking[0]} has no stand-in rows: make some up in lib/dryrun/rows.py")
    shutil.copytree(ROOT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(NOTEBOOKS, root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, root / name)
    (root / "build" / "home").mkdir(parents=True)
    _checkpoints(root / "results" / "checkpoints")
    _profile(root / "notebooks" / "params", profile, sections, quick)
    write_rows(tree.data)
    fill(tree.cache)
    return tree


def _checkpoints(folder: Path) -> None:
    """Links to what is committed, and heads for the hub's models that a user would train."""
    folder.mkdir(parents=True)
    for path in sorted(CHECKPOINTS.iterdir()):
        (folder / path.name).symlink_to(path)
    for entry in MODELS.values():
        trained = entry.tier == "heads" and not entry.remote and MODELS[entry.base].remote
        if trained and not (folder / entry.source).exists():
            (folder / entry.source).mkdir()
            write_heads(folder / entry.source, MODELS[entry.base].source)
            row = {"loss": 0.5, "temperature": 1.0, "top_p": 0.5}
            curve = [{"step": step, **row, **({} if step % 100 else {"held_out": 0.5})} for step in (10, 200, 400)]
            (folder / entry.source / "curve.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in curve))
            record = {"positions": 1, "seconds": 1.0, "device": "cpu"}
            (folder / entry.source / "measured.json").write_text(json.dumps(record))


def _profile(params: Path, profile: Read, sections: list[str], quick: bool) -> None:
    """The profile in the copy: the same form, the same names, small sizes, on the CPU."""
    name = profile.path.stem
    whole = {}
    for turn, section in enumerate(sections):
        found = profile.sections[section]
        known = defaults(NOTEBOOKS / f"{found.notebook}.ipynb")
        values = known | {key: value for key, value in profile.common.items() if key in known} | found.values
        whole[section] = {"notebook": found.notebook, **cut(values, turn if quick else None)}
    common = {"device": "cpu"}
    if not profile.is_folder:
        text = {
            COMMON: common,
            **{key: {k: v for k, v in own.items() if k != "notebook"} for key, own in whole.items()},
        }
        _write(params / f"{name}.yaml", text)
        return
    shutil.rmtree(params / name)
    (params / name).mkdir()
    _write(params / name / f"{COMMON}.yaml", common)
    for section, values in whole.items():
        _write(params / name / f"{section}.yaml", values)


def _write(path: Path, value: dict) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
