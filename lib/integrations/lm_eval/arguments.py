"""What `--model_args` say: a model, a method with its options, and how requests are run."""

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from lib.decoders import decoder_of
from lib.errors import UserError

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Arguments:
    """`options` holds what was given of the method's own options, by name; see `lib.integrations.lm_eval.requests`.

    pretrained: a name of the registry, a hub id or a folder. draft: the same, for a method that drafts.
    heads: AutoDeco's, a folder or a hub id, for a `pretrained` without them.
    batch_size: responses at once, `auto` for as many as memory holds, then at most max_batch_size.
    max_gen_toks: length where neither the method's options nor the request give one.
    max_length: positions of prompt and response; None for those of the model. truncation: cut longer prompts at
    their beginning, else they are refused. think_end_token: the answer begins behind the last of these.
    trace: a file to which a line of counters a response is added, see docs/lm_eval.md.
    """

    pretrained: str
    method: str
    options: dict = field(default_factory=dict)
    draft: str = ""
    heads: str = ""
    device: str = ""
    dtype: str = "auto"
    batch_size: int | str = 1
    max_batch_size: int | None = None
    seed: int = 0
    max_gen_toks: int = 256
    max_length: int | None = None
    truncation: bool = False
    think_end_token: str = ""
    trace: str = ""

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Arguments":
        """Arguments by name, own and of the method. Raises UserError for a misspelt one and for a wrong value."""
        for name in ("pretrained", "method"):
            if not given.get(name):
                raise UserError(f"--model_args lack {name}: give pretrained=study-ar,method=autoregressive or others")
        method = decoder_of(given["method"])
        own = {item.name: item.type for item in fields(cls) if item.name != "options"}
        options = {item.name: item.type for item in fields(method.options)}
        for name in given:
            if name not in own and name not in options:
                near = get_close_matches(name, [*own, *options], 1)
                hint = f": did you mean {near[0]}?" if near else ""
                raise UserError(
                    f"--model_args have no {name!r}; there are {', '.join(own)}, and of {method.name} "
                    f"{', '.join(options)}{hint}"
                )
        typed = {name: _typed(name, value, (own | options)[name]) for name, value in given.items()}
        chosen = {name: value for name, value in typed.items() if name in options}
        found = cls(**{name: value for name, value in typed.items() if name in own}, options=chosen)
        return found._checked(method.drafts)

    def _checked(self, drafts: bool) -> "Arguments":
        if drafts != bool(self.draft):
            cure = "give draft=<a smaller model>" if drafts else "leave draft out"
            raise UserError(f"the method {self.method} {'drafts' if drafts else 'takes no draft'}: {cure}")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        for name in ("batch_size", "max_batch_size", "max_gen_toks", "max_length"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1 or name == "batch_size" and not _is_size(value):
                raise UserError(f"{name} must be 1 or more{', or auto' * (name == 'batch_size')}, not {value!r}")
        if self.trace and not Path(self.trace).absolute().parent.is_dir():
            raise UserError(f"trace={self.trace}: its folder does not exist, make it first")
        return self

    @property
    def place(self) -> str:
        """The device, a GPU where there is one and none is named."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def identity(self) -> dict:
        """What decides an answer, as far as arguments say it: not where it is computed, nor how many at once."""
        idle = ("device", "batch_size", "max_batch_size", "trace")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in idle}


def _typed(name: str, value, kind):
    """A value of the command line, where all are texts or numbers, as the type of its field."""
    if name in ("dtype", "device") and isinstance(value, torch.dtype | torch.device):
        value = str(value).removeprefix("torch.")
    if name == "batch_size" and isinstance(value, str) and value.isdecimal():
        value = int(value)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        kind = getattr(kind, "__name__", kind)
        raise UserError(f"{name} must be of type {kind}, not {value!r}") from error


def _is_size(value: int | str) -> bool:
    return isinstance(value, int) or value == "auto" or value.startswith("auto:")
