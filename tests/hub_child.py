"""What a stranger's process does with folders of custom_generate: `python -I hub_child.py`, where there is no `lib`.

Prints, in JSON, the tokens or the error of every case. tests/test_hub.py makes the same models to compare with.
"""

import json
import sys
import warnings
from functools import partial
from pathlib import Path

import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.modeling_outputs import CausalLMOutput

SIZE = {
    "vocab_size": 24,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
CALL = {"trust_remote_code": True}


def llama(seed: int = 0, layers: int = 2, scale: float = 20.0, **changes) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(**SIZE | {"intermediate_size": 48, "num_hidden_layers": layers} | changes)
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight.data *= scale
    return model


def opt(seed: int = 0) -> OPTForCausalLM:
    torch.manual_seed(seed)
    model = OPTForCausalLM(OPTConfig(**SIZE, ffn_dim=48, word_embed_proj_dim=32, num_hidden_layers=1)).eval()
    model.lm_head.weight.data *= 20
    return model


class LLaDAConfig(transformers.PreTrainedConfig):
    model_type = "llada"


class LLaDA(PreTrainedModel):
    """As LLaDA's own class: no `generate`, ids and a 2D mask, every position sees every other, logits of its own."""

    config_class = LLaDAConfig

    def __init__(self, config):
        super().__init__(config)
        self.layers = llama(seed=4, is_causal=False)

    def get_output_embeddings(self):
        return self.layers.lm_head

    def forward(self, input_ids, attention_mask=None, past_key_values=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        wide = mask.bool()[:, None, None].expand(-1, 1, mask.shape[1], -1)
        return CausalLMOutput(logits=self.layers(input_ids=input_ids, attention_mask=wide, use_cache=False).logits)


def llada() -> LLaDA:
    return LLaDA(LLaDAConfig(vocab_size=24, mask_token_id=1, eos_token_id=0)).eval()


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Four prompts of different length, left-padded: ids and attention mask [4, 7]."""
    torch.manual_seed(1)
    mask = torch.tensor([[0] * (7 - n) + [1] * n for n in (7, 3, 5, 1)])
    return torch.randint(3, 24, (4, 7)) * mask, mask


class Collected:
    """A streamer that keeps what it is given."""

    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ended = True


class Blocked:
    """The package is installed here; a stranger has not got it."""

    @staticmethod
    def find_spec(name, *_):
        if name.split(".")[0] == "lib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Tokenizer:
    """Stands in for a tokenizer of the hub."""

    def apply_chat_template(self, chat, **_):
        return {"input_ids": torch.tensor([[3, 4, 5]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}

    def decode(self, tokens, **_):
        return tokens.tolist()


def cases(root: Path, heads: Path) -> dict:
    """Every case by name: a call that gives tokens, or fails."""
    ids, mask = prompts()
    there = {name: str(root / name) for name in ("autodeco", "tolerator", "vanilla", "speculative", "mtad")}
    target, small = llama(), llama(seed=1, layers=1)

    def run(model, name, *args, ids=ids, mask=mask, **given):
        folder = there.get(name, name)
        return model.generate(ids, *args, attention_mask=mask, custom_generate=folder, **CALL | given)

    mtad = partial(run, target, "mtad", assistant_model=small, seed=3, tau=0.3)
    masked = llama(seed=4)
    vanilla = partial(run, masked, "vanilla", mask_id=1, shift=True, steps=4, seed=3)
    autodeco = partial(run, target, "autodeco", seed=3, max_new_tokens=8)

    def two_of_torch():
        torch.manual_seed(5)
        first, second = (run(target, "mtad", assistant_model=small, max_new_tokens=8) for _ in range(2))
        torch.manual_seed(5)
        again = run(target, "mtad", assistant_model=small, max_new_tokens=8)
        return [torch.equal(first, again), torch.equal(first, second)]

    def streamed():
        streamer = Collected()
        out = mtad(ids=ids[:1], mask=mask[:1], max_new_tokens=10, streamer=streamer)
        return [streamer.tokens, out[0].tolist(), streamer.ended]

    def foreign_heads():
        autodeco(heads=str(heads))  # loads the folder's own classes
        (module,) = [m for name, m in sys.modules.items() if name.endswith(".autodeco_model") and "local" not in name]
        return run(module.AutoDecoForCausalLM.from_pretrained(heads, base=llama()), "someone/autodeco", seed=3,
                   max_new_tokens=8)  # fmt: skip

    def as_it_was():
        model = llama().train()
        run(model, "autodeco", heads=str(heads), max_new_tokens=2)
        return [all(m.training for m in model.modules()), all(p.requires_grad for p in model.parameters()),
                hasattr(model, "heads")]  # fmt: skip

    def without_generate(**given):
        model = llada()
        function = GenerationMixin.load_custom_generate(model, there["tolerator"], **CALL)
        return function(model, ids, attention_mask=mask, canvas=8, forwards=4, seed=3, **given)

    def example(name):
        text = (root / name / "README.md").read_text().split("```python\n")[1].split("```")[0]
        text = text.replace(f"build/hub/{name}", there[name]).replace("canvas=64", "canvas=8")
        for option in ("forwards", "steps"):
            text = text.replace(f"{option}=64", f"{option}=4")
        text = text.replace("Jadeislaw/AutoDeco-R1-Distill-Qwen-7B", str(heads)).replace("print(", "said.append(")
        said: list = []
        AutoModelForCausalLM.from_pretrained = lambda name, **_: small if "135M" in name else target
        AutoModel.from_pretrained = lambda *_, **__: llada()
        AutoTokenizer.from_pretrained = lambda *_, **__: Tokenizer()
        exec(text, {"said": said})
        return said[0]

    config = GenerationConfig(max_new_tokens=6, temperature=0.7, top_k=5, eos_token_id=[0, 5], pad_token_id=2)
    endless = llama(eos_token_id=None)
    found = {
        "mtad": partial(mtad, max_new_tokens=12),
        "mtad from the hub": partial(run, target, "someone/mtad", assistant_model=small, seed=3, tau=0.3,
                                     max_new_tokens=12),
        "speculative": partial(run, opt(), "speculative", assistant_model=opt(1), seed=3, gamma=3, max_new_tokens=12),
        "autodeco": partial(autodeco, heads=str(heads)),
        "heads of another package": foreign_heads,
        "vanilla": partial(vanilla, canvas=8),
        "tolerator": without_generate,
        "a config": partial(mtad, generation_config=config),
        "greedy": partial(mtad, do_sample=False, max_new_tokens=8),
        "several": partial(mtad, num_return_sequences=2, max_new_tokens=6),
        "max_length": partial(vanilla, max_length=15),
        "a dict": lambda: mtad(max_new_tokens=12, return_dict_in_generate=True).sequences,
        "ids by name": lambda: target.generate(input_ids=ids, attention_mask=mask, custom_generate=there["mtad"],
                                               assistant_model=small, seed=3, tau=0.3, max_new_tokens=12, **CALL),
        "torch's generator": two_of_torch,
        "streamed": streamed,
        "as it was": as_it_was,
        "bad: taau": partial(mtad, taau=0.3),
        "bad: frobnicate": partial(mtad, frobnicate=1),
        "bad: tau=2": partial(mtad, tau=2.0),
        "bad: no draft": partial(run, target, "mtad"),
        "bad: a draft": partial(vanilla, assistant_model=small),
        "bad: no heads": autodeco,
        "bad: other base": partial(run, llama(seed=9), "autodeco", heads=str(heads)),
        "bad: adapter": partial(autodeco, heads=str(heads.parent / "adapter")),
        "bad: no mask": partial(run, masked, "vanilla", shift=True),
        "bad: no shift": partial(run, masked, "vanilla", mask_id=1),
        "bad: two sources": partial(mtad, generator=torch.Generator()),
        "bad: greedy and hot": partial(mtad, do_sample=False, temperature=0.7),
        "bad: drawn and cold": partial(mtad, do_sample=True, temperature=0.0),
        "bad: two lengths": partial(mtad, max_length=20, max_new_tokens=5),
        "bad: two canvases": partial(vanilla, canvas=8, max_new_tokens=9),
        "bad: no room": partial(mtad, max_length=7),
        "bad: no end": partial(run, endless, "mtad", assistant_model=small),
        "bad: penalty": partial(mtad, repetition_penalty=1.3),
        "bad: processor": partial(mtad, logits_processor=[RepetitionPenaltyLogitsProcessor(1.3)]),
        "bad: prefix": partial(mtad, prefix_allowed_tokens_fn=lambda *_: [3]),
        "bad: two tokenizers": partial(mtad, assistant_tokenizer=Tokenizer()),
        "bad: config": partial(mtad, generation_config={"temperature": 1.0}),
    }  # fmt: skip
    return found | {f"example: {name}": partial(example, name) for name in there}


def main(root: Path, heads: Path) -> None:
    sys.meta_path.insert(0, Blocked)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    said = {}
    try:
        import lib  # noqa: F401
    except ModuleNotFoundError:
        said["lib"] = None
    for name, call in cases(root, heads).items():
        try:
            out = call()
            said[name] = out.tolist() if isinstance(out, torch.Tensor) else out
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    said["modules"] = sorted(name for name in sys.modules if name.split(".")[0] == "lib")
    print(json.dumps(said))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
