"""Heads trained by reward in the place of likelihood: is the objective the cause of what AutoDeco's heads do?

A step draws a group of responses to each of a few training questions, at settings that the policy around the heads
chooses token by token (policy.py); the task's scorer is the reward, and the heads follow the policy gradient. No
right answer is shown, and no item but those of the training split is asked. The base stays as it is. Heads begin at
one constant setting, not at likelihood's, and lie in the same files, so that decoding takes them as any others.

Adaptive decoding by reward has been done by preference between responses (2411.09661, latent preference optimisation)
and by REINFORCE with a reward at the end (2603.09065), which this is nearer to.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lib.autodeco.heads import Heads, HeadsConfig
from lib.autodeco.model import fingerprint
from lib.decoding.autoregressive import Next, loop
from lib.decoding.distributions import categorical, warp
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.models.registry import Model
from lib.running.respond import encoded
from lib.tasks.base import Item, Task, rows_hash
from lib.training.autodeco.policy import (
    Drawn,
    Policy,
    advantages,
    choices,
    log_policy,
    policy_loss,
    seen_by_top_p,
    tempered,
    token_log_probs,
)
from lib.training.autodeco.recipe import Recipe
from lib.training.optimise import optimise

SETTINGS = 1  # random stream of the choice of settings; the tokens' is 0
SAVE_EVERY = 10


@dataclass(frozen=True)
class Reward(Policy):
    """A step asks `questions` of one task, the tasks in turn, `samples` times each, out of the first `prompts`
    training items. temperature, top_p: what heads say everywhere before they learn."""

    steps: int = 300
    questions: int = 16
    samples: int = 8
    prompts: int = 1500
    learning_rate: float = 1e-3
    temperature: float = 1.0
    top_p: float = 0.95
    seed: int = 0

    def check(self) -> None:
        super().check()
        for name in ("steps", "questions", "prompts"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        self.require("questions", self.questions <= self.prompts, f"at most prompts, {self.prompts}")
        self.require("samples", self.samples >= 2, "2 or more, for a response is compared with the others")
        self.require("learning_rate", self.learning_rate > 0, "above 0")
        self.require("temperature", self.temperature > 0, "above 0")
        self.require("top_p", 0 < self.top_p < 1, "in (0, 1)")

    @property
    def responses(self) -> int:
        """Responses that are drawn and scored, of all tasks together."""
        return self.steps * self.questions * self.samples

    def evaluations(self, tasks: int) -> int:
        """Those for each of so many tasks, as of `Source`; where turns are uneven, of the one that is asked least."""
        return self.steps // tasks * self.questions * self.samples


REWARDS = {
    "study-ar-reward": Reward(),
    "smollm2-135m-reward": Reward(steps=60, questions=4, prompts=600),
}


def first_heads(size: int, recipe: Recipe, reward: Reward) -> Heads:
    """Heads of the recipe's shape for states of `size` that say reward.temperature and reward.top_p everywhere.

    Raises UserError for a temperature that the heads cannot say.
    """
    if reward.temperature >= recipe.hottest:
        raise UserError(
            f"Reward.temperature must be below {recipe.hottest}, the recipe's hottest, not {reward.temperature}"
        )
    torch.manual_seed(reward.seed)
    shape = {"hottest": recipe.hottest, "statistics": recipe.statistics, "detach": recipe.detach}
    config = HeadsConfig(size, recipe.width, heads=recipe.train, **shape)
    return Heads.saying(config, reward.temperature, reward.top_p)


def draw_group(
    model: Model, heads: Heads, task: Task, items: list[Item], reward: Reward, step: int
) -> tuple[Drawn, Tensor]:
    """`reward.samples` responses to each of `items`: their N tokens, and the scores [items, samples] in {0, 1}.

    Random numbers come from (seed, step, item, sample, token).
    """
    asked = [item for item in items for _ in range(reward.samples)]
    numbers = list(range(reward.samples)) * len(items)
    ids, mask = encoded(model, asked, task.instruction if model.family.chat else "")
    generator = RowGenerator.of(reward.seed * 1_000_003 + step, [item.id for item in asked], numbers)
    temperatures, top_ps = choices(heads, reward, ids.device)
    steps: list[tuple[Tensor, ...]] = []

    def choose(at: Next) -> tuple[Tensor, dict]:
        hidden, rows = at.hidden.float(), torch.arange(len(at.rows), device=at.rows.device)
        scaled, probs = tempered(at.logits, temperatures)
        seen = seen_by_top_p(heads, temperatures, scaled, probs)
        log_t, log_p = log_policy(heads, hidden, seen, reward)
        uniform = generator.uniform(at.step, SETTINGS, 2, at.rows.device)[at.rows]
        k = categorical(log_t.exp(), uniform[:, 0])
        j = categorical(log_p[rows, k].exp(), uniform[:, 1])
        tokens = categorical(warp(at.logits, temperatures[k], top_ps[j]), at.uniform)
        likely = token_log_probs(probs, top_ps, tokens)
        steps.append((hidden, seen, torch.stack([k, j], -1), likely, at.rows, torch.full_like(at.rows, at.step)))
        return tokens, {}

    given = {"generator": generator, "family": model.family, "attention_mask": mask}
    out = loop(model.network, ids, choose, task.max_new_tokens, **given)
    texts = [model.text(out.responses[i], int(out.lengths[i])) for i in range(len(asked))]
    scores = task.score_all(list(zip(asked, texts, strict=True)))
    *parts, response, place = (torch.cat(part).clone() for part in zip(*steps, strict=True))
    made = out.trace.target_forwards.to(response.device)
    there = place < made[response]  # an accelerator goes on for a while with rows that have ended
    rewards = torch.tensor([float(score.correct) for score in scores]).view(len(items), reward.samples)
    return Drawn(*(part[there] for part in parts), response[there]), rewards


def train_by_reward(
    model: Model, heads: Heads, tasks: list[Task], reward: Reward, folder: Path, device: str = "cpu"
) -> tuple[list[dict], float]:
    """Train `heads` on `model`, in place; returns (curve, seconds). Every tenth step is a row of the curve: the loss,
    the mean reward of its responses, and the mean T and P that the heads say along them.

    `folder` keeps the state, so that a killed run goes on to the same heads. Raises UserError for a task with fewer
    training items than a step asks.
    """
    pools = [task.items("train", reward.prompts) for task in tasks]
    for task, items in zip(tasks, pools, strict=True):
        if len(items) < reward.questions:
            raise UserError(
                f"{task.name} has {len(items) or 'no'} training items, and a step asks {reward.questions}: "
                "take a task with more, or fewer questions"
            )
    for name, head in (("temperature", heads.temp_head), ("top_p", heads.top_p_head)):
        head.requires_grad_(name in heads.config.heads)

    def loss_at(step: int) -> tuple[Tensor, dict]:
        task, items = tasks[step % len(tasks)], pools[step % len(tasks)]
        chooser = random.Random(f"{reward.seed}/{step}")
        asked = chooser.sample(items, reward.questions)
        drawn, rewards = draw_group(model, heads, task, asked, reward, step)
        advantage = advantages(rewards, reward.scaled).flatten().to(drawn.hidden.device)
        loss = policy_loss(heads, drawn, advantage, reward)
        return loss, {"reward": rewards.mean().item(), **_said(heads, drawn)}

    rows = [[task.name, rows_hash(items)] for task, items in zip(tasks, pools, strict=True)]
    key = json.dumps([reward.to_dict(), repr(heads.config), fingerprint(model.network), rows])
    given = {"steps": reward.steps, "learning_rate": reward.learning_rate, "path": folder / "reward.pt", "key": key}
    curve, seconds = optimise(loss_at, {"heads": heads}, device=device, every=SAVE_EVERY, **given)
    heads.requires_grad_(False).eval()
    return curve, seconds


@torch.no_grad()
def _said(heads: Heads, drawn: Drawn) -> dict[str, float]:
    """The mean T of the heads along drawn tokens, and the mean P at the temperatures that were chosen there."""
    found = {"temperature": heads.temperature(drawn.hidden).mean().item(), "top_p": 1.0}
    if "top_p" in heads.config.heads:
        seen = drawn.seen[torch.arange(len(drawn.seen), device=drawn.seen.device), drawn.chosen[:, 0]]
        said = heads.top_p_head(torch.cat([drawn.hidden, seen], -1)).squeeze(-1)
        found["top_p"] = torch.sigmoid(said).mean().item()
    return found
