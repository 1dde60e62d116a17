"""A base's forward with heads beside it."""

from contextlib import contextmanager
from functools import wraps

from torch import Tensor


def forwards(base) -> dict:
    """`base_forward`, that of `base`, and `forward`: its output with `temperature`, `top_p` [B, L] and `probs`
    [B, L, V] of `heads` in it.

    Logits stay the base's own. `probs` are softmax(logits / T-hat).
    """
    kind, replaced = type(base), base.__dict__.get("forward")  # a loader may have replaced it, as accelerate does

    def base_forward(self, *args, **kwargs):
        return replaced(*args, **kwargs) if replaced else kind.forward(self, *args, **kwargs)

    @wraps(kind.forward)  # transformers reads off the signature what a model takes
    def forward(self, *args, **kwargs):
        with entering_the_unembedding(self) as hidden:
            output = base_forward(self, *args, **kwargs)
        output.temperature, output.top_p, output.probs = self.heads(hidden[0], output.logits)
        self.said = output.temperature[:, -1], output.top_p[:, -1]
        return output

    return {"forward": forward, "base_forward": base_forward}


@contextmanager
def entering_the_unembedding(model):
    """A list that receives the hidden states which a forward hands to the language-model head."""
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
