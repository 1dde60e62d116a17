"""A profile: `notebooks/params/<profile>.yaml`, a mapping of notebook (or `common`) to {parameter: value}."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, RootModel

from lib.errors import UserError
from lib.running.schema import checked

LARGEST = 10**9  # of a number: more is a slip of the keyboard, and nothing here would end


def _value(value: Any) -> Any:
    """A word, a number, true or false, or a list of these."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, bool | int | float | str):
            raise ValueError("must be a word, a number, true or false, or a list of these")
        if not isinstance(one, str) and not -LARGEST <= one <= LARGEST:  # NaN too
            raise ValueError(f"must be a number up to {LARGEST:,}")
    return value


class Profile(RootModel):
    """Sections by name."""

    root: dict[str, dict[str, Annotated[Any, AfterValidator(_value)]] | None]


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


def sections_of(path: Path) -> dict[str, dict]:
    """The sections of a profile's file. Raises UserError for what is no UTF-8, no YAML, or of another shape."""
    cure = "correct it"
    try:
        found = yaml.load(path.read_bytes().decode("utf-8-sig"), _Loader) or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {cure}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}: {cure}") from error
    if not isinstance(found, dict) or not all(isinstance(v, dict | None) for v in found.values()):
        raise UserError(f"{path} must be a mapping of notebook (or common) to {{parameter: value}}")
    checked(Profile, found, str(path), cure)
    return {name: section or {} for name, section in found.items()}
