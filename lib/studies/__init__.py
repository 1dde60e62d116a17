"""One module a notebook: which runs it needs, its tables, its figures, its reading."""

from importlib import import_module

from lib.errors import require_known

# Notebook -> module. The first of a paper is its headline notebook, rendered by a plain `make reproduce`.
STUDIES = {
    "00_study_models": "study_models",
    "20_tolerator_scores": "tolerator_scores",
}


def study_of(notebook: str):
    """The `Study` class behind a notebook."""
    require_known("notebook", [notebook], STUDIES)
    return import_module(f"lib.studies.{STUDIES[notebook]}").Study
