"""Accuracy of 0/1 judgements: `compute(predictions=[1, 0, 1])`."""

import datasets
import evaluate

from lib.tasks.metrics import accuracy


class Accuracy(evaluate.Metric):
    """Predictions: 0 or 1 per item. References are ignored."""

    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64")})
        return evaluate.MetricInfo(description=__doc__, citation="", features=features)

    def _compute(self, predictions):
        return {"accuracy": accuracy(predictions)}
