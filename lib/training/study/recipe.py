"""What is trained, from what, for how long: the recipe behind the committed weights."""

from dataclasses import asdict, dataclass, fields

from lib.models.trend import STEPS


@dataclass(frozen=True)
class Recipe:
    """One study model. `start` names the model whose weights it begins from, `teacher` the one it imitates.

    `suffixes`, `causal`, `corrected`: see masked_diffusion. `kept`: steps after which the weights are kept, for the
    trend. `shape`: of lib/models/study.py.
    """

    name: str
    objective: str
    steps: int
    learning_rate: float
    batch_size: int = 64
    warmup: int = 100
    weight_decay: float = 0.1
    seed: int = 0
    sequences: int = 100_000
    suffixes: float = 0.0
    causal: float = 0.0
    corrected: float = 0.0
    start: str | None = None
    teacher: str | None = None
    kept: tuple[int, ...] = ()
    shape: str = "draft"

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, constant, then linear decay over the last 40 %."""
        decay = int(0.6 * self.steps)
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 1.0 if step < decay else max(0.0, (self.steps - step) / (self.steps - decay))
        return self.learning_rate * rise * fall


def same_recipe(stored: dict, recipe: Recipe) -> bool:
    """Whether a stored recipe is this one, in JSON too; a field that was not there yet was at its default."""
    stored = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    now = asdict(recipe)
    return set(stored) <= set(now) and {f.name: f.default for f in fields(Recipe)} | stored == now


SIZES = {"draft": 3e-3, "2m": 3e-3, "6m": 2e-3, "20m": 1.2e-3}
ALIKE = {"batch_size": 192, "sequences": 500_000, "warmup": 200}
LESS = {"batch_size": 64, "sequences": 250_000}  # what a core takes two hours for


def _next_token(name: str, shape: str, seed: int = 0, steps: int = 4200, **others) -> Recipe:
    return Recipe(name, "next_token", steps, SIZES[shape], shape=shape, seed=seed, **ALIKE | others)


def _masks(name: str, shape: str, start: str, seed: int = 0, steps: int = 5880, **others) -> Recipe:
    # Without causal rows a diffusion model forgets the arithmetic of its start and hardly learns it again.
    masks = {"start": start, "suffixes": 0.2, "causal": 0.3} | others
    return Recipe(name, "masked_diffusion", steps, SIZES[shape] / 2, shape=shape, seed=seed, **ALIKE | masks)


def _on(name: str, corrected: float) -> Recipe:
    """study-dlm trained on for a while, as it was or to mend what it wrote: a pair that differs in that alone."""
    masks = {"start": "study-dlm", "suffixes": 0.2, "causal": 0.3, "corrected": corrected, "seed": 1}
    sizes = {"batch_size": 64, "sequences": 500_000, "warmup": 50}
    return Recipe(name, "masked_diffusion", 1200, 3e-4, shape="6m", **sizes | masks)


def _by_name(*recipes: Recipe) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in recipes}


# The models that the pages are made with.
RECIPES = _by_name(
    _next_token("study-ar", "6m"),
    _masks("study-dlm", "6m", "study-ar", kept=(500, 1000, 2000, 4000)),
    Recipe("study-draft", "distillation", 2000, 3e-3, teacher="study-ar", shape="draft", **ALIKE),
    _next_token("ar-2m", "2m"),
    _on("study-corrector", 0.5),
)
# Those of the trend with capability, whose weights are not all committed: other sizes and seeds, and what
# they were after these steps. Steps are what some minutes of a GPU allowed, fewer for the largest, and the
# smallest of a processor.
TREND = _by_name(
    _on("study-dlm-on", 0.0),
    _masks("dlm-2m", "2m", "ar-2m", kept=STEPS),
    _next_token("ar-600k", "draft", seed=3, **LESS),
    _masks("dlm-600k", "draft", "ar-600k", seed=3, **LESS),
    _next_token("ar-6m-1", "6m", seed=1),
    _masks("dlm-6m-1", "6m", "ar-6m-1", seed=1, kept=STEPS),
    _next_token("ar-6m-2", "6m", seed=2),
    _masks("dlm-6m-2", "6m", "ar-6m-2", seed=2),
    _next_token("ar-20m", "20m", steps=3000),
    _masks("dlm-20m", "20m", "ar-20m", kept=STEPS, steps=4000),
)
