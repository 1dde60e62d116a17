"""A causal language model of any family with AutoDeco's heads: its ordinary `generate` decodes with them."""

import copy
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from lib.autodeco.heads import HEADS, Heads, HeadsConfig
from lib.errors import UserError
from lib.sampling import nucleus, warp

WEIGHTS = "autodeco_heads.safetensors"  # the name and the keys of the authors' published files


class AutoDecoForCausalLM:
    """Mixin of the classes that `from_base` makes: `AutoDeco` + the base's class, with `heads` as a submodule.

    Logits come back as the logarithm of the distribution that the heads choose (temperature, then nucleus), so
    whatever samples from them samples as AutoDeco does. With `with_heads=False` they are the base's own.
    `temperature` and `top_p` given to `generate` multiply the predicted ones, as in the authors' server;
    defaults of the base's generation config do not.
    """

    @classmethod
    def from_base(cls, base, heads: Heads) -> "AutoDecoForCausalLM":
        """Heads on a loaded model. The base is frozen; it stays usable by itself and shares its weights."""
        size = base.get_output_embeddings().weight.shape[1]
        if heads.config.hidden_size != size:
            raise UserError(f"these heads are for a hidden size of {heads.config.hidden_size}, the base has {size}")
        model = copy.copy(base)
        model._modules = base._modules.copy()  # a copied module shares this dict, and would get the heads too
        model.__class__ = type(f"AutoDeco{type(base).__name__}", (cls, type(base)), {})
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
            base = AutoModelForCausalLM.from_pretrained(
                config["base_model_name_or_path"], revision=config.get("base_model_revision"), **options
            )
        expected = config.get("base_fingerprint")
        if check_base and expected and expected != fingerprint(base):
            raise UserError(
                f"the heads in {folder} were trained on another base (fingerprint {expected}, this one has "
                f"{fingerprint(base)}): load {config['base_model_name_or_path']}, or pass check_base=False"
            )
        heads = Heads(_heads_config(config, weights, folder))
        heads.load_state_dict(weights)
        if (local / "adapter_config.json").exists():
            from peft import PeftModel

            base = PeftModel.from_pretrained(base, local).merge_and_unload()
            base.adapter_from = str(local)
        return cls.from_base(base, heads)

    def save_pretrained(self, folder: str | Path, base_revision: str | None = None, **_) -> None:
        """Heads and a config that names the base; never the base's weights. `push_to_hub` sends the same.

        `base_revision`: the hub's commit of the base, which a loaded model no longer knows.
        """
        if hasattr(self, "adapter_from"):
            raise UserError(f"the heads came with an adapter, which is in the base now: copy {self.adapter_from}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_type": "autodeco",
            "base_model_type": self.config.model_type,
            "base_model_name_or_path": self.name_or_path,
            "base_model_revision": base_revision,
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

    def forward(self, *args, with_heads=True, temperature_scale=1.0, top_p_scale=1.0, **kwargs):
        """The base's output; `temperature`, `top_p` [B, L] and `probs` [B, L, V] of the heads are added to it."""
        with entering_the_unembedding(self) as hidden:
            output = super().forward(*args, **kwargs)
        output.temperature, output.top_p, output.probs = self.heads(hidden[0], output.logits)
        if with_heads:
            output.logits = distribution(output, temperature_scale, top_p_scale).log()
        return output

    def generate(self, *args, generation_config=None, return_settings: bool = False, **kwargs):
        """The ordinary `generate`. `return_settings`: also T-hat and P-hat [B, new tokens] of the new tokens."""
        given = {} if generation_config is None else generation_config.to_diff_dict()
        scale = {
            f"{name}_scale": float(kwargs.pop(name, given.get(name, None)) or 1.0)
            for name in ("temperature", "top_p")
        }
        if generation_config is not None:
            generation_config = copy.deepcopy(generation_config)
            generation_config.temperature = generation_config.top_p = 1.0
            out = super().generate(*args, generation_config=generation_config, **scale, **kwargs)
        else:
            kwargs.setdefault("top_k", 0)
            out = super().generate(*args, temperature=1.0, top_p=1.0, **scale, **kwargs)
        if not return_settings:
            return out
        sequences = out if isinstance(out, Tensor) else out.sequences
        prompt = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
        return out, *self.settings(sequences, prompt.shape[1], kwargs.get("attention_mask"))

    @torch.inference_mode()
    def settings(self, sequences: Tensor, start: int, attention_mask: Tensor | None = None):
        """T-hat and P-hat [B, L - start] under which each token from `start` on was drawn."""
        mask = torch.ones_like(sequences)
        if attention_mask is not None:
            mask[:, : attention_mask.shape[1]] = attention_mask
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = self(input_ids=sequences, attention_mask=mask, position_ids=positions, with_heads=False)
        return out.temperature[:, start - 1 : -1], out.top_p[:, start - 1 : -1]


def distribution(output, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """What is drawn from [B, L, V], of an output with base logits; temperature and top_p multiply the predicted."""
    top_p = output.top_p * top_p
    if temperature == 1:  # the heads have scaled already
        return nucleus(output.probs, top_p[..., None])
    return warp(output.logits, output.temperature * temperature, top_p)


@contextmanager
def entering_the_unembedding(model):
    """A list that receives the hidden states which a forward hands to the language-model head."""
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def fingerprint(model) -> str:
    """A hash of names, shapes and 64 values of every parameter of the base, the same in any dtype above bfloat16."""
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
