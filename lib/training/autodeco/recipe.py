"""How heads are trained: the recipe behind the committed ones, and one for each ablation."""

from dataclasses import dataclass, replace

from lib.autodeco.heads import HEADS
from lib.decoding.options import Options
from lib.models.entries import PUBLISHED
from lib.models.registry import TAUGHT
from lib.training.autodeco.soft import OBJECTIVES


@dataclass(frozen=True)
class Recipe(Options):
    """How heads are trained; loss and masking as published, steps and learning rate for small bases.

    The paper trains 400 steps of 32 sequences at 5e-6 on bases of 7 billion parameters and more: these have its steps
    and rate, and a step's positions are drawn from all sequences.
    train: which heads; the other keeps its first weights, and its setting is 1 in training and in decoding.
    objective: `paper` or `code` (see soft.py). mask_easy: share of the positions where the base's likeliest token
    is right that are left out of the loss. fine_tuning_weights: weigh a position by the base's probability of its
    token. statistics, width, hottest, detach: of the heads, see lib/autodeco/heads.py. steps: on study-ar the loss on
    held-out trajectories falls no further after them.
    """

    objective: str = "code"
    train: tuple[str, ...] = HEADS
    alpha: float = 30.0
    mask_easy: float = 0.6
    fine_tuning_weights: bool = True
    statistics: bool = True
    width: int = 256
    hottest: float = 2.0
    detach: bool = True
    steps: int = 600
    batch: int = 1024
    learning_rate: float = 1e-3
    seed: int = 0

    def check(self) -> None:
        self.require("objective", self.objective in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}")
        self.require(
            "train", bool(self.train) and set(self.train) <= set(HEADS), f"one or both of {', '.join(HEADS)}"
        )
        self.require("alpha", self.alpha > 0, "above 0")
        self.require("mask_easy", 0 <= self.mask_easy < 1, "in [0, 1)")
        self.require("steps", self.steps >= 1, "1 or more")
        self.require("batch", self.batch >= 1, "1 or more")


DEFAULT = Recipe()
# What the ablation tells apart: one change each from the default, which follows the released code.
RECIPES = {
    "study-ar-autodeco": DEFAULT,
    "study-ar-autodeco-1": replace(DEFAULT, seed=1),
    "study-ar-autodeco-2": replace(DEFAULT, seed=2),
    "ar-2m-autodeco": DEFAULT,
    "study-dlm-autodeco": DEFAULT,
    "study-ar-temperature": replace(DEFAULT, train=("temperature",)),
    "study-ar-top-p": replace(DEFAULT, train=("top_p",)),
    "study-ar-paper": replace(DEFAULT, objective="paper"),
    "study-ar-unmasked": replace(DEFAULT, mask_easy=0.0),
    "study-ar-unweighted": replace(DEFAULT, fine_tuning_weights=False),
    "study-ar-soft": replace(DEFAULT, alpha=10.0),
    "study-ar-plain": replace(DEFAULT, statistics=False),
    # Heads of the default's shape that learn from rewards, see reward.py: there stands how.
    "study-ar-reward": DEFAULT,
    "smollm2-135m-reward": DEFAULT,
    # The taught ones then learn to follow commands, see control.py and adapter.py.
    **{f"study-ar-{name}": DEFAULT for name in TAUGHT},
    **{f"smollm2-135m-{name}": replace(DEFAULT, steps=300, batch=256) for name in ("autodeco", *TAUGHT)},
    **{
        f"{base}-{name}": replace(DEFAULT, steps=400, learning_rate=5e-6, **change)
        for base in PUBLISHED
        for name, change in (
            ("autodeco", {}),
            ("temperature", {"train": ("temperature",)}),
            ("top-p", {"train": ("top_p",)}),
            ("control", {}),
        )
    },
}


@dataclass(frozen=True)
class Source:
    """Where a base's trajectories come from: draws for training items of tasks; the right ones are trained on.

    `positions`: how many of a response's, drawn by chance; 0 for all. Long thoughts have more than memory holds.
    """

    tasks: tuple[str, ...]
    prompts: int
    samples: int
    positions: int = 0

    @property
    def evaluations(self) -> int:
        """Responses that are drawn and scored for each task: the budget of a rival that is tuned as much on it."""
        return self.prompts * self.samples


SOURCES = {
    **{
        base: Source(("worded_math", "country_sentences", "graded_functions_2"), prompts=1500, samples=4)
        for base in ("study-ar", "ar-2m")
    },
    "study-dlm": Source(
        ("worded_math", "sudoku9", "country_sentences", "graded_functions_1"), prompts=400, samples=1
    ),
    "smollm2-135m": Source(("instructions", "country_facts"), prompts=600, samples=2),
    # The paper: trajectories for DeepMath-103K, about 6,000 of them; how many were drawn for a problem is not known.
    **{base: Source(("deepmath",), prompts=2500, samples=4, positions=64) for base in PUBLISHED},
}
