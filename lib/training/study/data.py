"""Training batches: a pure function of (recipe, step), so that a resumed run sees the same ones.

Sequences are packed into rows of one width, several a row, and see only themselves: little is padded, and a compiled
step meets one shape.
"""

import random
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lib.models.study import LONGEST
from lib.paths import BUILD
from lib.running.code import hash_of
from lib.tasks import country_sentences, graded_functions, sudoku, worded_math
from lib.tasks.country_facts import TASK as COUNTRY_FACTS
from lib.training.study.drills import TASK as DRILLS

DRAWN = BUILD / "training" / "examples"

# Shares of the training sequences. Drills teach the arithmetic that word problems teach too slowly.
MIXTURE = (
    (worded_math.WORDED, 0.28),
    (worded_math.TERSE, 0.08),
    (DRILLS, 0.1),
    (sudoku.SIX, 0.14),
    (sudoku.NINE, 0.14),
    *((task, 0.04) for task in graded_functions.LEVELS),
    (country_sentences.TASK, 0.08),
    (COUNTRY_FACTS, 0.06),
)


@dataclass(frozen=True)
class Example:
    """Token ids of one training sequence; `canvas` is the response length a diffusion model pads to."""

    prompt: np.ndarray
    response: np.ndarray
    canvas: int

    def length(self, full_canvas: bool) -> int:
        return len(self.prompt) + (self.canvas if full_canvas else len(self.response))


@dataclass(frozen=True)
class Batch:
    """Packed sequences, all [R, W]: `input_ids`; `document`: 1, 2, ... of a row's sequences, 0 where there is none;
    `position` in the sequence; `left`: response positions from here to its end, this one included, 0 outside of the
    response; `length` of that response, at each of its positions."""

    input_ids: Tensor
    document: Tensor
    position: Tensor
    left: Tensor
    length: Tensor

    @property
    def response(self) -> Tensor:
        return self.left > 0


def texts(n: int) -> list[str]:
    """Prompts and responses of the first `n` training items a task, for the tokenizer."""
    return [text for task, _ in MIXTURE for item in task.items("train", n) for text in (item.prompt, item.target)]


def examples(tokenizer, n: int, split: str = "train") -> list[Example]:
    """`n` sequences in the mixture's shares, response closed by EoT; drawn once, and then read from `build/`."""
    rows = []
    for task, share in MIXTURE:
        rows += _of_task(tokenizer, task, split, round(n * share))
    return rows


def _of_task(tokenizer, task, split: str, n: int) -> list[Example]:
    """The first `n` items of a task as sequences, without those whose response the canvas does not hold."""
    made = sha256(f"{_code(task)} {tokenizer.backend_tokenizer.to_str()}".encode()).hexdigest()[:12]
    path = DRAWN / f"{task.name}-{split}-{n}-{made}.npz"
    if not path.exists():
        _draw(tokenizer, task, split, n, path)
    with np.load(path) as stored:
        tokens, prompts, responses = stored["tokens"], stored["prompts"], stored["responses"]
    cuts = np.cumsum(np.stack([prompts, responses], 1).ravel())
    parts = np.split(tokens, cuts[:-1])
    return [Example(*parts[2 * i : 2 * i + 2], task.max_new_tokens) for i in range(len(prompts))]


def _draw(tokenizer, task, split: str, n: int, path) -> None:
    tokens, lengths = [], []
    for item in tqdm(task.items(split, n), desc=f"{task.name} {split}", unit="item"):
        prompt = tokenizer.encode(item.prompt, add_special_tokens=False)
        response = tokenizer.encode(item.target, add_special_tokens=False) + [tokenizer.eos_token_id]
        if len(response) <= task.max_new_tokens:
            tokens += prompt + response
            lengths.append((len(prompt), len(response)))
    prompts, responses = np.array(lengths, dtype=np.int16).T
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".tmp.npz")
    np.savez_compressed(part, tokens=np.array(tokens, dtype=np.int16), prompts=prompts, responses=responses)
    part.replace(path)


def _code(task) -> str:
    """A hash of the code that draws a task's items."""
    module = import_module(task.stream.__module__)
    names = [
        name for name, value in vars(module).items() if value is task or isinstance(value, tuple) and task in value
    ]
    return hash_of([(module.__name__, names[0])])


def order(rows: list[Example], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Index batches of one epoch, shuffled. A batch mixes tasks and templates: batches of like sequences teach a
    small model one template after the other and it forgets the last."""
    shuffled = list(range(len(rows)))
    random.Random(f"{seed}/{epoch}").shuffle(shuffled)
    return [shuffled[i : i + batch_size] for i in range(0, len(shuffled) - batch_size + 1, batch_size)]


def packed(lengths: list[int], width: int = LONGEST) -> list[list[int]]:
    """Which sequences share a row: the longest first, each into the first row with room. Rows are in the order
    of the places of their longest, which says nothing of it: the first rows are a fair share of all."""
    rooms: list[int] = []
    rows: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((row for row, room in enumerate(rooms) if room >= lengths[i]), len(rooms))
        if row == len(rooms):
            rooms.append(width)
            rows.append([])
        rooms[row] -= lengths[i]
        rows[row].append(i)
    return sorted(rows)


def collate(rows: list[Example], pad: int, full_canvas: bool, width: int = LONGEST, at_least: int = 0) -> Batch:
    """Sequences packed into rows; responses as they are, or padded to the whole canvas with EoT (`pad`).

    `at_least` so many rows: empty ones are added, for one shape of all batches.
    """
    layout = packed([row.length(full_canvas) for row in rows], width)
    shape = (max(len(layout), at_least), width)
    ids = np.full(shape, pad, dtype=np.int64)
    document, position, left, length = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    for r, indices in enumerate(layout):
        start = 0
        for number, i in enumerate(indices):
            row = rows[i]
            first, size = start + len(row.prompt), row.length(full_canvas)
            ids[r, start:first] = row.prompt
            ids[r, first : first + len(row.response)] = row.response
            document[r, start : start + size] = number + 1
            position[r, start : start + size] = np.arange(size)
            left[r, first : start + size] = np.arange(start + size - first, 0, -1)
            length[r, first : start + size] = start + size - first
            start += size
    return Batch(*(torch.from_numpy(array) for array in (ids, document, position, left, length)))
