"""What differs between kinds of models, as data: no loop has a branch for one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How a kind of model is decoded.

    eot_ids: tokens that end a response; the first is the one that pads and that an EoT penalty meets.
    mask_id: the [MASK] token of a diffusion model, None for an autoregressive one.
    shift: the logits of position i predict token i + 1 (Dream, and every autoregressive model).
    wide_mask: the network takes a 4D mask, by which a causal class looks both ways, and position ids.
    chat: prompts go through the tokenizer's chat template.
    rule: which drawn tokens a diffusion model's own decoder keeps, see lib.tolerator.fill.Vanilla.
    """

    name: str
    eot_ids: tuple[int, ...]
    mask_id: int | None = None
    shift: bool = True
    wide_mask: bool = False
    chat: bool = True
    rule: str = "confidence"
