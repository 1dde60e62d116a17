"""Choosing tau and gamma for SmolLM2 and its distilled draft, where the draft is at home."""

from dataclasses import dataclass, replace

from lib.running.run import Run
from lib.studies.mtad import tau as mtad_tau


@dataclass(frozen=True)
class Study(mtad_tau.Study):
    """As of the study models, on another pair. `tokens`: the length limit.

    Of a validation item there is one response, of a test item `samples`.
    """

    items: int = 100

    samples: int = 1
    tasks: tuple[str, ...] = ("instructions",)
    model: str = "smollm2-135m"
    draft: str = "smollm2-draft"
    taus: tuple[float, ...] = (0.05, 0.1, 0.3, 0.6)
    gammas: tuple[int, ...] = (3,)
    tokens: int = 64

    notebook = "37_mtad_tau_real"

    def _on(self, split: str, short: str, method: str, options: dict) -> Run:
        run = super()._on(split, short, method, options | {"max_new_tokens": self.tokens})
        return run if split == "test" else replace(run, samples=1)
