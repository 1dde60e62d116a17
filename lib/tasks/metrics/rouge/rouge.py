"""ROUGE of summaries: `compute(predictions=["a b"], references=["a c"])`, means over pairs."""

import datasets
import evaluate

from lib.tasks.metrics import rouge


class Rouge(evaluate.Metric):
    """Predictions and references: a text each."""

    def _info(self):
        features = datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")})
        return evaluate.MetricInfo(description=__doc__, citation="", features=features)

    def _compute(self, predictions, references):
        found = [rouge(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: sum(scores[name] for scores in found) / len(found) for name in found[0]}
