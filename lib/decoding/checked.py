"""The one check of a call that all decoders go through, before a forward."""

from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from lib.decoding.family import Family
from lib.decoding.listening import Listener
from lib.decoding.networks import check_draft, check_length, check_network, device_of, in_vocabulary
from lib.decoding.options import Options
from lib.decoding.prompts import prompts_of
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError

GIVEN = ("attention_mask", "record", "draft")  # what a call may have besides model, ids, options, generator, family


def checked(model, input_ids, options: Options, generator, family, drafts: bool, given: dict) -> tuple[Tensor, dict]:
    """Ids [B, P] on the model's device, and `given` with a mask [B, P] of int64 in it, or None.

    Valid tensors come back as they are. Raises UserError, naming the cure, for what this decoder cannot be given;
    see `lib.decoding.prompts` and `lib.decoding.networks`.
    """
    name = type(options).__name__
    if not isinstance(family, Family):
        raise UserError(f"family must be a Family, such as load(...).family or Family('mine', eot_ids=(2,)), not "
                        f"{family!r:.60}")  # fmt: skip
    if "draft" in given and not drafts:
        raise UserError(f"{name} takes no draft: leave it out")
    for key in given:
        if key not in GIVEN:
            near = get_close_matches(key, GIVEN, 1)
            raise UserError(f"decode takes no {key!r}: " + (f"did you mean {near[0]}?" if near else
                            f"what a decoder can be told stands in its options, {name}(...)"))  # fmt: skip
    if not isinstance(given.get("record", False), bool | Listener):
        raise UserError(f"record must be True, False or a Listener of lib.decoding.listening, not "
                        f"{given['record']!r:.60}")  # fmt: skip
    check_generator(generator)
    check_network("model", model, family)
    draft = given.get("draft")
    networks = [model]
    if draft is not None:
        check_network("draft", draft, family)
        check_draft(model, draft)
        networks.append(draft)
    ids, mask = prompts_of(input_ids, given.get("attention_mask"), family.eot_ids[0], device_of(model))
    unseen = family.mask_id is not None and not family.shift  # such a model may begin with nothing
    if not ids.shape[1] and not unseen:
        raise UserError("a prompt is empty: give it a token to go on from")
    if isinstance(generator, RowGenerator) and len(generator.keys) != len(ids):
        raise UserError(f"the generator has {len(generator.keys)} rows and the batch {len(ids)}: give a key a prompt")
    ids = in_vocabulary(ids, mask, family, model)
    check_length(ids.shape[1] if mask is None else int(mask.sum(-1).max()), options, *networks)
    return ids, given | {"attention_mask": mask}


def check_generator(generator) -> None:
    """UserError for what is no source of random numbers."""
    whole = isinstance(generator, int | np.integer) and not isinstance(generator, bool)
    if not whole and not isinstance(generator, RowGenerator | torch.Generator):
        raise UserError(f"generator must be a seed, a torch.Generator or a RowGenerator, not {generator!r:.60}")
