"""Where models come from: the record of one, and those of the three papers, which lie on the hub."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Where a model comes from. `source` is a hub id, or the folder of a committed checkpoint.

    `base`: the model that AutoDeco's heads in `source` sit on, or that the draft in `source` was cut out of.
    `tokenizer`: the folder beside a committed checkpoint.
    `revision`: of the hub; HUB_REVISION names another, see lib/models/hub.py.
    """

    name: str
    tier: str
    family: str
    source: str
    licence: str
    remote_code: bool = False
    base: str = ""
    revision: str = "main"
    tokenizer: str = "tokenizer"

    @property
    def remote(self) -> bool:
        """Whether `source` is a hub id."""
        return "/" in self.source


# The commits that public code and logs name for these models; where none was found, `main`.
COMMITS = {
    "llada-8b": "08b83a6feb34df1a6011b80c3c00c7563e963b07",
    "dream-7b": "05334cb9faaf763692dcf9d8737c642be2b2a6ae",
    "r1-qwen-7b": "916b56a44061fd5cd7d6a8fb632557ed4f724f60",
    "qwen3-30b": "0d7cf23991f47feeb3a57ecb4c9cee8ea4a17bfe",
    "gpt-oss-20b": "6cee5e81ee83917806bbde320786a8fb61efebee",
    "llama-3.1-8b": "0e9e39f249a16976918f6564b8830bc894c89659",
    "llama-3.2-1b": "9213176726f574b556790deb65791e0c5aa438b6",
    "llama-3.1-8b-base": "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b",
    "llama-3.2-1b-base": "4e20de362430cd3b72f300e6b0f18e50e7166e08",
    "llama-2-13b": "5c31dfb671ce7cfe2d7bb7c04375e44c55e815b1",
    "llama-68m": "964a5d77df908b69f8d6476fb70e940425b04cb5",
    "opt-13b": "e515202d1e7750da62d245fbccb2723b9c1790f5",
    "opt-125m": "27dcfa74d334bc871f3234de431e71c6eeba5dd6",
    "qwen2.5-0.5b": "7ae557604adf67be50417f59c2c2f167def9a775",
    "qwen2.5-7b": "a09a35458c702b33eeacc393d103063234e8bc28",
}
PAPER = tuple(
    Entry(name, "paper", family, source, licence, revision=COMMITS.get(name, "main"))
    for name, family, source, licence in (
        # TOLERATOR
        ("llada-8b", "llada", "GSAI-ML/LLaDA-8B-Instruct", "MIT"),
        ("dream-7b", "dream", "Dream-org/Dream-v0-Instruct-7B", "Apache-2.0"),
        # AutoDeco
        ("llama-nemotron-8b", "llama-3", "nvidia/Llama-3.1-Nemotron-Nano-8B-v1", "NVIDIA Open"),
        ("r1-qwen-7b", "qwen-2", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "MIT"),
        ("qwen3-30b", "qwen-3", "Qwen/Qwen3-30B-A3B-Instruct-2507", "Apache-2.0"),
        ("gpt-oss-20b", "gpt-oss", "openai/gpt-oss-20b", "Apache-2.0"),
        # MTAD: targets and their drafts
        ("llama-3.1-8b", "llama-3", "meta-llama/Llama-3.1-8B-Instruct", "Llama 3.1"),
        ("llama-3.2-1b", "llama-3", "meta-llama/Llama-3.2-1B-Instruct", "Llama 3.2"),
        ("llama-3.1-8b-base", "llama-3-base", "meta-llama/Llama-3.1-8B", "Llama 3.1"),
        ("llama-3.2-1b-base", "llama-3-base", "meta-llama/Llama-3.2-1B", "Llama 3.2"),
        ("llama-2-13b", "llama-2", "meta-llama/Llama-2-13b-hf", "Llama 2"),
        ("llama-68m", "llama-2", "JackFram/llama-68m", "Apache-2.0"),
        ("opt-13b", "opt", "facebook/opt-13b", "OPT"),
        ("opt-125m", "opt", "facebook/opt-125m", "OPT"),
        # A pair of today, whose vocabularies are padded to different sizes
        ("qwen2.5-7b", "qwen-2", "Qwen/Qwen2.5-7B-Instruct", "Apache-2.0"),
        ("qwen2.5-0.5b", "qwen-2", "Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0"),
    )
)
# AutoDeco's heads as their authors publish them, by base: family and hub id.
PUBLISHED = {
    "llama-nemotron-8b": ("llama-3", "Jadeislaw/AutoDeco-Llama-Nemotron-8B"),
    "r1-qwen-7b": ("qwen-2", "Jadeislaw/AutoDeco-R1-Distill-Qwen-7B"),
    "qwen3-30b": ("qwen-3", "Jadeislaw/AutoDeco-Qwen3-30B-A3B-Instruct-2507"),
    "gpt-oss-20b": ("gpt-oss", "Jadeislaw/AutoDeco-GPT-Oss-20B"),
}
