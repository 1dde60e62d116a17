"""Which few sections touch every paper and every kind of model: the subset for a quick dry run."""

from collections.abc import Iterator

from lib.dryrun.cut import defaults
from lib.dryrun.hub import stand_in_of
from lib.models.registry import MODELS
from lib.paths import NOTEBOOKS
from lib.reporting.profiles import Read


def touched(profile: Read, section: str) -> set[str]:
    """The paper of a section, and what its models are: class, tokenizer and, with heads, where these come from."""
    found = profile.sections[section]
    known = defaults(NOTEBOOKS / f"{found.notebook}.ipynb")
    values = known | {name: value for name, value in profile.common.items() if name in known} | found.values
    return {found.notebook.split("_")[1], *_models(values)}


def _models(values: dict) -> Iterator[str]:
    words = [word for value in values.values() for word in (value if isinstance(value, list | tuple) else [value])]
    for word in words:
        entry = MODELS.get(word) if isinstance(word, str) else None
        if entry is None:
            continue
        base = MODELS[entry.base] if entry.base else entry
        if base.remote:
            stand_in = stand_in_of(base)
            yield f"{stand_in.config['model_type']} {stand_in.vocabulary}"
        if entry.remote and entry.base:
            yield "published heads"


def cover(profile: Read) -> list[str]:
    """Sections, in the profile's order, that together touch all that the whole profile does; of those that touch as
    much, one whose notebook has no other."""
    of = {section: touched(profile, section) for section in profile.sections}
    left, chosen, notebooks = set().union(*of.values()), set(), set()
    while left:
        best = max(of, key=lambda name: (len(of[name] & left), profile.sections[name].notebook not in notebooks))
        chosen.add(best)
        notebooks.add(profile.sections[best].notebook)
        left -= of[best]
    return [section for section in of if section in chosen]
