"""Decoding by command on SmolLM2-135M-Instruct, a model that was trained on language."""

from dataclasses import dataclass

from lib.reporting.claims import CLAIM
from lib.reporting.result_folder import headline
from lib.studies.autodeco import control as autodeco_control
from lib.studies.autodeco.commands import TEACHINGS


@dataclass(frozen=True)
class Study(autodeco_control.Study):
    """The same sentences behind prompts for short texts and behind questions of TriviaQA."""

    items: int = 50
    tasks: tuple[str, ...] = ("instructions", "triviaqa")
    heads: tuple[str, ...] = tuple(f"smollm2-135m-{name}" for name in TEACHINGS)

    notebook = "18_autodeco_control_real"
    kind = CLAIM

    def headlines(self) -> dict[str, dict]:
        """How consistently the temperature follows, by the heads taught as in the paper."""
        found = {}
        for name in ("low", "high"):
            e = self.consistency(self.heads[1], f"{name} diversity", "temperature")
            entry = headline(e.value, e.low, e.high, e.n, "%", self.profile, self.notebook)
            found[f"control_{name}_consistency"] = entry
        return found
