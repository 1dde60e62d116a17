"""The metrics: against enumeration, and as `evaluate` modules without a network."""

from itertools import combinations

import pytest

from lib.tasks import metrics


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)  # read once, on import


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_response(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations([1] * c + [0] * (n - c), k))
            assert metrics.pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_many_responses():
    assert metrics.pass_at_k(10_000, 1, 1) == pytest.approx(1e-4)
    assert metrics.pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5)
    assert metrics.pass_at_k(10_000, 9_000, 1_001) == 1.0


@pytest.mark.parametrize("n, c, k", [(2, 1, 3), (2, 1, 0), (2, 3, 1), (2, -1, 1), (0, 0, 1)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError):
        metrics.pass_at_k(n, c, k)


def test_accuracy():
    assert metrics.accuracy([1, 0, 0, 1]) == 0.5
    with pytest.raises(ValueError):
        metrics.accuracy([])


def test_evaluate_modules_agree():
    responses = [[1, 0, 0], [0, 0, 0, 0], [1, 1]]
    expected = {
        f"pass@{k}": pytest.approx(sum(metrics.pass_at_k(len(r), sum(r), k) for r in responses) / 3) for k in (1, 2)
    }
    module = metrics.load("pass_at_k")
    assert module.compute(predictions=responses, k=[1, 2]) == expected
    assert module.compute(predictions=responses, references=[0, 0, 0]) == {"pass@1": expected["pass@1"]}
    with pytest.raises(ValueError, match="pass@3"):
        module.compute(predictions=responses, k=[3])
    assert metrics.load("accuracy").compute(predictions=[1, 0, 1]) == {"accuracy": pytest.approx(2 / 3)}


def test_relative_path_loads(monkeypatch, request):
    import evaluate

    monkeypatch.chdir(request.config.rootpath)
    assert evaluate.load("lib/tasks/metrics/pass_at_k").compute(predictions=[[1, 0]]) == {"pass@1": 0.5}


@pytest.mark.parametrize(
    "prediction, reference, one, two, long, lines",
    [
        ("The cat sat.", "the cat sat", 1, 1, 1, 1),
        ("", "the cat", 0, 0, 0, 0),
        ("sat cat the", "the cat sat", 1, 0, 1 / 3, 1 / 3),
        ("a b\nc d", "c d\na b", 1, 2 / 3, 1 / 2, 1),
        ("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 8 / 15, 2 / 13, 8 / 15, 8 / 15),
        ("the the the", "the cat", 2 / 5, 0, 2 / 5, 2 / 5),
    ],
)
def test_rouge(prediction, reference, one, two, long, lines):
    """The last but one is Lin's example of the union of lines: four of the reference's five words, of ten."""
    expected = {"rouge1": one, "rouge2": two, "rougeL": long, "rougeLsum": lines}
    assert metrics.rouge(prediction, reference) == pytest.approx(expected)


def test_the_evaluate_module_of_rouge_is_the_mean():
    pairs = [("a b", "a c"), ("d", "d")]
    found = metrics.load("rouge").compute(predictions=[a for a, _ in pairs], references=[b for _, b in pairs])
    assert found == pytest.approx({k: (metrics.rouge(*pairs[0])[k] + 1) / 2 if k != "rouge2" else 0 for k in found})
