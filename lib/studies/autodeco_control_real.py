"""Decoding by command on SmolLM2-135M-Instruct, a model that was trained on language."""

from dataclasses import dataclass

from lib.report import headline
from lib.studies import autodeco_control
from lib.studies.autodeco_control import TAUGHT


@dataclass(frozen=True)
class Study(autodeco_control.Study):
    """The same sentences behind prompts for short texts and behind questions of TriviaQA."""

    items: int = 50
    tasks: tuple[str, ...] = ("instructions", "triviaqa")
    heads: tuple[str, ...] = tuple(f"smollm2-135m-{name}" for name in TAUGHT)

    notebook = "18_autodeco_control_real"

    def headlines(self) -> dict[str, dict]:
        found = {}
        for name, direction in (
            ("control_low_consistency", "low diversity"),
            ("control_high_consistency", "high diversity"),
        ):
            e = self.consistency(direction)
            shares = [100 * x for x in (e.value, e.low, e.high)]
            found[name] = headline(*shares, e.n, "%", self.profile, self.notebook)
        return found
