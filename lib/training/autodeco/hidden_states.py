"""What heads are trained on: right answers that the base sampled itself, and its hidden states along them."""

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from tqdm import tqdm

from lib.autodeco.attach import entering_the_unembedding
from lib.decoding.autoregressive import Autoregressive
from lib.decoding.bidirectional import position_ids
from lib.decoding.options import Options
from lib.models.registry import Model
from lib.running.lines import cut, read_lines
from lib.running.memory import in_halves
from lib.running.respond import respond
from lib.running.schema import Count
from lib.tasks.base import Task, rows_hash
from lib.tolerator import Vanilla


class Drawn(BaseModel):
    """A line of the file of trajectories: a drawn response as token ids."""

    item: str
    row: str
    sample: Count
    correct: Annotated[int, Field(ge=0, le=1)]
    response: Annotated[list[Count], Field(min_length=1)]


@dataclass(frozen=True)
class States:
    """N response positions: the state that predicts each token [N, H] and the token itself [N]."""

    hidden: Tensor
    tokens: Tensor

    def fingerprint(self) -> str:
        """A hash of the positions."""
        digest = sha256(self.tokens.numpy().tobytes())
        digest.update(self.hidden[:: max(1, len(self.hidden) // 1000)].numpy().tobytes())
        return digest.hexdigest()[:16]


NO_STATES = States(torch.zeros(0, 0, dtype=torch.float16), torch.zeros(0, dtype=torch.long))


def trajectories(
    model: Model, task: Task, prompts: int, samples: int, path: Path, temperature: float = 1.0, batch: int = 64
) -> list[tuple[str, list[int]]]:
    """(prompt, response ids with EoT) of the right ones among `samples` draws for each of `prompts` training items.

    Of a mask model, which draws by the fill-up, the response is the whole canvas.
    `path` keeps a line a drawn response, right or wrong, so that a killed run goes on from there. A line counts
    for the question that it answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    items = task.items("train", prompts)
    row_of = {item.id: rows_hash([item])[:8] for item in items}
    cut(path)
    lines = [line for line in read_lines(path, Drawn) if row_of.get(line["item"]) == line["row"]]
    done = {(line["item"], line["sample"]) for line in lines}

    instruction = task.instruction if model.family.chat else ""
    rows = [(item, s) for item in items for s in range(samples) if (item.id, s) not in done]
    whole = model.family.mask_id is not None
    options = drawing(model, task, temperature)

    def drawn(part: list) -> list[tuple[Tensor, int]]:
        """Token ids and length of a batch's responses."""
        asked_of, numbers = [item for item, _ in part], [s for _, s in part]
        out = respond(model, asked_of, options, instruction=instruction, samples=numbers)
        return [(out.responses[i], int(out.lengths[i])) for i in range(len(part))]

    with open(path, "a") as file:
        for start in tqdm(range(0, len(rows), batch), desc=f"trajectories {task.name}", unit="batch"):
            part = rows[start : start + batch]
            found = in_halves(drawn, part, ("trajectories", model.name, task.name, options))
            texts = [model.text(ids, length) for ids, length in found]
            scores = task.score_all([(item, text) for (item, _), text in zip(part, texts, strict=True)])
            for (item, s), (ids, length), score in zip(part, found, scores, strict=True):
                response = ids[: task.max_new_tokens if whole else min(length + 1, task.max_new_tokens)].tolist()
                line = {"item": item.id, "row": row_of[item.id], "sample": s, "correct": score.correct}
                line["response"] = response
                lines.append(line)
                file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    of = {item.id: f"{instruction}{item.prompt}" for item in items}
    right = [line for line in lines if line["correct"]]
    right.sort(key=lambda line: (line["item"], line["sample"]))
    return [(of[line["item"]], line["response"]) for line in right]


def drawing(model: Model, task: Task, temperature: float) -> Options:
    """How a base draws its trajectories: token by token, or by the fill-up four tokens a forward."""
    limit = task.max_new_tokens
    if model.family.mask_id is None:
        return Autoregressive(max_new_tokens=limit, temperature=temperature)
    return Vanilla(canvas=limit, steps=-(-limit // 4), temperature=temperature)


@torch.inference_mode()
def states_of(model: Model, rows: list[tuple[str, list[int]]], batch: int = 64) -> States:
    """Hidden states of the base along (prompt, response ids), computed once; float16 on the CPU."""
    hidden, tokens = [], []
    for start in tqdm(range(0, len(rows), batch), desc="hidden states", unit="batch"):
        states, ids = response_states(model, rows[start : start + batch])
        hidden.append(states.half().cpu())
        tokens.append(ids.cpu())
    return States(torch.cat(hidden), torch.cat(tokens))


@torch.inference_mode()
def sampled_states(model: Model, rows: list[tuple[str, list[int]]], positions: int, seed: int = 0) -> States:
    """As `states_of`, of up to `positions` tokens a response, drawn by chance: a response is computed alone, and
    logits at those positions alone."""
    hidden, tokens = [], []
    for number, (prompt, response) in enumerate(tqdm(rows, desc="hidden states", unit="response")):
        ids, mask = model.encode([prompt])
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        chosen = torch.randperm(len(response), generator=generator)[:positions].sort().values
        said = torch.tensor([response], device=ids.device)
        before = ids.shape[1] - 1 + chosen  # the state that predicts a token is the one before it
        ids, mask = torch.cat([ids, said], 1), torch.cat([mask, torch.ones_like(said)], 1)
        with entering_the_unembedding(model.network) as seen:
            model.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position_ids(mask),
                logits_to_keep=before.to(ids.device),
            )
        hidden.append(seen[0][0].half().cpu())
        tokens.append(said[0].cpu()[chosen])
    return States(torch.cat(hidden), torch.cat(tokens)) if rows else NO_STATES


def response_states(model: Model, rows: list[tuple[str, list[int]]]) -> tuple[Tensor, Tensor]:
    """One forward over (prompt, response ids): states [N, H] that predict the N response tokens, the tokens [N]."""
    ids, mask = model.encode([prompt for prompt, _ in rows])
    width = max(len(response) for _, response in rows)
    responses = torch.full((len(rows), width), model.family.eot_ids[0], device=ids.device)
    real = torch.zeros_like(responses)
    for i, (_, response) in enumerate(rows):
        responses[i, : len(response)] = torch.tensor(response, device=ids.device)
        real[i, : len(response)] = 1
    ids, mask = torch.cat([ids, responses], 1), torch.cat([mask, real], 1)
    with entering_the_unembedding(model.network) as seen:
        model.network(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), logits_to_keep=width + 1)
    kept = real.bool()
    return seen[0][:, :-1][kept], responses[kept]
