"""A run: one method on one task by one model, as data."""

from dataclasses import dataclass, fields

from lib.decoders import decoder_of, options_of
from lib.engines.vllm import engine_of
from lib.errors import UserError
from lib.models.registry import FAMILIES, entry_of
from lib.tasks import get_task


@dataclass(frozen=True)
class Run:
    """What is run. `options` is a tuple of (name, value) pairs of the method; `samples` responses an item.

    `command`: a sentence that is put behind every prompt. `draft`: the small model of a method that drafts.
    `engine`: what decodes in the place of this library, with draws of its own; "" where nothing does.
    """

    model: str
    task: str
    method: str
    options: tuple[tuple[str, object], ...]
    items: int
    samples: int = 1
    seed: int = 0
    split: str = "test"
    command: str = ""
    draft: str = ""
    engine: str = ""

    @classmethod
    def of(cls, model: str, task: str, method: str, items: int, samples: int = 1, **given) -> "Run":
        """A run with its options checked; the length limit is the task's where none is given, the engine ENGINE's.

        `given`: the other fields of a run, and the method's options.
        """
        own = {name: given.pop(name) for name in ("seed", "split", "command", "draft", "engine") if name in given}
        options = given
        names = [field.name for field in fields(decoder_of(method).options)]
        key = "canvas" if "canvas" in names else "max_new_tokens"
        options.setdefault(key, get_task(task).max_new_tokens)
        wanted = method == "autodeco" or bool(options.get("heads"))
        if wanted != (entry_of(model).tier == "heads"):
            asks = method if method == "autodeco" else f"{method} with heads=True"
            has = f"no heads, which {asks} needs" if wanted else "heads, which autodeco and heads=True alone use"
            raise UserError(f"{model} has {has}: the method {method} cannot run on it")
        if key == "canvas" and FAMILIES[entry_of(model).family].mask_id is None:
            raise UserError(f"{model} has no [MASK] token: {method} needs a diffusion model, such as study-dlm")
        resolved = _resolved(method, options)
        own.setdefault("engine", engine_of(model, method, dict(resolved)))
        return cls(model, task, method, resolved, items, samples, **own)

    def resolved(self):
        return options_of(self.method, dict(self.options))


def _resolved(method: str, options: dict) -> tuple[tuple[str, object], ...]:
    """All options of a method, those that are not given at their defaults."""
    resolved = options_of(method, options).to_dict()
    resolved.pop("method")
    return tuple(sorted(resolved.items()))


def run_of(stored: dict) -> Run:
    """A run from what `identity.setting` stored of it."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["options"].items()}
    return Run(**{**stored, "options": _resolved(stored["method"], options)})
