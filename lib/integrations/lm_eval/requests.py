"""What a request of lm-eval asks, as a method's options: each generation argument is honoured or refused."""

from dataclasses import dataclass, fields
from math import isfinite, nan

from lib.decoders import decoder_of, options_of
from lib.decoding.generate import IDLE, NEUTRAL
from lib.decoding.options import Options
from lib.errors import UserError

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # one thing, named by backends
BUDGETS = ("steps", "forwards")  # of a diffusion model, as many as the canvas has tokens unless they are given
# Methods that decide the temperature themselves; greedy decoding would leave nothing of them.
OWN_TEMPERATURE = ("autodeco", "entropy")
NO_FILTER = {"top_p": (None, 1), "top_k": (None, 0, -1)}


@dataclass(frozen=True)
class Asked:
    """The options by which a request is decoded, and the strings at which its answer is cut."""

    options: Options
    until: tuple[str, ...]


def asked(request: dict, method: str, given: dict, length: int = 256) -> Asked:
    """What a request's generation arguments ask of a method, whose options `given` come before them.

    `length`: tokens where neither says so. Raises UserError, naming the cure, for an argument that cannot be had.
    """
    rest, decoder = dict(request), decoder_of(method)
    names = {field.name: field.default for field in fields(decoder.options)}
    until, wanted = _until(rest.pop("until", None)), _length(rest)
    drawing = _drawing(rest, names, method) if not draws(given) else _skipped(rest)
    for name, value in rest.items():
        if value is not None and value is not False and name not in IDLE and value != NEUTRAL.get(name):
            cure = f"pass --gen_kwargs {name}={NEUTRAL[name]}" if name in NEUTRAL else "take it out of the task"
            raise UserError(f"{name}={value!r:.40} of the request is not done by {method}: {cure}")
    key = "canvas" if "canvas" in names else "max_new_tokens"
    values = {key: length if wanted is None else wanted} | drawing | given
    if key == "canvas":
        values |= {name: values[key] for name in BUDGETS if name in names and name not in given}
    return Asked(options_of(method, values), until)


def certain(method: str, options: Options) -> bool:
    """Whether nothing is drawn, so that a prompt has one answer; a canvas may draw places at temperature 0 too."""
    names = [field.name for field in fields(options)]
    hot = any(getattr(options, name) for name in names if name.endswith("temperature"))
    return not hot and "canvas" not in names and method not in OWN_TEMPERATURE


def draws(options: dict) -> bool:
    """Whether options say how tokens are drawn."""
    return any(name.endswith("temperature") or name in NO_FILTER for name in options)


def _until(value) -> tuple[str, ...]:
    value = [value] if isinstance(value, str) else value or []
    if not all(isinstance(text, str) for text in value):
        raise UserError(f"until must be strings, not {value!r:.60}: mend the task's generation_kwargs")
    return tuple(text for text in value if text)


def _length(rest: dict) -> int | None:
    """New tokens that are asked for; it takes their names out of the request."""
    if rest.get("max_length") is not None:
        raise UserError("max_length of the request counts the prompt too: pass --gen_kwargs max_gen_toks=..., and "
                        "max_length=None")  # fmt: skip
    found = {name: rest.pop(name) for name in LENGTHS if rest.get(name) is not None}
    lengths = {_number(name, value) for name, value in found.items()}
    if len(lengths) > 1:
        raise UserError(f"the request has several lengths, {found}: pass one of them, by --gen_kwargs")
    for length in lengths:
        if length < 1 or length % 1:
            raise UserError(f"the length of a request must be a whole number, 1 or more, not {found}")
    return int(lengths.pop()) if found else None


def _number(name: str, value) -> float:
    """A number of a request. Raises UserError for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = nan
    if not isfinite(number):
        raise UserError(f"{name} of the request must be a number, not {value!r:.60}: pass --gen_kwargs {name}=...")
    return number


def _skipped(rest: dict) -> dict:
    for name in ("do_sample", "temperature", *NO_FILTER):
        rest.pop(name, None)
    return {}


def _drawing(rest: dict, names: dict, method: str) -> dict:
    """The options of temperature and filters that a request asks for; it takes theirs out of the request."""
    sample, temperature = rest.pop("do_sample", None), rest.pop("temperature", None)
    filters = {name: rest.pop(name, None) for name in NO_FILTER}
    if sample not in (None, True, False):
        raise UserError(f"do_sample must be True or False, not {sample!r}")
    if sample and temperature == 0:
        raise UserError("do_sample=True at temperature 0 contradict each other: pass one of them by --gen_kwargs")
    if sample is False or temperature == 0:
        if method in OWN_TEMPERATURE:
            own = "temperature=1.0 in --model_args"
            if "temperature" not in names:
                own = "--gen_kwargs do_sample=True,temperature=1"
            raise UserError(
                f"the request asks for greedy decoding, which leaves nothing of {method}: say {own} for its own "
                "temperatures, or take method=autoregressive"
            )
        return {name: 0.0 for name in names if name.endswith("temperature")}
    found = {}
    if "temperature" in names:
        if temperature is not None:
            found["temperature"] = _number("temperature", temperature)
        elif sample:
            found["temperature"] = names["temperature"] or 1.0
    elif temperature not in (None, 1) or sample and method not in OWN_TEMPERATURE:
        cure = "temperature=1" if method in OWN_TEMPERATURE else "do_sample=False,temperature=None"
        raise UserError(f"{method} has no temperature to set: pass --gen_kwargs {cure}")
    for name, value in filters.items():
        if name in names and value is not None:
            number = _number(name, value)
            found[name] = max(0, int(number) if number % 1 == 0 else number) if name == "top_k" else number
        elif value not in NO_FILTER[name]:
            raise UserError(f"{name}={value!r} of the request is not done by {method}: pass --gen_kwargs {name}=None")
    return found
