"""A target and a draft of one vocabulary, padded to different sizes: Qwen2.5-0.5B has 151,936 rows, 7B 152,064.

Their laws are cut to the part that both have: logits beyond it are left out, so that both softmaxes go over the same
tokens. That is exact where the rest is padding, which `common_size` checks: no token has such an id.
"""

import copy
from weakref import WeakKeyDictionary

from torch import nn

from lib.errors import UserError

# Target -> draft -> what `paired` made of them, None for a network that is itself. The keys are weak, and a copy does
# not hold the network that it is of: a model that nobody else holds goes.
_PAIRS: WeakKeyDictionary = WeakKeyDictionary()


def paired(target, draft, tokenizer):
    """The two networks with heads of one size; each is itself where its head has that size already.

    A network that is cut is a copy that shares its weights, so that the given one keeps its own law when it decodes
    alone; asked again, the copy is the same object. Raises UserError where a token of the tokenizer would be cut off.
    """
    networks = (target, draft)
    if _size(target) == _size(draft):
        return networks
    known = _PAIRS.setdefault(target, WeakKeyDictionary())
    kept = known.get(draft)
    if kept is None or not all(map(_shares, networks, kept)):
        size = common_size(networks, tokenizer)
        made = (cut(network, size) for network in networks)
        kept = known[draft] = tuple(None if a is b else a for a, b in zip(made, networks, strict=True))
    return tuple(network if short is None else short for network, short in zip(networks, kept, strict=True))


def _shares(network, short) -> bool:
    """Whether a copy still has the weights of its network, which may have been moved to another device."""
    if short is None:
        return True
    heads = [part.get_output_embeddings().weight for part in (network, short)]
    return heads[0].data_ptr() == heads[1].data_ptr() and heads[0].dtype == heads[1].dtype


def common_size(networks, tokenizer) -> int:
    """Rows that all heads have. Raises UserError where the tokenizer has a token beyond them."""
    sizes = [_size(network) for network in networks]
    if len(set(sizes)) == 1:
        return sizes[0]
    last = max(tokenizer.get_vocab().values())
    if last >= min(sizes):
        raise UserError(
            f"the vocabularies have {' and '.join(map(str, sizes))} tokens, and the tokenizer has a token {last} "
            "that not all of them know: take a draft of the target's own family"
        )
    return min(sizes)


def cut(network, size: int):
    """The network with the first `size` rows of its head [V, H]. Raises UserError for a head that cannot be cut."""
    if _size(network) == size:
        return network
    head = network.get_output_embeddings()
    if type(head) is not nn.Linear or hasattr(head, "_hf_hook"):
        raise UserError(
            f"the head of {type(network).__name__} cannot be cut to {size} tokens: load it whole on one device, "
            "without MODEL_PLACE"
        )
    small = nn.Linear(head.in_features, size, bias=head.bias is not None, device="meta")
    small.weight = nn.Parameter(head.weight.detach()[:size], requires_grad=False)
    if head.bias is not None:
        small.bias = nn.Parameter(head.bias.detach()[:size], requires_grad=False)
    short = copy.copy(network)
    short._modules = network._modules.copy()  # a copied module shares this dict
    short.config = copy.deepcopy(network.config)
    short.config.get_text_config().vocab_size = size
    short.set_output_embeddings(small)
    return short.eval()


def _size(network) -> int:
    """Tokens of the law, which a draft may make of a smaller head."""
    return network.config.get_text_config().vocab_size
