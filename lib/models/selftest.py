"""What every diffusion model must do before it decodes, tested when it is loaded: four small forwards."""

import torch
from torch import Tensor

from lib.decoding.bidirectional import bidirectional_mask, position_ids
from lib.errors import UserError

LENGTH, PADDING = 12, 5  # tokens of the long row, and how many fewer the short one has
STRIDE = 7919  # a prime, so that the test's tokens lie all over the vocabulary
NOISE = {torch.float32: 1e-3, torch.float64: 1e-6}  # share of the logits' size that batches may differ by
COARSE = 0.1  # the same in half precision and for quantised weights


@torch.inference_mode()
def check_diffusion(network, family) -> None:
    """Raise UserError for a network whose logits a decoder could not trust.

    Logits are finite; a left-padded row has those of the row alone, whatever stands in the padding; a position sees
    tokens behind it and before it; buffers that no file holds are as computed afresh. Draws no random number.
    """
    stale = stale_buffer(network)
    if stale:
        raise UserError(f"{stale} of the loaded model is not what its config gives: load it with lib.models, or ask "
                        "for another version of transformers")  # fmt: skip
    ids, mask = rows(network, family)
    both = logits_of(network, ids, mask, family)
    if not bool(torch.isfinite(both[mask.bool()]).all()):
        raise _failed("its logits are no finite numbers", "load it in float32 or bfloat16, or fetch it again")
    alone = logits_of(network, ids[1:, PADDING:], mask[1:, PADDING:], family)
    noise = NOISE.get(next(network.parameters()).dtype, COARSE)
    if distance(both[1, PADDING:], alone[0]) > noise:
        cure = "decode prompts of equal length only, or let its family take a wide_mask"
        raise _failed("a left-padded batch gives other logits than single rows", cure)
    other = ids.clone()
    other[1, :PADDING] = other[1, :PADDING].flip(0)  # the padding of the second row
    other[0, -1] = other[0, 1]  # behind all others of the first
    changed = logits_of(network, other, mask, family)
    if distance(changed[1, PADDING:], both[1, PADDING:]) > noise / 10:
        raise _failed("what stands in the padding is seen", "decode prompts of equal length only")
    other = ids.clone()
    other[0, 0] = other[0, 1]
    before = logits_of(network, other, mask, family)
    for what, found, place in (("behind", changed, 0), ("before", before, -1)):
        if torch.equal(found[0, place], both[0, place]):
            cure = "use an attention that takes a 4D mask (sdpa)"
            raise _failed(f"a position does not see the tokens {what} it", cure)


def rows(network, family) -> tuple[Tensor, Tensor]:
    """Ids and mask [2, LENGTH]: a row, and its end behind padding. Special tokens are left out."""
    size, special = network.get_input_embeddings().weight.shape[0], {*family.eot_ids, family.mask_id}
    usual = [token for token in (i * STRIDE % size for i in range(1, 4 * LENGTH)) if token not in special]
    device = network.get_input_embeddings().weight.device
    ids = torch.tensor([usual[:LENGTH]] * 2, device=device)
    mask = torch.ones_like(ids)
    mask[1, :PADDING] = 0
    return ids, mask


def logits_of(network, ids: Tensor, mask: Tensor, family) -> Tensor:
    """[B, L, V] in float32, by the network's own forward with what decoding hands it."""
    given = {"input_ids": ids, "attention_mask": mask}
    if family.wide_mask:
        given |= {"attention_mask": bidirectional_mask(mask), "position_ids": position_ids(mask), "use_cache": False}
    return network(**given).logits.float()


def distance(found: Tensor, wanted: Tensor) -> float:
    """Root mean square of the difference, as a share of how far the wanted logits are spread."""
    spread = (wanted - wanted.mean(-1, keepdim=True)).square().mean().sqrt().clamp(min=1e-12)
    return float((found - wanted).square().mean().sqrt() / spread)


def stale_buffer(network) -> str:
    """The first non-persistent buffer of a module with a config that a fresh module of its kind has otherwise.

    Empty where there is none. Such buffers are in no file: what a loader leaves in them is what is used.
    """
    for name, module in network.named_modules():
        names, config = module._non_persistent_buffers_set, getattr(module, "config", None)
        if not names or config is None or next(module.children(), None) is not None:
            continue
        try:
            fresh = dict(type(module)(config=config).named_buffers())
        except TypeError:  # a kind that is made of something else
            continue
        for key in sorted(names & fresh.keys()):
            have = getattr(module, key)
            if not torch.allclose(have.cpu(), fresh[key].cpu().to(have.dtype), rtol=1e-5, atol=0):
                return f"{name}.{key}"
    return ""


def _failed(what: str, cure: str) -> UserError:
    return UserError(f"this diffusion model fails its self-test, {what}: {cure}")
