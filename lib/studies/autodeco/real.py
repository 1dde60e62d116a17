"""The same comparison on SmolLM2-135M-Instruct and benchmarks that others made: IFEval and TriviaQA."""

from dataclasses import dataclass

from lib.studies.autodeco import scores as autodeco_scores


@dataclass(frozen=True)
class Study(autodeco_scores.Study):
    """A real instruction model; its heads learned on prompts of our own (lib/tasks/instructions.py) and facts."""

    items: int = 60

    samples: int = 1
    tasks: tuple[str, ...] = ("ifeval", "triviaqa")
    model: str = "smollm2-135m"
    heads: str = "smollm2-135m-autodeco"

    notebook = "17_autodeco_real"
