"""What a draft is distilled on: answers that the target itself writes, with its likeliest tokens at every step."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from lib.decoding.autoregressive import Autoregressive, Next, loop, sample_step
from lib.decoding.options import Options
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.models.files import tensors_of
from lib.models.registry import Model
from lib.tasks import get_task
from lib.tasks.base import Item, Task


@dataclass(frozen=True)
class Text(Options):
    """Answers to training questions, drawn as the paper decodes: temperature 1, top_k 10, top_p 0.9.

    questions: (task, how many). kept: of the target's distribution at a position, its `kept` likeliest tokens are
    stored. batch: answers written at a time; a batch is of one task.
    """

    questions: tuple[tuple[str, int], ...] = (("instructions", 896), ("gsm8k", 896))
    max_new_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 10
    top_p: float = 0.9
    kept: int = 64
    batch: int = 64
    seed: int = 0

    def check(self) -> None:
        for name in ("max_new_tokens", "kept", "batch"):
            self.require(name, getattr(self, name) >= 1, "1 or more")

    def batches(self) -> list[tuple[Task, list[Item]]]:
        """Tasks in turns, so that a text which is not finished holds all of them."""
        lists = []
        for name, count in self.questions:
            items = get_task(name).items("train", count)
            lists.append([(get_task(name), items[i : i + self.batch]) for i in range(0, len(items), self.batch)])
        longest = max(map(len, lists))
        return [parts[i] for i in range(longest) for parts in lists if i < len(parts)]


@dataclass(frozen=True)
class Written:
    """One answer: prompt ids, response ids [G] with EoT, and the target's likeliest tokens and their
    log-probabilities at each of them [G, K]."""

    prompt: list[int]
    response: Tensor
    tokens: Tensor
    logprobs: Tensor


def write(model: Model, text: Text, folder: Path) -> list[Written]:
    """Every answer; a batch that `folder` holds is not written again, so a killed run goes on from there."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for index, (task, items) in enumerate(tqdm(text.batches(), desc="text", unit="batch")):
        path = folder / f"{index:04d}.safetensors"
        if not path.exists():
            written = _write(model, task, items, text)
            save_file(written, path.with_suffix(".tmp"), metadata={"digest": _digest(written)})
            os.replace(path.with_suffix(".tmp"), path)
        found += _read(_checked(path))
    return found


def _digest(tensors: dict[str, Tensor]) -> str:
    """A hash of names, shapes and bytes."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _checked(path: Path) -> dict[str, Tensor]:
    """A written batch. Raises UserError where a bit of it changed: it would be learned from."""
    cure = "remove it, it is written again"
    tensors = tensors_of(path, cure, finite=False)
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("digest") != _digest(tensors):
            raise UserError(f"{path} is damaged (its checksum does not hold): {cure}")
    return tensors


def _write(model: Model, task: Task, items: list[Item], text: Text) -> dict[str, Tensor]:
    ids, mask = model.encode([item.prompt for item in items], task.instruction)
    options = Autoregressive(text.max_new_tokens, text.temperature, text.top_p, text.top_k)
    shape = (len(items), text.max_new_tokens, text.kept)
    tokens = torch.zeros(shape, dtype=torch.int32)
    logprobs = torch.zeros(shape, dtype=torch.float16)

    def choose(at: Next) -> tuple[Tensor, dict]:
        logits, rows, step = at.logits.float(), at.rows, at.step
        best = logits.topk(text.kept, -1)
        tokens[rows.cpu(), step] = best.indices.int().cpu()
        logprobs[rows.cpu(), step] = (best.values - logits.logsumexp(-1, keepdim=True)).half().cpu()
        return sample_step(logits, options, at.uniform), {}

    generator = RowGenerator.of(text.seed, [f"{item.id}/{i}" for i, item in enumerate(items)])
    out = loop(
        model.network,
        ids,
        choose,
        text.max_new_tokens,
        generator=generator,
        family=model.family,
        attention_mask=mask,
    )
    lengths = (out.lengths + 1).clamp(max=text.max_new_tokens)  # the EoT is learned too
    return {
        "prompts": ids.int().cpu(),
        "prompt_lengths": mask.sum(-1).cpu(),
        "responses": out.responses.int().cpu(),
        "lengths": lengths,
        "tokens": tokens,
        "logprobs": logprobs,
    }


def _read(saved: dict[str, Tensor]) -> list[Written]:
    rows = []
    for i, (start, length) in enumerate(zip(saved["prompt_lengths"], saved["lengths"], strict=True)):
        prompt = saved["prompts"][i, -int(start) :].tolist()
        cut = slice(int(length))
        rows.append(Written(prompt, saved["responses"][i, cut], saved["tokens"][i, cut], saved["logprobs"][i, cut]))
    return rows
