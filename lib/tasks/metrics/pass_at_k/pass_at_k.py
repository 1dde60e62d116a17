"""pass@k of 0/1 judgements: `compute(predictions=[[1, 0, 0], ...], k=[1, 2])`."""

import datasets
import evaluate

from lib.tasks.metrics import pass_at_k


class PassAtK(evaluate.Metric):
    """Predictions: a list of 0 and 1 per item, one for each response. References are ignored."""

    def _info(self):
        features = datasets.Features({"predictions": datasets.Sequence(datasets.Value("int64"))})
        return evaluate.MetricInfo(description=__doc__, citation="", features=features)

    def _compute(self, predictions, k=(1,)):
        return {
            f"pass@{each}": sum(pass_at_k(len(p), sum(p), each) for p in predictions) / len(predictions) for each in k
        }
