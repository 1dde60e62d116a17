"""A base's forward with heads beside it, and the distribution that the two make."""

from contextlib import contextmanager
from functools import wraps

from torch import Tensor

from lib.decoding.distributions import nucleus, warp


def forward_with_heads(base):
    """The forward of `base` with `heads`: its output, and `temperature`, `top_p` [B, L] and `probs` [B, L, V] in it.

    Logits stay the base's own. `probs` are softmax(logits / T-hat).
    """
    kind, replaced = type(base), base.__dict__.get("forward")  # a loader may have replaced it, as accelerate does

    @wraps(kind.forward)  # transformers reads off the signature what a model takes
    def forward(self, *args, **kwargs):
        with entering_the_unembedding(self) as hidden:
            output = replaced(*args, **kwargs) if replaced else kind.forward(self, *args, **kwargs)
        output.temperature, output.top_p, output.probs = self.heads(hidden[0], output.logits)
        self.said = output.temperature[:, -1], output.top_p[:, -1]
        return output

    return forward


def distribution(output, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """What is drawn from [B, L, V], of an output with heads; temperature and top_p multiply the predicted ones."""
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
