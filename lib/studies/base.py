"""What every study shares: its parameters, running or reading its runs, writing its results."""

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

from lib.errors import UserError
from lib.paths import NOTEBOOKS, PARAMS, RESULTS, ROOT
from lib.reporting.claims import Claim, as_text, records, said
from lib.reporting.profiles import read
from lib.reporting.result_folder import style, write_result
from lib.running.code import Name, files_hash, hash_of
from lib.running.committed import committed, file_hashes
from lib.running.cost import device_name
from lib.running.evaluation import RUNS, lines_of, run_all
from lib.running.identity import digest_of, items_of
from lib.running.run import Run

# The short names of the bed's tasks. `terse` asks the questions of `math` for the bare chain: a contrast.
SHORT = {
    "math": "worded_math",
    "logic": "sudoku9",
    "qa": "country_sentences",
    "code": "graded_functions_2",
    "terse": "terse_math",
}
PAPERS = ROOT / "lib" / "reporting" / "papers"
REPORTING = ("lib.studies", "lib.reporting", "lib.analysis", "lib.tasks.metrics")
# What makes the page of an executed notebook, named because no study uses it.
PAGE = tuple(("lib.reporting." + module, name) for module, name in (
    ("render", "normalise"), ("html", "prepared"), ("html", "page_of"), ("inert", "csv_table")))  # fmt: skip
# Tables of a page have their words to the end, and comparisons their rows, up to 150.
pd.set_option("display.max_colwidth", None)
pd.set_option("display.max_rows", 150)
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "a list, in [ ]"}
MOST = 1_000_000  # of whatever is counted: more is a slip of the keyboard, and would not end
MAY_BE_EMPTY = ("elsewhere",)  # lists whose every entry is one comparison more


def _require_kind(name: str, value, kind: type) -> None:
    """UserError for a value of another type, and for a number that nothing can be done with."""
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise UserError(f"{name} must be {KINDS[kind]}, not {value!r}")
    if kind in (int, float) and not abs(value) <= MOST:  # NaN too
        raise UserError(f"{name} must be a number up to {MOST:,}, not {value!r}")


def _require_list(name: str, values: tuple, default: tuple) -> None:
    """UserError for an empty list, an entry of another type than those of the default, and one that stands twice."""
    if not values and name not in MAY_BE_EMPTY:
        raise UserError(f"{name} must name one at least, such as {list(default)}, not []")
    for value in values:
        _require_kind(f"an entry of {name}", value, type(default[0]))
        if values.count(value) > 1:
            raise UserError(f"{name} must name {value!r} once, not {list(values)}")


def limit(tokens: int, option: str = "max_new_tokens") -> dict[str, int]:
    """The option of a length limit, for a method that takes it by that name; 0 leaves it to the task."""
    return {option: tokens} if tokens else {}


def _injected(cells: Sequence[str]) -> list[str]:
    """The names that papermill was given, by the cell that it puts in: one with a comment of its own."""
    found = [cell for cell in cells if cell.startswith("# Parameters\n")]
    nodes = ast.parse(found[-1]).body if found else []
    return [target.id for node in nodes if isinstance(node, ast.Assign) for target in node.targets]


def _of_profile(profile: str, notebook: str) -> dict:
    """What a profile that is a file has for a notebook; of one that is a folder nothing, for it names sections."""
    if not isinstance(profile, str):
        return {}  # `of` says what is wrong with it
    found = read(profile)
    own = found.sections.get(notebook)
    return {} if found.is_folder else found.common | (own.values if own else {})


def _listed(value):
    """A default as a cell writes it."""
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Timed:
    """What a study decodes by the clock, beside its runs: so often, `batch` responses of `tokens` at once.

    `prompt`: tokens of a prompt, 0 where it is a task's. `draft_steps`: forwards of the draft a token, at most.
    """

    model: str
    decodings: int
    batch: int
    tokens: int
    draft: str = ""
    prompt: int = 0
    draft_steps: int = 0


@dataclass(frozen=True)
class BaseStudy:
    """A study at a profile. `reuse` takes responses that are committed and current instead of running again."""

    profile: str = "laptop"
    items: int = 50
    samples: int = 3
    device: str = "cpu"
    reuse: bool = True
    out: str = "build/notebook"

    notebook = ""
    printed_in = ""  # the file of lib/reporting/papers whose cells are shown beside ours

    def __post_init__(self) -> None:
        for name in ("items", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if getattr(self, "tokens", 0) < 0:
            raise UserError(f"tokens must be 1 or more, or 0 for the task's own, not {self.tokens}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise UserError(f"device must be 'cpu' or 'cuda', not {self.device!r}")
        style()

    @property
    def in_section(self) -> bool:
        """Whether its profile is a folder, in which a notebook has any number of sections."""
        return (PARAMS / self.profile).is_dir()

    @property
    def place(self) -> Path:
        """Its committed result: of a section the folder that is called as the last part of `out`."""
        return RESULTS / self.profile / (Path(self.out).name if self.in_section else self.notebook)

    @classmethod
    def of(cls, parameters: dict) -> "BaseStudy":
        """A study from a mapping, as YAML gives it; names that it has not and values of another type are errors."""
        defaults = {f.name: f.default for f in fields(cls)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
        for name, value in values.items():
            if name not in defaults:
                raise UserError(f"{cls.notebook} has no parameter {name!r}; it has {', '.join(defaults)}")
            _require_kind(name, value, type(defaults[name]))
            if isinstance(value, tuple):
                _require_list(name, value, defaults[name])
        return cls(**values)

    @classmethod
    def of_cell(cls, names: dict) -> "BaseStudy":
        """A study from all names of a notebook, as `globals()` gives them: its parameters are taken from among them,
        the other names are left alone. Values of another type are errors, as in `of`, and so is a parameter that
        papermill was given and that the study has not.

        What neither papermill gave nor anyone changed in the cell, whose values are the fields' own, is as the
        profile has it: so `profile = "night"` alone is the committed page.
        """
        known, given = [f.name for f in fields(cls)], _injected(names.get("In", ()))
        for name in given:
            if name not in known:
                raise UserError(f"{cls.notebook} has no parameter {name!r}; it has {', '.join(known)}")
        values = {name: names[name] for name in known if name in names}
        defaults = {f.name: f.default for f in fields(cls)}
        for name, value in _of_profile(values.get("profile", cls.profile), cls.notebook).items():
            if name in known and name not in given and values.get(name) in (defaults[name], _listed(defaults[name])):
                values[name] = value
        return cls.of(values)

    def require_device(self) -> None:
        if self.device != "cpu" and not torch.cuda.is_available():
            raise UserError(f"device is {self.device!r} and this machine has no CUDA GPU: set it to 'cpu'")

    @classmethod
    def sources(cls, root: Path = ROOT) -> str:
        """A hash of what makes tables, figures and words of the responses: code, printed cells, the notebook.

        `root`: where the library lies whose code is read.
        """
        files = [PAPERS / f"{cls.printed_in}.csv"] if cls.printed_in else []
        files.append(NOTEBOOKS / f"{cls.notebook}.ipynb")
        code = hash_of([(cls.__module__, cls.__name__), *PAGE], REPORTING, root)
        return digest_of([code, files_hash(files), cls.measures()])

    @classmethod
    def measures(cls) -> str | None:
        """A hash of what else decides its numbers: what is timed or measured here, files that a training left."""
        names, files = cls.measured_by()
        return digest_of([hash_of(names), files_hash(files)]) if names or files else None

    @classmethod
    def measured_by(cls) -> tuple[list[Name], list[Path]]:
        """The definitions that are timed or that measure, and the files that are read besides responses."""
        return [], []

    def measurement(self, name: str, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of `measure`; the committed `<name>.csv` where that is current, for times are not measured twice.

        Current: `reuse` is on, and what measured, the parameters and the device are those of the file.
        """
        folder = self.place
        if self.reuse and (folder / f"{name}.csv").exists():
            manifest = json.loads((folder / "manifest.json").read_text())
            defaults = {f.name: f.default for f in fields(self)}  # a parameter that came later was at its default
            parameters = {name: defaults[name] for name in self.parameters()} | manifest["parameters"]
            then = [manifest.get("measures"), json.loads(json.dumps(parameters)), manifest["device"]]
            now = [self.measures(), json.loads(json.dumps(self.parameters())), self.decoded_on()]
            if then == now and file_hashes(folder) == manifest["files"]:
                return pd.read_csv(folder / f"{name}.csv")
        return measure().round(4)  # as it will be read

    def decoded_on(self) -> str:
        """The name of the device; without a GPU that of the committed result, which is rendered here."""
        manifest = self.place / "manifest.json"
        if self.device != "cpu" and not torch.cuda.is_available() and manifest.exists():
            return json.loads(manifest.read_text())["device"]
        return device_name(self.device)

    def parameters(self) -> dict:
        """What the manifest keeps of this study's fields."""
        return {k: v for k, v in asdict(self).items() if k not in ("out", "reuse")}

    def runs(self) -> dict[tuple, Run]:
        """Every run that is known beforehand, by its place in the tables."""
        return {}

    def timed(self) -> list[Timed]:
        """What it decodes by the clock."""
        return []

    def later_runs(self, lines: dict[tuple, list[dict]]) -> dict[tuple, Run]:
        """Runs whose options follow from the responses of `runs()`, such as a constant equal to a mean."""
        return {}

    @cached_property
    def lines(self) -> dict[tuple, list[dict]]:
        """The responses of every run; computes those that are not there."""
        first = self._decoded(self.runs())
        return first | self._decoded(self.later_runs(first))

    def decode_part(self, shard: tuple[int, int]) -> None:
        """Decode part i of n; of the later runs too, once all parts of those that they follow from are there."""
        first = self.runs()
        run_all(list(first.values()), device=self.device, shard=shard)
        lines = {key: lines_of(run, RUNS, self.device) for key, run in first.items()}
        # A task may have fewer items than are asked for.
        wanted = {key: len(items_of(run.task, run.split, run.items)) * run.samples for key, run in first.items()}
        if all(len(lines[key]) == wanted[key] for key in first):
            run_all(list(self.later_runs(lines).values()), device=self.device, shard=shard)

    @cached_property
    def all_runs(self) -> dict[tuple, Run]:
        """Every run by its key in `lines`."""
        return self.runs() | self.later_runs({key: self.lines[key] for key in self.runs()})

    def _decoded(self, runs: dict[tuple, Run]) -> dict[tuple, list[dict]]:
        have = committed(self.place, self.device) if self.reuse else {}
        found = {run: have.get(run) for run in runs.values()}
        missing = [run for run, lines in found.items() if lines is None]
        if missing:
            self.require_device()
            found.update(run_all(missing, device=self.device))
        return {key: found[run] for key, run in runs.items()}

    def claims(self) -> list[Claim]:
        """What the paper says that this study tests, and what it finds."""
        return []

    def headlines(self) -> dict[str, dict]:
        """The few numbers of results/headline.json that this study gives, by name."""
        return {}

    def ledger(self) -> pd.DataFrame:
        """The claims as a reader sees them first. Verdicts: see lib/reporting/claims.py."""
        columns = ("says", "verdict", "here", "printed", "where")
        rows = [row | {"here": as_text(row), "verdict": said(row)} for row in records(self.claims())]
        return pd.DataFrame(rows, columns=list(columns)).set_index("says").rename_axis(None)

    def write(self, tables: dict, figures: dict) -> dict:
        """Write items, tables, figures and manifest to `out`; returns a short form of the manifest."""
        manifest = write_result(
            ROOT / self.out,
            parameters=self.parameters(),
            results={self.all_runs[key]: lines for key, lines in self.lines.items()},
            tables=tables,
            figures=figures,
            headlines={} if self.in_section else self.headlines(),  # they are of the models that any machine runs
            claims=records(self.claims()),
            sources=self.sources(),
            measures=self.measures(),
            device=self.device,
            decoded_on=self.decoded_on(),
        )
        plt.close("all")
        return {key: manifest[key] for key in ("parameters", "responses", "device", "versions")}
