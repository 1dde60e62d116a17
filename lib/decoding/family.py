"""What differs between kinds of models, as data: no loop has a branch for one."""

from dataclasses import dataclass

from lib.errors import UserError

RULES = ("confidence", "entropy", "margin", "random")
SCHEDULES = ("even", "dream")


@dataclass(frozen=True)
class Family:
    """How a kind of model is decoded.

    eot_ids: tokens that end a response; the first is the one that pads and that an EoT penalty meets.
    mask_id: the [MASK] token of a diffusion model, None for an autoregressive one.
    shift: the logits of position i predict token i + 1 (Dream, and every autoregressive model).
    wide_mask: the network takes a 4D mask, by which a causal class looks both ways, and position ids.
    chat: prompts go through the tokenizer's chat template.
    rule, schedule: which drawn tokens a diffusion model's own decoder keeps, and how many of them a forward, see
        lib.tolerator.fill.Vanilla.
    bos_id: the token that a text begins with where no chat template writes it; None for none.
    """

    name: str
    eot_ids: tuple[int, ...]
    mask_id: int | None = None
    shift: bool = True
    wide_mask: bool = False
    chat: bool = True
    rule: str = "confidence"
    bos_id: int | None = None
    schedule: str = "even"

    def __post_init__(self) -> None:
        """One end is as good as a tuple of it. Raises UserError for ends that are no token ids, and for a
        rule or a schedule that there is not."""
        ends = tuple(self.eot_ids) if isinstance(self.eot_ids, list | tuple) else (self.eot_ids,)
        if not ends or any(type(end) is not int for end in ends):
            raise UserError(f"eot_ids must be token ids, such as (2,), not {self.eot_ids!r}")
        for name, value in (("mask_id", self.mask_id), ("bos_id", self.bos_id)):
            if value is not None and type(value) is not int:
                raise UserError(f"{name} must be a token id or None, not {value!r}")
        for name, known in (("rule", RULES), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        object.__setattr__(self, "eot_ids", ends)
