"""`python -m lib.training.mtad`: distil a draft from a target on text that the target writes."""

import argparse
import json
import random
import sys
from dataclasses import asdict, dataclass, field
from hashlib import sha256

import torch
from torch import Tensor

from lib.decoding.options import Options
from lib.errors import exit_status, require_known
from lib.models.cards import write as write_card
from lib.models.distilled import DistilledDraft
from lib.models.registry import Model, entry_of, load
from lib.paths import BUILD, CHECKPOINTS
from lib.running.cost import device_name
from lib.running.identity import digest_of
from lib.training.cards import known
from lib.training.mtad.text import Text, Written, write
from lib.training.optimise import optimise

HELD_OUT = 20  # one answer in so many is kept for the curve


@dataclass(frozen=True)
class Distil(Options):
    """layers: of the target, which the draft begins as. vocabulary: tokens that it can say. answers: a step."""

    text: Text = field(default_factory=Text)
    layers: tuple[int, ...] = (0, 29)
    vocabulary: int = 8192
    steps: int = 600
    answers: int = 16
    learning_rate: float = 8e-4
    seed: int = 0

    def check(self) -> None:
        for name in ("vocabulary", "steps", "answers"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        half = sum(count for _, count in self.text.questions) // 2  # some of the other half is held out
        self.require("answers", self.answers <= half, f"{half} or less, half of the questions of the text")
        self.require("learning_rate", self.learning_rate > 0, "above 0")


RECIPES = {"smollm2-draft": Distil()}


def train_all(names: list[str]) -> None:
    require_known("draft", names, RECIPES)
    for name in names:
        train(name, RECIPES[name], "cuda" if torch.cuda.is_available() else "cpu")


def train(name: str, recipe: Distil, device: str = "cpu") -> None:
    """Write the text, distil, save into results/checkpoints; goes on after a kill."""
    target = load(entry_of(name).base, device, torch.float32)
    work = BUILD / "mtad" / f"{name}-{digest_of(asdict(recipe.text))}"
    rows = write(target, recipe.text, work)
    learned, unseen = split(rows)
    vocabulary = likeliest(learned, recipe.vocabulary, target.network.config.vocab_size)
    draft = DistilledDraft.cut(target.network, recipe.layers, vocabulary)
    curve, seconds = distil(draft, learned, unseen, target, recipe, work, device)
    folder = CHECKPOINTS / name
    draft.save(folder)
    measured = {"answers": len(rows), "tokens": sum(len(row.response) for row in rows)}
    measured |= {"seconds": round(seconds, 1), "device": device_name(device)}
    for file, value in (("recipe", asdict(recipe)), ("measured", measured)):
        (folder / f"{file}.json").write_text(json.dumps(value, indent=2) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    write_card(folder, known(name, folder))


def split(rows: list[Written]) -> tuple[list[Written], list[Written]]:
    """Answers to learn from and answers held out; all to one question are on one side."""
    kept: tuple[list, list] = ([], [])
    for row in rows:
        kept[sha256(str(row.prompt).encode()).digest()[0] % HELD_OUT == 0].append(row)
    return kept


def likeliest(rows: list[Written], size: int, total: int) -> Tensor:
    """The `size` tokens of `total` with most of the target's probability along the text, ids sorted; where too few
    have any, those of lowest id, which a byte-pair vocabulary merged first."""
    tokens = torch.cat([row.tokens for row in rows]).flatten().long()
    mass = torch.zeros(total, dtype=torch.float64)
    mass.scatter_add_(0, tokens, torch.cat([row.logprobs for row in rows]).flatten().double().exp())
    order = torch.argsort(mass, descending=True, stable=True)
    return order[:size].sort().values


def distil(draft, learned, unseen, target: Model, recipe: Distil, folder, device: str):
    """Minimise the divergence from the target's likeliest tokens at every position of its answers."""
    draft.model.embed_tokens.requires_grad_(False)
    place = torch.full((draft.config.vocab_size,), -1, device=device)
    place[draft.vocabulary] = torch.arange(len(draft.vocabulary), device=device)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        chooser = random.Random(recipe.seed * 1_000_003 + step)
        loss, accepted = divergence(draft, chooser.sample(learned, recipe.answers), target, place)
        shown = {"acceptance": accepted.item()}
        if unseen and (step + 1) % 100 == 0:
            with torch.no_grad():
                held = [
                    divergence(draft, unseen[i : i + 16], target, place) for i in range(0, min(len(unseen), 64), 16)
                ]
            shown["held_out_acceptance"] = sum(a.item() for _, a in held) / len(held)
        return loss, shown

    return optimise(
        loss_at,
        {"layers": draft.model.layers, "norm": draft.model.norm},
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        path=folder / f"draft-{digest_of(asdict(recipe))}.pt",
        key=json.dumps(asdict(recipe), sort_keys=True),
        device=device,
    )


def divergence(draft: DistilledDraft, rows: list[Written], target: Model, place: Tensor) -> tuple[Tensor, Tensor]:
    """KL(target, draft) and sum of min(p, q), means over the response positions of some answers.

    p is the target's distribution over its stored tokens, for KL renormalised over those that the draft can say. Sum
    of min(p, q) over the stored tokens is at most the share that speculative decoding would accept at temperature 1.
    """
    device = place.device
    width = max(len(row.prompt) + len(row.response) for row in rows)
    ids = torch.full((len(rows), width), target.family.eot_ids[0])
    at = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        whole = torch.cat([torch.tensor(row.prompt), row.response])
        ids[i, : len(whole)] = whole
        at[i, len(row.prompt) - 1 : len(whole) - 1] = True  # a position predicts the token after it
    states = draft.model(input_ids=ids.to(device), use_cache=False).last_hidden_state[at.to(device)]
    log_q = draft.small_logits(states).float().log_softmax(-1)
    tokens = place[torch.cat([row.tokens for row in rows]).long().to(device)]
    p = torch.cat([row.logprobs for row in rows]).to(device).float().exp() * (tokens >= 0)
    mass = p.sum(-1, keepdim=True)
    log_q = log_q.gather(-1, tokens.clamp(min=0))
    accepted = torch.minimum(p, log_q.exp()).sum(-1).mean().detach()
    p = p / mass.clamp(min=1e-6)
    return -(p * log_q).sum(-1).mean() + torch.special.xlogy(p, p).sum(-1).mean(), accepted


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.training.mtad", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES)}; all if none is named")
    names = parser.parse_args(arguments).names or list(RECIPES)
    return exit_status(lambda: train_all(names))


if __name__ == "__main__":
    sys.exit(main())
