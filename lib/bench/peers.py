"""What the engine is measured against: `transformers`' own generation, and the loop of the first edition here."""

import copy
import tempfile

import torch
from torch import Tensor
from transformers import DynamicCache, TopPLogitsWarper

from lib.decoding.bidirectional import position_ids
from lib.decoding.distributions import categorical, warp
from lib.decoding.randomness import RowGenerator


def generate(network, ids: Tensor, new: int, **given) -> Tensor:
    """`new` greedy tokens [B, new] by `transformers`; no token ends a text."""
    out = network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=None,
        pad_token_id=0, **given,
    )  # fmt: skip
    return out[:, ids.shape[1] :]


def compiled(network):
    """A network whose forward is compiled, for `generate(cache_implementation="static")`; shares the weights."""
    twin = copy.copy(network)
    twin.generation_config = copy.deepcopy(network.generation_config)
    twin.forward = torch.compile(twin.forward, fullgraph=True)
    return twin


def vllm(model, ids: Tensor, new: int):
    """A call that makes `new` greedy tokens [B, new] by vLLM, in float32, from a copy of the weights on disk."""
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        model.network.save_pretrained(folder)
        engine = LLM(folder, skip_tokenizer_init=True, dtype="float32", max_model_len=ids.shape[1] + new)
    asked = [{"prompt_token_ids": row} for row in ids.tolist()]
    setting = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
    return lambda: torch.tensor([out.outputs[0].token_ids for out in engine.generate(asked, setting, use_tqdm=False)])


def nucleus_by_warper(logits: Tensor, top_p: float) -> Tensor:
    """A token of each row [B] by `transformers`' top-p warper, as its `generate` draws it."""
    probs = TopPLogitsWarper(top_p)(None, logits).softmax(-1)
    return torch.multinomial(probs, 1).squeeze(-1)


@torch.inference_mode()
def first_edition(network, ids: Tensor, new: int, temperature: float, generator: RowGenerator) -> Tensor:
    """`new` tokens [B, new] by the loop of the first edition: every row reads its own prompt, the cache grows by
    copies, and a token is drawn from the whole vocabulary."""
    mask, cache, fed, out = torch.ones_like(ids), DynamicCache(config=network.config), 0, ids
    for step in range(new):
        logits = network(
            input_ids=out[:, fed:], attention_mask=mask, position_ids=position_ids(mask)[:, fed:],
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        tokens = categorical(warp(logits, temperature), generator.uniform(step, 0, 1)[:, 0])
        fed, out = out.shape[1], torch.cat([out, tokens[:, None]], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return out[:, ids.shape[1] :]
