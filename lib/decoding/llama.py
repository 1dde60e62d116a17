"""Llama-class networks of `transformers` in few operations: the same weights, a third of the time of a small forward.

A module's own forward spends more on Python and on tiny operations than on arithmetic where a batch is small. Here
a layer is 20 operations, and products go to the faster of a processor's two libraries. Any other class of network,
and one with hooks, adapters or quantised weights, goes by its own forward (lib/decoding/session.py).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = ("LlamaModel", "Qwen2Model")  # of transformers: pre-norm RMS, rotary positions, gated SiLU
ROTARY = ("default", "linear", "llama3", "yarn")  # whose angles depend on the position alone
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
FEW = 32  # rows of a product that the compiler's own serves best
SMALL = 2**17  # multiplications of a product below which the call costs more than the product


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K], weight [N, K] -> [..., N]. In float32 on a CPU by oneDNN, which is two to three times as fast as
    the library that torch takes on many processors."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.numel() * weight.shape[0] < SMALL:
        return F.linear(x, weight, bias)
    if torch.compiler.is_compiling():  # it has a faster product of its own for few rows, and none for many
        few = x.numel() <= FEW * x.shape[-1]
        return F.linear(x, weight, bias) if few else _opaque_linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.custom_op("decoding_study::linear", mutates_args=())
def _opaque_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@_opaque_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


class Llama:
    """The decoder stack of a network, read off its modules; see `of`."""

    def __init__(self, network):
        stack, config = network.model, network.config
        self.embedding, self.norm, self.eps = stack.embed_tokens, stack.norm.weight, config.rms_norm_eps
        self.rotary, self.width = stack.rotary_emb, config.hidden_size
        self.head = network.get_output_embeddings()
        self.layers = [_weights(layer) for layer in stack.layers]
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = stack.layers[0].self_attn.head_dim

    @classmethod
    def of(cls, network) -> "Llama | None":
        """None for a network that must go by its own forward."""
        stack = getattr(network, "model", None)
        if type(stack).__name__ not in CLASSES or type(stack).__module__.partition(".")[0] != "transformers":
            return None
        config = network.config
        plain = config.hidden_act == "silu" and getattr(config, "pretraining_tp", 1) == 1
        full = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        if not (plain and full and stack.rotary_emb.rope_type in ROTARY and not torch.is_grad_enabled()):
            return None
        modules = [network, stack, *stack.layers]
        for layer in stack.layers:
            for owner, names in zip((layer.self_attn, layer.mlp), LINEARS, strict=True):
                linears = [getattr(owner, name) for name in names]
                if any(type(module) is not nn.Linear for module in linears):
                    return None
                modules += [owner, *linears]
        return None if any(map(_hooked, modules)) else cls(network)

    def angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin [positions, D] of the rotary embedding."""
        at = torch.arange(positions, device=self.norm.device)
        cos, sin = self.rotary(self.norm[None, :1], at[None])
        half = self.size // 2
        return cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)

    def states(
        self, ids: Tensor, cos: Tensor, sin: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Hidden states [b, Q, H] behind the last layer and before the last norm, of ids [b, Q].

        cos, sin [b, Q, D] of their positions. `attend(layer, q [b, heads, Q, D], k, v [b, key heads, Q, D])` gives
        [b, heads, Q, D].
        """
        rows, width = ids.shape
        shape, half = (rows, width, -1, self.size), self.size // 2
        cos, sin = cos[:, :, None], sin[:, :, None]
        x = self.embedding(ids)
        for i, w in enumerate(self.layers):
            normed = F.rms_norm(x, (self.width,), w["input"], self.eps)
            q, k, v = (linear(normed, *w[name]) for name in ("q_proj", "k_proj", "v_proj"))
            both = torch.cat([q, k], -1).view(shape)
            both = both * cos + torch.cat([both[..., half:], both[..., :half]], -1) * sin
            q, k = both.transpose(1, 2).split((self.heads, self.key_heads), 1)
            out = attend(i, q, k, v.view(shape).transpose(1, 2))
            x = x + linear(out.transpose(1, 2).reshape(rows, width, -1), *w["o_proj"])
            normed = F.rms_norm(x, (self.width,), w["post"], self.eps)
            gate, up = linear(normed, *w["gate_proj"]), linear(normed, *w["up_proj"])
            x = x + linear(F.silu(gate).mul_(up), *w["down_proj"])
        return x

    def normed(self, states: Tensor) -> Tensor:
        """What the language-model head sees of `states`."""
        return F.rms_norm(states, (self.width,), self.norm, self.eps)

    def head_is_hooked(self) -> bool:
        """Whether the language-model head must be called as a module."""
        return _hooked(self.head)

    def logits(self, normed: Tensor) -> Tensor:
        """Of the language-model head, by its module where that is hooked or no plain one."""
        if type(self.head) is not nn.Linear or self.head_is_hooked():
            return self.head(normed)
        return linear(normed, self.head.weight, self.head.bias)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of q [b, heads, Q, D] over k, v [b, key heads, S, D]; mask bool [b, 1, Q or 1, S], None sees all.

    The heads that share a key head are stacked as its queries, so that keys are not copied for each of them.
    """
    rows, heads, width, size = q.shape
    group = heads // k.shape[1]
    if group == 1:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    stacked = q.reshape(rows, k.shape[1], group * width, size)
    if mask is not None and mask.shape[2] > 1:
        mask = mask.repeat(1, 1, group, 1)
    return F.scaled_dot_product_attention(stacked, k, v, attn_mask=mask).reshape(q.shape)


def _weights(layer) -> dict:
    found = {"input": layer.input_layernorm.weight, "post": layer.post_attention_layernorm.weight}
    for owner, names in zip((layer.self_attn, layer.mlp), LINEARS, strict=True):
        for name in names:
            module = getattr(owner, name)
            found[name] = module.weight, module.bias
    return found


def _hooked(module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)
