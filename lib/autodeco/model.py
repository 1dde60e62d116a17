"""A causal language model of any family with AutoDeco's heads: its ordinary `generate` decodes with them."""

import copy
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from lib.autodeco.attach import forwards
from lib.autodeco.decode import AutoDeco
from lib.autodeco.heads import HEADS, Heads, HeadsConfig
from lib.decoding.distributions import warp
from lib.errors import UserError

# Filters of `generate` besides top-k and top-p, with the value at which each does nothing.
FILTERS = {"min_p": 0.0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
WEIGHTS = "autodeco_heads.safetensors"  # the name and the keys of the authors' published files


class AutoDecoForCausalLM:
    """Mixin of the classes that `from_base` makes: `AutoDeco` + the base's class, with `heads` as a submodule.

    A forward gives the base's logits, and `temperature` and `top_p` of the heads beside them. `generate` samples
    under these, after penalties and the user's logits processors. `temperature` and `top_p` given to it multiply the
    predicted ones, as in the authors' server, where temperature 0 is greedy; `top_k` filters between the two. The
    base's defaults for these, and for other filters of the distribution, do not count; its penalties do. Without
    sampling (`do_sample=True`) the heads are not used.
    """

    @classmethod
    def from_base(cls, base, heads: Heads) -> "AutoDecoForCausalLM":
        """Heads on a loaded model. The base is frozen; it stays usable by itself and shares its weights."""
        size = base.get_output_embeddings().weight.shape[1]
        if heads.config.hidden_size != size:
            raise UserError(f"these heads are for a hidden size of {heads.config.hidden_size}, the base has {size}")
        if isinstance(base, cls):
            raise UserError("the base has heads already: give the model that they were put on")
        model = copy.copy(base)
        model._modules = base._modules.copy()  # a copied module shares this dict, and would get the heads too
        model.__dict__.pop("forward", None)  # see forwards
        name = f"AutoDeco{type(base).__name__}"
        model.__class__ = type(name, (cls, type(base)), forwards(base))
        reference = base.get_output_embeddings().weight
        model.heads = heads.to(reference.device, reference.dtype)
        return model.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, base=None, check_base: bool = True, **options
    ) -> "AutoDecoForCausalLM":
        """Heads from a folder or hub repository, their base from where the config says, or `base` if given.

        Reads what `save_pretrained` writes and the authors' published form. Raises UserError for a base with
        another fingerprint (`check_base=False` lets it pass) and for a missing or unfitting file. `options` go to
        the base's `from_pretrained`. An adapter that lies beside the heads, in the form of `peft`, is merged into the
        base, which then is no longer the plain one.
        """
        local = _folder(folder)
        config, weights = _read(local)
        if base is None and not config.get("base_model_name_or_path"):
            raise UserError(f"the heads in {folder} do not name their base: pass it as base=")
        if base is None:
            base = _base(config, folder, options)
        name = config.get("base_model_name_or_path", "the model that they were trained on")
        for what, expected, found in (
            ("of another base", config.get("base_fingerprint"), fingerprint(base)),
            ("of another family", config.get("base_model_type"), base.config.model_type),
        ):
            if check_base and expected and expected != found:
                raise UserError(
                    f"the heads in {folder} are {what} ({expected}, this one is {found}): load {name}, in float32 or "
                    "bfloat16, or pass check_base=False"
                )
        heads = Heads(_heads_config(config, weights, folder))
        try:
            heads.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"the weights in {folder} are not those of two heads: {reason}") from error
        if (local / "adapter_config.json").exists():
            from peft import PeftModel

            base = PeftModel.from_pretrained(base, local).merge_and_unload()
            base.adapter_from = str(local)
        model = cls.from_base(base, heads)
        model.base_revision = config.get("base_model_revision")
        return model

    def save_pretrained(self, folder: str | Path, base_revision: str | None = None, **_) -> None:
        """Heads and a config that names the base; never the base's weights. `push_to_hub` sends the same.

        `base_revision`: the hub's commit of the base, which a loaded base does not know; loaded heads do.
        """
        if hasattr(self, "adapter_from"):
            raise UserError(f"the heads came with an adapter, which is in the base now: copy {self.adapter_from}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_type": "autodeco",
            "base_model_type": self.config.model_type,
            "base_model_name_or_path": self.name_or_path,
            "base_model_revision": base_revision or getattr(self, "base_revision", None),
            "base_fingerprint": fingerprint(self),
            "hidden_size": self.heads.config.hidden_size,
            "heads_width": self.heads.config.width,
            "hottest": self.heads.config.hottest,
            "detach": self.heads.config.detach,
            "use_enhanced_features": self.heads.config.statistics,
            "enable_temperature_head": "temperature" in self.heads.config.heads,
            "enable_top_p_head": "top_p" in self.heads.config.heads,
        }
        weights = {key: value.detach().cpu().contiguous() for key, value in self.heads.state_dict().items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def generate(self, inputs=None, generation_config=None, logits_processor=None, return_settings=False, **kwargs):
        """The ordinary `generate`. `return_settings`: also T-hat and P-hat [rows, new tokens], NaN after the end.

        Raises UserError for a temperature or top_p out of range, and for settings of beams, which have no one row.
        """
        defaults = self.generation_config
        config = copy.deepcopy(generation_config or defaults)

        def given(name: str, neutral):
            """The user's value; a value that the base's generation config has too was not set by the user."""
            if name in kwargs:
                value = kwargs.pop(name)
            else:
                value = getattr(config, name, None)
                value = None if value == getattr(defaults, name, None) else value
            return neutral if value is None else value

        user = AutoDeco(temperature=given("temperature", 1.0), top_p=given("top_p", 1.0))
        top_k = given("top_k", 0)
        for name, neutral in FILTERS.items():
            if given(name, neutral) != neutral:
                raise UserError(f"{name} does not go with AutoDeco's heads, which filter by top-p: leave it out")
            setattr(config, name, neutral)
        if user.temperature == 0:
            kwargs["do_sample"] = False
        if not kwargs.get("do_sample", config.do_sample):
            if return_settings:
                raise UserError("there are settings only where tokens are drawn: pass do_sample=True")
            return super().generate(inputs, generation_config, logits_processor, **kwargs)
        if return_settings and (kwargs.get("num_beams") or config.num_beams or 1) > 1:
            raise UserError("return_settings needs num_beams=1: beams change rows from token to token")
        config.temperature, config.top_p, config.top_k = 1.0, 1.0, 0
        ours = _ByHeads(self, user.temperature, user.top_p, top_k)
        processors = LogitsProcessorList([*(logits_processor or ()), ours])
        out = super().generate(inputs, config, processors, **kwargs)
        if not return_settings:
            return out
        sequences = out if isinstance(out, Tensor) else out.sequences
        tokens = sequences[:, -len(ours.settings) :]
        ends = kwargs.get("eos_token_id", config.eos_token_id)
        ended = torch.isin(tokens, torch.tensor([-1] if ends is None else ends, device=tokens.device))
        after = (ended.long().cumsum(-1) - ended.long()) > 0
        temperature, top_p = torch.stack(ours.settings, -1).masked_fill(after[:, None], torch.nan).unbind(1)
        return out, temperature, top_p


class _ByHeads(LogitsProcessor):
    """Scores to the logarithm of what is drawn from, by what the heads said in the forward that made the scores."""

    def __init__(self, model, temperature: float, top_p: float, top_k: int):
        self.model, self.temperature, self.top_p, self.top_k, self.settings = model, temperature, top_p, top_k, []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        temperature, top_p = self.model.said
        self.settings.append(torch.stack([temperature, top_p], -1))
        return warp(scores, temperature * self.temperature, top_p * self.top_p, self.top_k).log()


def fingerprint(model) -> str:
    """A hash of names, shapes and 64 values of every parameter of the base, the same in float32 and bfloat16."""
    digest = hashlib.sha256()
    for name, value in sorted(model.named_parameters()):
        if name.startswith("heads."):
            continue
        flat = value.detach().flatten()
        sample = flat[:: max(1, len(flat) // 64)][:64].to("cpu", torch.bfloat16)
        digest.update(f"{name}{tuple(value.shape)}".encode() + sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _folder(folder: str | Path) -> Path:
    """A local folder, or the local copy of a hub repository."""
    local = Path(folder)
    if not local.is_dir():
        from huggingface_hub import snapshot_download

        try:
            local = Path(snapshot_download(str(folder), allow_patterns=["*.json", "*.safetensors"]))
        except Exception as error:  # the hub raises many kinds
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} is no folder, nor a hub repository that can be had: {reason}") from error
    return local


def _base(config: dict, folder, options: dict):
    """The base that a config names."""
    name = config["base_model_name_or_path"]
    try:
        return AutoModelForCausalLM.from_pretrained(name, revision=config.get("base_model_revision"), **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the base of {folder}, {name}, did not load ({reason}): load it and pass base=") from error


def _read(local: Path) -> tuple[dict, dict[str, Tensor]]:
    """Config and head weights of a folder."""
    found = [path for path in (local / WEIGHTS, local / "model.safetensors") if path.exists()]
    if not found or not (local / "config.json").exists():
        raise UserError(f"{local} holds no heads: config.json and {WEIGHTS} are needed")
    try:
        weights = load_file(found[0])
        config = json.loads((local / "config.json").read_text())
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{found[0]} is corrupt ({error}): fetch it again") from error
    return config, {key: value for key, value in weights.items() if key.startswith(("temp_head.", "top_p_head."))}


def _heads_config(config: dict, weights: dict[str, Tensor], folder) -> HeadsConfig:
    """Shapes are read off the weights, so that a config of another family cannot mislead."""
    try:
        width, size = weights["temp_head.mlp.0.weight"].shape
        inputs = weights["top_p_head.mlp.0.weight"].shape[1]
        statistics = bool(config.get("use_enhanced_features", True))
    except KeyError as error:
        raise UserError(f"{folder} lacks the weight {error}: it is no AutoDeco checkpoint") from error
    if inputs != size + 1 + 4 * statistics:
        raise UserError(
            f"{folder}: the top-p head takes {inputs} numbers, use_enhanced_features={statistics} and a hidden size "
            f"of {size} make {size + 1 + 4 * statistics}"
        )
    heads = tuple(name for name in HEADS if config.get(f"enable_{name}_head", True))
    return HeadsConfig(size, width, config.get("hottest", 2.0), statistics, config.get("detach", True), heads)
