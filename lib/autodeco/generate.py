"""The ordinary `generate` of a model with heads, which draws by what they say."""

import copy

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from lib.autodeco.decode import AutoDeco
from lib.decoding.distributions import warp
from lib.decoding.prompts import check_padding
from lib.errors import UserError

# Filters of `generate` besides top-k and top-p, with the value at which each does nothing.
FILTERS = {"min_p": 0.0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "top_h": None}
# Ways of `generate` in which the forward before a token is not that of the token, or is of another model.
WAYS = {"assistant_model": None, "prompt_lookup_num_tokens": None, "assistant_early_exit": None, "use_mtp": None,
        "guidance_scale": 1, "dola_layers": None, "num_beam_groups": 1, "constraints": None,
        "force_words_ids": None}  # fmt: skip


class Generates:
    """Mixin before a class of `transformers` whose forward leaves what the heads said in `said`."""

    def generate(self, inputs=None, generation_config=None, logits_processor=None, return_settings=False, **kwargs):
        """The ordinary `generate`. `return_settings`: also T-hat and P-hat [rows, new tokens], NaN after the end.

        Raises UserError for a temperature or top_p out of range, for settings of beams, which have no one row, for
        other filters, for an assistant and other ways in which the heads' last words are not of the token (see WAYS),
        and for padding on the right. A `custom_generate` decides alone: the heads act in that of lib.decoders.
        """
        if kwargs.get("custom_generate") is not None:
            return super().generate(inputs, generation_config, logits_processor, **kwargs)
        mask = kwargs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2:
            check_padding(mask)
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
        if not isinstance(top_k, int) or top_k < 0:
            raise UserError(f"top_k must be 0 (off) or more, not {top_k!r}")
        if defaults.top_h is not None:  # `generate` puts a default in where there is nothing
            raise UserError("the base has a top_h of its own: set model.generation_config.top_h = None")
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
        for name, neutral in WAYS.items():
            value = kwargs.get(name, getattr(config, name, None))
            if value is not None and value is not False and value != neutral:
                raise UserError(f"{name} does not go with AutoDeco's heads where tokens are drawn: leave it out")
        if return_settings and (kwargs.get("num_beams") or config.num_beams or 1) > 1:
            raise UserError("return_settings needs num_beams=1: beams change rows from token to token")
        rest = config.update(**kwargs)  # `generate` wants all in one place
        config.temperature, config.top_p, config.top_k = 1.0, 1.0, 0
        said = _Said(self)
        ours = _ByHeads(said, user.temperature, user.top_p, top_k)
        processors = LogitsProcessorList([said, *(logits_processor or ()), ours])
        out = super().generate(inputs, config, processors, **rest)
        if not return_settings:
            return out
        sequences = out if isinstance(out, Tensor) else out.sequences
        tokens = sequences[:, -len(ours.settings) :]
        ends = defaults.eos_token_id if config.eos_token_id is None else config.eos_token_id
        ended = torch.isin(tokens, torch.tensor([-1] if ends is None else ends, device=tokens.device))
        after = (ended.long().cumsum(-1) - ended.long()) > 0
        temperature, top_p = torch.stack(ours.settings, -1).masked_fill(after[:, None], torch.nan).unbind(1)
        return out, temperature, top_p


class _Said(LogitsProcessor):
    """Remembers what the heads said in the forward that made the scores, for a user's processor may do another."""

    def __init__(self, model):
        self.model, self.settings = model, None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.settings = self.model.said
        return scores


class _ByHeads(LogitsProcessor):
    """Scores to the logarithm of what is drawn from, by what the heads said in the forward that made the scores."""

    def __init__(self, said: _Said, temperature: float, top_p: float, top_k: int):
        self.said, self.temperature, self.top_p, self.top_k, self.settings = said, temperature, top_p, top_k, []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        temperature, top_p = self.said.settings
        self.settings.append(torch.stack([temperature, top_p], -1))
        return warp(scores, temperature * self.temperature, top_p * self.top_p, self.top_k).log()
