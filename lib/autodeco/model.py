"""A causal language model of any family with AutoDeco's heads: its ordinary `generate` decodes with them."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from lib.autodeco.attach import forwards
from lib.autodeco.generate import Generates
from lib.autodeco.heads import HEADS, Heads, HeadsConfig
from lib.errors import UserError, why
from lib.models.cards import Known, write
from lib.models.fetched import local_copy
from lib.models.files import json_of, require_no_other, tensors_of
from lib.models.publish import Publishes
from lib.running.schema import parsed

WEIGHTS = "autodeco_heads.safetensors"  # the name and the keys of the authors' published files
CURE = "fetch or train the heads again"
RECORDS = ("recipe.json", "measured.json", "curve.jsonl")  # of the training: its arguments, what it took, its loss


class AutoDecoForCausalLM(Publishes, Generates):
    """Mixin of the classes that `from_base` makes: `AutoDeco` + the base's class, with `heads` as a submodule.

    A forward gives the base's logits, and `temperature` and `top_p` of the heads beside them. `generate` samples
    under these, after penalties and the user's logits processors. `temperature` and `top_p` given to it multiply the
    predicted ones, as in the authors' server, where temperature 0 is greedy; `top_k` filters between the two. The
    base's defaults for these, and for other filters of the distribution, do not count; its penalties do. Without
    sampling (`do_sample=True`) the heads are not used.
    """

    @classmethod
    def from_base(cls, base, heads: Heads) -> "AutoDecoForCausalLM":
        """A copy of the heads on a loaded model, which is frozen, stays usable by itself and shares its weights."""
        if not isinstance(heads, Heads) or not hasattr(base, "get_output_embeddings"):
            raise UserError("from_base takes a loaded model and Heads: from_base(load(...).network, heads)")
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
        model.heads = copy.deepcopy(heads).to(reference.device, reference.dtype)  # the caller's stay as they are
        return model.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, base=None, check_base: bool = True, revision: str | None = None, **options
    ) -> "AutoDecoForCausalLM":
        """Heads from a folder or hub repository, their base from where the config says, or `base`, a loaded model.

        `revision`: branch, tag or commit of the heads' repository. Reads what `save_pretrained` writes and the
        authors' published form. Raises UserError for what the hub does not have, for a base with
        another fingerprint (`check_base=False` lets it pass, and of a quantised base the family alone is compared)
        and for a missing or unfitting file. `options` go to
        the base's `from_pretrained`. An adapter that lies beside the heads, in the form of `peft`, is merged into the
        base, which then is no longer the plain one.
        """
        if base is not None and not hasattr(base, "get_output_embeddings"):
            raise UserError(f"base must be a loaded model, such as load('study-ar').network, not {base!r:.60}")
        if base is not None and options:
            raise UserError(f"base is loaded, so that {', '.join(options)} would do nothing: leave that out")
        local = local_copy(folder, revision)
        config, weights = _read(local)
        if base is None and not config.get("base_model_name_or_path"):
            raise UserError(f"the heads in {folder} do not name their base: pass it as base=")
        if base is None:
            base = _base(config, folder, options)
        name = config.get("base_model_name_or_path", "the model that they were trained on")
        known = config.get("base_fingerprint") if check_base and not _quantised(base) else None
        for what, expected, found in (
            ("of another base", known, fingerprint(base) if known else None),
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
        model.heads.records = _records(local)
        return model

    def save_pretrained(
        self, folder: str | Path, base_revision: str | None = None, license: str | None = None, **_
    ) -> None:
        """Heads, a config that names the base, a model card, and the recipe of heads that know theirs; never the
        base's weights. `push_to_hub` sends the same. Raises UserError for a folder that holds another model, such as
        the base.

        `base_revision`: the hub's commit of the base, which only the registry's know; loaded heads do. `license`: of
        the heads, as the hub calls it, such as `mit`.
        """
        if hasattr(self, "adapter_from"):
            raise UserError(f"the heads came with an adapter, which is in the base now: copy {self.adapter_from}")
        folder = Path(folder)
        require_no_other(folder, "autodeco")
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_type": "autodeco",
            "base_model_type": self.config.model_type,
            "base_model_name_or_path": self.name_or_path,
            "base_model_revision": base_revision
            or getattr(self, "base_revision", None)
            or getattr(self.config, "_commit_hash", None),
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
        for name in RECORDS:
            record = getattr(self.heads, "records", {}).get(name)
            if isinstance(record, dict):
                (folder / name).write_text(json.dumps(record, indent=2) + "\n")
            elif record:
                (folder / name).write_text("".join(json.dumps(row) + "\n" for row in record))
            else:  # what lies there is of other heads
                (folder / name).unlink(missing_ok=True)
        write(folder, Known(licence=license))


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


def _quantised(model) -> bool:
    """Whether weights are whole numbers (MODEL_BITS), of which no fingerprint is that of the model."""
    return any(not parameter.is_floating_point() for parameter in model.parameters())


def _records(local: Path) -> dict[str, dict | list]:
    """What lies beside weights on how they were trained: an object, or of a curve its rows."""
    found = {}
    for name in RECORDS:
        path, rows = local / name, name.endswith(".jsonl")
        if path.exists():
            parts = path.read_bytes().splitlines() if rows else [path.read_bytes()]
            read = [parsed(part, str(path), CURE) for part in parts]
            if read and all(isinstance(part, dict) for part in read):  # else it is not what this library writes
                found[name] = read if rows else read[0]
    return found


def _base(config: dict, folder, options: dict):
    """The base that a config names."""
    name = config["base_model_name_or_path"]
    try:
        return AutoModelForCausalLM.from_pretrained(name, revision=config.get("base_model_revision"), **options)
    except (OSError, ValueError, TypeError) as error:
        reason = why(error)
        raise UserError(f"the base of {folder}, {name}, did not load ({reason}): load it and pass base=") from error


class _Config(BaseModel):
    """What is read of the config of heads; the authors' files have no field but `model_type` for certain."""

    model_type: Literal["autodeco"]
    base_model_type: str | None = None
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    base_fingerprint: str | None = None
    hottest: Annotated[float, Field(gt=0, le=100)] = 2.0
    detach: bool = True
    use_enhanced_features: bool = True
    enable_temperature_head: bool = True
    enable_top_p_head: bool = True


class _Adapter(BaseModel):
    """What must be in the config of an adapter."""

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1, le=65_536)]


def _read(local: Path) -> tuple[dict, dict[str, Tensor]]:
    """Config and head weights of a folder. Raises UserError for files that are damaged, an adapter's among them."""
    found = [path for path in (local / WEIGHTS, local / "model.safetensors") if path.exists()]
    if not found or not (local / "config.json").exists():
        raise UserError(f"{local} holds no heads: config.json and {WEIGHTS} are needed")
    weights, config = tensors_of(found[0], CURE), json_of(local / "config.json", _Config, CURE)
    if (local / "adapter_config.json").exists():
        json_of(local / "adapter_config.json", _Adapter, CURE)
        tensors_of(local / "adapter_model.safetensors", CURE)
    return config, {key: value for key, value in weights.items() if key.startswith(("temp_head.", "top_p_head."))}


def _heads_config(config: dict, weights: dict[str, Tensor], folder) -> HeadsConfig:
    """Shapes are read off the weights, so that a config of another family cannot mislead."""
    try:
        width, size = weights["temp_head.mlp.0.weight"].shape
        inputs = weights["top_p_head.mlp.0.weight"].shape[1]
        statistics = bool(config.get("use_enhanced_features", True))
    except (ValueError, IndexError) as error:  # not of two dimensions
        raise UserError(f"the weights in {folder} are not those of two heads: {CURE}") from error
    except KeyError as error:
        raise UserError(f"{folder} lacks the weight {error}: it is no AutoDeco checkpoint") from error
    if inputs != size + 1 + 4 * statistics:
        raise UserError(
            f"{folder}: the top-p head takes {inputs} numbers, use_enhanced_features={statistics} and a hidden size "
            f"of {size} make {size + 1 + 4 * statistics}"
        )
    heads = tuple(name for name in HEADS if config.get(f"enable_{name}_head", True))
    if not heads:
        raise UserError(
            f"{folder}/config.json turns both heads off: set enable_temperature_head or enable_top_p_head"
        )
    return HeadsConfig(size, width, config.get("hottest", 2.0), statistics, config.get("detach", True), heads)
