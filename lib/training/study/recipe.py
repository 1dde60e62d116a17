"""What is trained, from what, for how long: the recipe behind the committed weights."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Recipe:
    """One study model. `start` names the model whose weights it begins from, `teacher` the one it imitates.

    `stages`: (first step, mixture of data.py) of each, in order. `suffixes`, `causal`, `corrected`: see
    masked_diffusion.
    `kept`: steps after which the weights are kept, for the trend. `shape`: of lib/models/study.py, if not the name.
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
    stages: tuple[tuple[int, str], ...] = ((0, "drilled"),)
    start: str | None = None
    teacher: str | None = None
    kept: tuple[int, ...] = ()
    shape: str = ""

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, constant, then linear decay over the last 40 %."""
        decay = int(0.6 * self.steps)
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 1.0 if step < decay else max(0.0, (self.steps - step) / (self.steps - decay))
        return self.learning_rate * rise * fall


def same_recipe(stored: dict, recipe: Recipe) -> bool:
    """Whether a stored recipe is this one; a field that was not there yet was at its default."""
    now = asdict(recipe)
    return set(stored) <= set(now) and {f.name: f.default for f in fields(Recipe)} | stored == now


RECIPES = {
    "study-ar": Recipe("study-ar", "next_token", 1700, 2e-3, stages=((0, "tasks"), (800, "drilled"))),
    # Without the causal rows the diffusion model forgot the arithmetic of its start and hardly learned it again.
    "study-dlm": Recipe(
        "study-dlm", "masked_diffusion", 1600, 8e-4, start="study-ar", suffixes=0.5, causal=0.4, warmup=50
    ),
    "study-draft": Recipe("study-draft", "distillation", 1000, 3e-3, teacher="study-ar"),
}

# The second edition's test bed, not yet used: an autoregressive and a mask model of each size, and three seeds of the
# middle one. Steps are what nine minutes of one H200 allowed, equal for all sizes.
TREND = (500, 1000, 2000, 4000)
SIZES = {"2m": 3e-3, "6m": 2e-3, "20m": 1.2e-3}


def _bed() -> dict[str, Recipe]:
    shared = {"batch_size": 192, "sequences": 500_000, "stages": ((0, "bed"),), "warmup": 200}
    recipes = []
    for size, seed in (("6m", 0), ("2m", 0), ("20m", 0), ("6m", 1), ("6m", 2)):
        name, rate = f"{size}-{seed}" if seed else size, SIZES[size]
        more = shared | {"shape": size, "seed": seed}
        recipes.append(Recipe(f"ar-{name}", "next_token", 4200, rate, **more))
        masks = {"start": f"ar-{name}", "suffixes": 0.2, "causal": 0.3, "kept": TREND if name in ("2m", "6m") else ()}
        recipes.append(Recipe(f"dlm-{name}", "masked_diffusion", 5880, rate / 2, **more | masks))
    # The same mask model trained on, as it was and to mend what it wrote: a pair that differs in that alone.
    for name, corrected in (("dlm-6m-on", 0.0), ("corrector-6m", 0.5)):
        masks = {"start": "dlm-6m", "suffixes": 0.2, "causal": 0.3, "corrected": corrected, "seed": 1}
        more = shared | masks | {"shape": "6m", "batch_size": 64, "warmup": 50}
        recipes.append(Recipe(name, "masked_diffusion", 1200, 3e-4, **more))
    return {recipe.name: recipe for recipe in recipes}


BED = _bed()
