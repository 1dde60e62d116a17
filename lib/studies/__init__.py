"""One module a notebook: which runs it needs, its tables, its figures, its reading."""

from importlib import import_module

from lib.errors import UserError

# Notebook -> module. The first of a paper is its headline notebook, rendered by a plain `make reproduce`.
STUDIES = {
    "00_study_models": "study_models",
    "20_tolerator_scores": "tolerator_scores",
}


def study_of(notebook: str):
    """The `Study` class behind a notebook."""
    if notebook not in STUDIES:
        raise UserError(f"there is no notebook {notebook!r}; known: {', '.join(STUDIES)}")
    return import_module(f"lib.studies.{STUDIES[notebook]}").Study
