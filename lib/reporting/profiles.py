"""A profile: which notebooks are executed with which parameters. It is a file or a folder of notebooks/params.

A file `<profile>.yaml` is a mapping of notebook (or `common`) to {parameter: value}: a notebook has one section, of
its own name. In a folder every file is a <name>.yaml, a section or several of any notebook, named by the file:

    notebook: 10_autodeco_scores      # whose parameters the rest are
    items: 100
    each:                             # where it is there, a section each, named <file>-<key>
      r1-qwen-7b: {model: r1-qwen-7b}

`common.yaml` of a folder is a mapping of parameters for all of its sections that have them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, RootModel

from lib.errors import UserError
from lib.paths import PARAMS
from lib.running.schema import checked

COMMON = "common"
CURE = "correct it"
LARGEST = 10**9  # of a number: more is a slip of the keyboard, and nothing here would end


def _value(value: Any) -> Any:
    """A word, a number, true or false, or a list of these."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, bool | int | float | str):
            raise ValueError("must be a word, a number, true or false, or a list of these")
        if not isinstance(one, str) and not -LARGEST <= one <= LARGEST:  # NaN too
            raise ValueError(f"must be a number up to {LARGEST:,}")
    return value


Values = dict[str, Annotated[Any, AfterValidator(_value)]]


class Profile(RootModel):
    """Sections by name."""

    root: dict[str, Values | None]


class Parameters(RootModel):
    """Parameters of one section, or of all."""

    root: Values


@dataclass(frozen=True)
class Section:
    """A notebook with parameters, `values`, as its file has them."""

    name: str
    notebook: str
    path: Path
    values: dict


@dataclass(frozen=True)
class Read:
    """A profile: its file or folder, the parameters `common` to its sections, and these by name."""

    path: Path
    common: dict
    sections: dict[str, Section]

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    def section(self, name: str) -> Section:
        """The section of that name. Raises UserError naming those that there are."""
        if name not in self.sections:
            raise UserError(f"{self.path.stem} has no section {name!r}; it has: {', '.join(self.sections)}")
        return self.sections[name]


class _Loader(yaml.SafeLoader):
    """As YAML is read safely, and a key that stands twice is an error, where YAML would take the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def profiles_in(folder: Path = PARAMS) -> dict[str, Path]:
    """Every profile's file or folder by its name. Raises UserError for a name that is both."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = path.name if path.is_dir() else path.stem
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".yaml"):
            continue
        if name in found:
            raise UserError(f"the profile {name!r} is a file and a folder in {folder}: remove one of them")
        found[name] = path
    return found


def read(profile: str, folder: Path = PARAMS) -> Read:
    """A profile; its sections are in the order of their names, those of a file in its own order.

    Raises UserError for an unknown profile, and for a file that is not as the head of this module says.
    """
    profiles = profiles_in(folder)
    if profile not in profiles:
        raise UserError(f"unknown profile {profile!r}; there are: {', '.join(profiles) or 'none'}")
    path = profiles[profile]
    if path.is_file():
        found = sections_of(path)
        common = found.pop(COMMON, {})
        return Read(path, common, {name: Section(name, name, path, own) for name, own in found.items()})
    common: dict = {}
    named: dict[str, Section] = {}
    for file in sorted(path.iterdir()):
        if file.name.startswith("."):
            continue
        if file.suffix != ".yaml" or not file.is_file():
            raise UserError(f"{file} is no section: call it <section>.yaml, or move it out of {path}")
        if file.stem == COMMON:
            common = _parameters(file, _mapping(file))
            continue
        for section in _sections_in(file):
            if section.name in named:
                where = named[section.name].path
                raise UserError(f"{file}: the section {section.name!r} is in {where} too: rename one of them")
            named[section.name] = section
    if not named:
        raise UserError(f"the profile {profile!r} has no sections: put a file <section>.yaml into {path}")
    return Read(path, common, named)


def sections(profile: str, folder: Path = PARAMS) -> list[Section]:
    """The sections of a profile."""
    return list(read(profile, folder).sections.values())


def _sections_in(file: Path) -> list[Section]:
    """The sections of one file of a folder."""
    values = _mapping(file)
    notebook, each = values.pop("notebook", None), values.pop("each", None)
    if not isinstance(notebook, str):
        raise UserError(f"{file} names no notebook: write `notebook: 10_autodeco_scores`, or another one")
    shared = _parameters(file, values)
    if each is None:
        return [Section(file.stem, notebook, file, shared)]
    if not isinstance(each, dict) or not each or not all(isinstance(v, dict | None) for v in each.values()):
        raise UserError(f"{file}: `each` must be a mapping of names to {{parameter: value}}: {CURE}")
    return [
        Section(f"{file.stem}-{name}", notebook, file, shared | _parameters(file, own or {}))
        for name, own in checked(Profile, each, str(file), CURE).items()
    ]


def _parameters(file: Path, values: dict) -> dict:
    return checked(Parameters, values, str(file), CURE)


def sections_of(path: Path) -> dict[str, dict]:
    """The sections of a profile's file. Raises UserError for what is no UTF-8, no YAML, or of another shape."""
    found = _yaml(path)
    if not isinstance(found, dict) or not all(isinstance(v, dict | None) for v in found.values()):
        raise UserError(f"{path} must be a mapping of notebook (or common) to {{parameter: value}}")
    checked(Profile, found, str(path), CURE)
    return {name: section or {} for name, section in found.items()}


def _mapping(path: Path) -> dict:
    """A file that is one mapping."""
    found = _yaml(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} must be a mapping of `notebook` and parameters to their values: {CURE}")
    return found


def _yaml(path: Path) -> Any:
    """What a file holds. Raises UserError for what is no UTF-8 and no YAML."""
    try:
        return yaml.load(path.read_bytes().decode("utf-8-sig"), _Loader) or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {CURE}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}: {CURE}") from error
