"""A draft cut out of its target: a few of its layers, its embeddings, and a head over the tokens that it uses."""

import json
import os
from copy import deepcopy
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from lib.errors import UserError
from lib.models.cards import Known, write
from lib.models.fetched import local_copy
from lib.models.files import Size, json_of, require_no_other, tensors_of
from lib.models.publish import Publishes


class Layers(BaseModel):
    """The config.json of a draft."""

    layers: Size


class DistilledDraft(Publishes, LlamaForCausalLM):
    """Layers of a Llama-class target, to be trained; embeddings and head are the target's own and stay as they are.

    The head is computed for `vocabulary` alone, the tokens that the target's text is mostly made of: at batch 1 a
    whole head would cost as much as eight layers. The logits of all others are -inf.
    """

    def __init__(self, config, vocabulary: Tensor):
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, len(vocabulary), bias=False)
        self.register_buffer("vocabulary", vocabulary.long(), persistent=False)

    @classmethod
    def cut(cls, target, layers: tuple[int, ...], vocabulary: Tensor) -> "DistilledDraft":
        """A draft that begins as those layers of `target`."""
        draft = cls._shell(target, len(layers), vocabulary)
        for own, place in zip(draft.model.layers, layers, strict=True):
            own.load_state_dict(target.model.layers[place].state_dict())
        draft.model.norm.load_state_dict(target.model.norm.state_dict())
        return draft

    @classmethod
    def _shell(cls, target, layers: int, vocabulary: Tensor) -> "DistilledDraft":
        config = deepcopy(target.config)
        config.num_hidden_layers, config.tie_word_embeddings = layers, False
        dtype, device = target.dtype, target.device
        draft = cls(config, vocabulary).to(device, dtype)
        draft.generation_config = deepcopy(target.generation_config)
        draft.name_or_path = target.name_or_path  # which a loader may have set apart from its config
        draft.model.embed_tokens = target.model.embed_tokens
        rows = target.get_output_embeddings().weight.detach()[vocabulary.to(device).long()]
        draft.lm_head.weight = nn.Parameter(rows.clone(), requires_grad=False)
        return draft

    def forward(self, input_ids, logits_to_keep: int = 0, whole: bool = True, **given) -> CausalLMOutputWithPast:
        """As of any causal model: logits [B, L, V], or of the last `logits_to_keep` positions.

        Without `whole` they are of `vocabulary` alone, in its order.
        """
        given.pop("labels", None)
        out = self.model(input_ids=input_ids, **given)
        small = self.small_logits(out.last_hidden_state[:, -logits_to_keep or None :])
        return CausalLMOutputWithPast(
            logits=self.spread(small) if whole else small, past_key_values=out.past_key_values
        )

    def spread(self, small: Tensor) -> Tensor:
        """Logits [..., V] of those over `vocabulary` alone; -inf elsewhere."""
        logits = small.new_full((*small.shape[:-1], self.config.vocab_size), -torch.inf)
        logits[..., self.vocabulary] = small
        return logits

    def small_logits(self, states: Tensor) -> Tensor:
        """Logits over `vocabulary` alone."""
        return self.lm_head(states)

    def save(self, folder: Path) -> None:
        """What was trained, in bfloat16, and the vocabulary. Raises UserError for a folder of another model."""
        require_no_other(folder, None)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            key: value.detach().to("cpu", torch.bfloat16).contiguous()
            for key, value in self.state_dict().items()
            if not key.startswith(("model.embed_tokens", "lm_head"))
        }
        weights["vocabulary"] = self.vocabulary.int().cpu()
        save_file(weights, folder / "model.tmp", metadata={"format": "pt"})
        os.replace(folder / "model.tmp", folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"layers": self.config.num_hidden_layers}) + "\n")

    def save_pretrained(self, folder: str | Path, license: str | None = None, **_) -> None:
        """What `save` writes, with the target's name in its config, and a model card. `push_to_hub` sends the same.

        `license`: of the draft, as the hub calls it, such as `mit`. A `recipe.json` beside it is read for the card.
        """
        folder = Path(folder)
        self.save(folder)
        named = {"base_model_name_or_path": self.name_or_path, "base_model_type": self.config.model_type}
        named |= {"base_model_revision": getattr(self.config, "_commit_hash", None)}
        config = {"layers": self.config.num_hidden_layers} | {key: value for key, value in named.items() if value}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        write(folder, Known(licence=license))

    @classmethod
    def from_pretrained(cls, folder: str | Path, target, revision: str | None = None) -> "DistilledDraft":
        """A draft from a folder or, at a revision, a hub repository, beside its loaded target.

        Raises UserError for what the hub does not have, and for files that are damaged or of another target.
        """
        return cls.load(
            local_copy(folder, revision), target, "take the target that it was cut out of, or fetch it again"
        )

    @classmethod
    def load(cls, folder: Path, target, cure: str = "save it again") -> "DistilledDraft":
        """A saved draft, beside its target. Raises UserError, ending in `cure`, for files that are damaged or of
        another target."""
        path = folder / "model.safetensors"
        weights = tensors_of(path, cure)
        layers = json_of(folder / "config.json", Layers, cure)["layers"]
        vocabulary = weights.pop("vocabulary", torch.empty(0))
        inside = vocabulary.dtype == torch.int32 and vocabulary.dim() == 1 and len(vocabulary) > 0
        inside = inside and 0 <= int(vocabulary.min()) and int(vocabulary.max()) < target.config.vocab_size
        if not inside or len(vocabulary.unique()) < len(vocabulary):
            raise UserError(f"{path} has no vocabulary of tokens of the target: {cure}")
        if layers != len({key.split(".")[2] for key in weights if key.startswith("model.layers.")}):
            raise UserError(f"{path} does not hold the {layers} layers of its config.json: {cure}")
        draft = cls._shell(target, layers, vocabulary)
        try:
            missing, unexpected = draft.load_state_dict(weights, strict=False)
            fits = not unexpected and all(key.startswith(("model.embed_tokens", "lm_head")) for key in missing)
        except RuntimeError:  # a tensor of another shape
            fits = False
        if not fits:
            raise UserError(f"{path} does not fit its target: {cure}")
        return draft
