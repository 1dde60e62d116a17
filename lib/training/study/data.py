"""Training batches: a pure function of (recipe, step), so that a resumed run sees the same ones."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from lib.tasks import country_sentences, graded_functions, sudoku, worded_math
from lib.tasks.country_facts import TASK as COUNTRY_FACTS
from lib.tasks.gsm_symbolic import TASK as GSM_SYMBOLIC
from lib.tasks.small_functions import TASK as SMALL_FUNCTIONS
from lib.training.study.drills import TASK as DRILLS

# Shares of the training sequences. Drills teach the arithmetic that word problems teach too slowly.
MIXTURES = {
    "tasks": ((GSM_SYMBOLIC, 0.5), (COUNTRY_FACTS, 0.3), (SMALL_FUNCTIONS, 0.2)),
    "drilled": ((GSM_SYMBOLIC, 0.32), (DRILLS, 0.25), (COUNTRY_FACTS, 0.33), (SMALL_FUNCTIONS, 0.1)),
    "bed": (
        (worded_math.WORDED, 0.3),
        (worded_math.TERSE, 0.1),
        (DRILLS, 0.14),
        (sudoku.SIX, 0.16),
        *((task, 0.04) for task in graded_functions.LEVELS),
        (country_sentences.TASK, 0.1),
        (COUNTRY_FACTS, 0.08),
    ),
}


@dataclass(frozen=True)
class Example:
    """Token ids of one training sequence; `canvas` is the response length a diffusion model pads to."""

    prompt: list[int]
    response: list[int]
    canvas: int


@dataclass(frozen=True)
class Batch:
    """`input_ids`, `attention_mask` [B, L], left-padded; `response` marks what the loss counts."""

    input_ids: Tensor
    attention_mask: Tensor
    response: Tensor


def texts(n: int, mixture: str = "tasks") -> list[str]:
    """Prompts and responses of the first `n` training items a task, for the tokenizer."""
    return [
        text
        for task, _ in MIXTURES[mixture]
        for item in task.items("train", n)
        for text in (item.prompt, item.target)
    ]


def examples(tokenizer, n: int, mixture: str = "tasks", split: str = "train") -> list[Example]:
    """`n` sequences in a mixture's shares, response closed by EoT."""
    rows = []
    for task, share in MIXTURES[mixture]:
        items = task.items(split, round(n * share))
        for item in tqdm(items, desc=f"{task.name} {split}", unit="item"):
            prompt = tokenizer.encode(item.prompt, add_special_tokens=False)
            response = tokenizer.encode(item.target, add_special_tokens=False) + [tokenizer.eos_token_id]
            if len(response) <= task.max_new_tokens:
                rows.append(Example(prompt, response, task.max_new_tokens))
    return rows


def order(rows: list[Example], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Index batches of one epoch, shuffled. A batch mixes tasks and templates: batches of like sequences, though
    cheaper to pad, teach a small model one template after the other and it forgets the last."""
    shuffled = list(range(len(rows)))
    random.Random(f"{seed}/{epoch}").shuffle(shuffled)
    return [shuffled[i : i + batch_size] for i in range(0, len(shuffled) - batch_size + 1, batch_size)]


def by_length(rows: list[Example], parts: int) -> list[list[Example]]:
    """One batch in `parts` of like length, so that little is padded; their gradients are summed."""
    rows = sorted(rows, key=lambda row: (row.canvas, len(row.prompt) + len(row.response)))
    size = -(-len(rows) // parts)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def collate(rows: list[Example], pad: int, full_canvas: bool) -> Batch:
    """Prompts end in one column; responses run to the longest, or to the whole canvas padded with EoT."""
    left = max(len(row.prompt) for row in rows)
    right = max(row.canvas if full_canvas else len(row.response) for row in rows)
    input_ids = torch.full((len(rows), left + right), pad)
    attention_mask = torch.zeros(len(rows), left + right, dtype=torch.long)
    response = torch.zeros(len(rows), left + right, dtype=torch.bool)
    for i, row in enumerate(rows):
        end = left + (row.canvas if full_canvas else len(row.response))
        input_ids[i, left - len(row.prompt) : left] = torch.tensor(row.prompt)
        input_ids[i, left : left + len(row.response)] = torch.tensor(row.response)
        attention_mask[i, left - len(row.prompt) : end] = 1
        response[i, left:end] = True
    return Batch(input_ids, attention_mask, response)
