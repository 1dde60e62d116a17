"""AutoDeco inside stock vLLM: its model classes with heads between the unembedding and the sampler.

vLLM calls `register` in each of its processes (entry point `vllm.general_plugins`). Then every causal class of vLLM
has a second name, with `AutoDeco` before it, which a config asks for:

    vllm serve BASE --generation-config vllm --hf-overrides \
      '{"architectures": ["AutoDecoLlamaForCausalLM"], "autodeco_heads": "FOLDER OR HUB ID"}'

Such a class gives logits / T-hat within the nucleus of P-hat, and -inf outside (arXiv 2510.26697, equation 4), so
that a sampler at temperature 1 and top-p 1 draws as AutoDeco does; temperature 0 stays greedy. A client's own
temperature and top-p come after the heads, on what they left. So do penalties, and log-probabilities are of that law.
"""

import importlib

import torch
from torch import Tensor

from lib.errors import UserError

PREFIX = "AutoDeco"
CAUSAL = ("ForCausalLM", "LMHeadModel")  # how vLLM's names of causal classes end
HEADS_KEY = "autodeco_heads"
RECORDER = "TokenRecorder"
_CLASSES: dict[str, type] = {}


def register() -> None:
    """Give each causal class of this vLLM its second name; classes are made when they are asked for."""
    from vllm import ModelRegistry

    for name in causal_names():
        ModelRegistry.register_model(f"{PREFIX}{name}", f"{__name__}:{PREFIX}{name}")
    try:  # what vLLM decides of a class by its name
        from vllm.model_executor.models.config import MODELS_CONFIG_MAP as by_name
    except ImportError:
        return
    by_name.update({f"{PREFIX}{name}": by_name[name] for name in causal_names() if name in by_name})


def causal_names() -> list[str]:
    """vLLM's own causal classes."""
    from vllm import ModelRegistry

    names = ModelRegistry.get_supported_archs()
    return sorted(name for name in names if name.endswith(CAUSAL) and not name.startswith(PREFIX))


def autodeco_name(architecture: str) -> str:
    """The second name of a class. Raises UserError for one that vLLM has not."""
    if architecture not in causal_names():
        raise UserError(
            f"vLLM has no causal class {architecture}: leave ENGINE unset for this model, or take a newer vLLM"
        )
    return f"{PREFIX}{architecture}"


def __getattr__(name: str) -> type:
    """`AutoDeco<class>` of this module, as vLLM's registry looks it up, and `RECORDER`."""
    if name == RECORDER:
        return recorder()
    if not name.startswith(PREFIX) or not name.endswith(CAUSAL):
        raise AttributeError(name)
    if name not in _CLASSES:
        _CLASSES[name] = with_heads(_base(name.removeprefix(PREFIX)))
    return _CLASSES[name]


def _base(architecture: str) -> type:
    from vllm import ModelRegistry

    entry = ModelRegistry.models.get(architecture)
    if entry is None:
        raise UserError(f"vLLM has no class {architecture} to put heads on: take a newer vLLM")
    return entry.load_model_cls()


def with_heads(base: type) -> type:
    """A subclass of a vLLM class whose `compute_logits` [n, V] are AutoDeco's."""

    class Decoded(base):
        autodeco = True
        factors = (1.0, 1.0)  # the user's temperature and top-p, which multiply the predicted ones

        def __init__(self, *, vllm_config, prefix: str = ""):
            super().__init__(vllm_config=vllm_config, prefix=prefix)
            config = vllm_config.model_config
            self.autodeco_heads = heads_for(config.hf_config).to(config.dtype)

        def compute_logits(self, hidden_states: Tensor, *given, **named) -> Tensor | None:
            logits = super().compute_logits(hidden_states, *given, **named)
            if logits is None:  # of a rank that does not sample
                return None
            logits, Recorder.said = decided(self.autodeco_heads, hidden_states, logits, *self.factors)
            return logits

        @property
        def compute_logits_local(self):
            """Not there: logits of a part of the vocabulary have no nucleus."""
            raise AttributeError("compute_logits_local")

        def load_weights(self, weights) -> set[str]:
            """The base's; those of the heads were read from their own folder."""
            own = {name for name, _ in self.named_parameters() if name.startswith("autodeco_heads.")}
            return set(super().load_weights(weights) or ()) | own

    Decoded.__name__ = Decoded.__qualname__ = f"{PREFIX}{base.__name__}"
    return Decoded


def heads_for(config):
    """The heads that a base's config names, for a base of that width and type. Raises UserError for others."""
    from lib.engines.heads import load_heads

    folder = getattr(config, HEADS_KEY, None)
    if not folder:
        raise UserError(f"no heads are named: give --hf-overrides a folder or hub id as {HEADS_KEY}")
    text = config.get_text_config()
    return load_heads(folder, text.hidden_size, config.model_type)


def decided(
    heads, hidden: Tensor, logits: Tensor, temperature: float = 1.0, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """AutoDeco's logits [n, V] and its settings [2, n], of hidden [n, H] and the base's logits [n, V].

    softmax of the result is the law that `lib.autodeco.decode.predicted` draws from; -inf outside of the nucleus.
    `temperature` and `top_p` multiply the predicted ones.
    """
    from lib.decoding.distributions import nucleus, tempered

    predicted, mass, probs = heads(hidden, logits)
    predicted, mass = predicted * temperature, mass * top_p
    if temperature != 1:
        probs = tempered(logits, predicted)
    return nucleus(probs, mass[:, None]).log(), torch.stack([predicted, mass])


class Recorder:
    """A logits processor of vLLM that changes nothing and keeps T-hat and P-hat of every token of a request.

    Requests are named by `extra_args={"row": ...}`. A prompt that is read in pieces, or again after vLLM took its
    memory away, asks for a token several times: what was said last for a place is what counts.
    """

    said: Tensor | None = None  # [2, n]: settings of the rows whose logits were computed last
    settings: dict[str, list] = {}  # row -> (T-hat, P-hat) by the place of the token

    def __init__(self, vllm_config, device, is_pin_memory: bool):
        self.rows: dict[int, tuple[str, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params) -> None:
        """Any are taken."""

    def is_argmax_invariant(self) -> bool:
        return False  # one that is invariant is not asked where all rows are greedy

    def update_state(self, batch_update) -> None:
        if batch_update is None:
            return
        for index in batch_update.removed:
            self.rows.pop(index, None)
        for index, params, _, output in batch_update.added:
            row = (params.extra_args or {}).get("row")
            self.rows.pop(index, None)
            if row is not None:
                self.rows[index] = (row, output)
        for here, there, direction in batch_update.moved:
            first, second = self.rows.pop(here, None), self.rows.pop(there, None)
            if first is not None:
                self.rows[there] = first
            if second is not None and direction.name == "SWAP":
                self.rows[here] = second

    def apply(self, logits: Tensor) -> Tensor:
        if Recorder.said is None or Recorder.said.shape[1] != len(logits):
            return logits
        said = Recorder.said.T.tolist()
        for index, (row, output) in self.rows.items():
            kept = Recorder.settings.setdefault(row, [])
            place = len(output)
            kept[place:] = [said[index]]
        return logits


class Worker:
    """Methods that vLLM's workers get (`worker_extension_cls`)."""

    def autodeco_factors(self, temperature: float, top_p: float) -> None:
        """What multiplies the predicted settings from now on."""
        model = self.get_model()
        model.factors = (temperature, top_p)

    def autodeco_means(self, made: dict[str, int]) -> dict[str, list[float]]:
        """Mean T-hat and P-hat over the first tokens, so many as were made, of rows that have ended.

        A row that was not seen whole is left out.
        """
        found = {}
        for row, count in made.items():
            settings = Recorder.settings.pop(row, [])[:count]
            if count and len(settings) == count:
                found[row] = torch.tensor(settings, dtype=torch.float64).mean(0).tolist()
        return found


def recorder() -> type:
    """`Recorder` as a logits processor of this vLLM."""
    if RECORDER not in _CLASSES:
        interface = importlib.import_module("vllm.v1.sample.logits_processor").LogitsProcessor
        _CLASSES[RECORDER] = type(RECORDER, (Recorder, interface), {"__module__": __name__})
    return _CLASSES[RECORDER]
