"""HumanEval's programs as lm-eval makes them, prompt and response, judged by the row's tests in the sandbox.

lm-eval's own task runs them in a thread of a process with the rights of whoever started it, by a metric that it
fetches from the hub. Needs ALLOW_CODE_EXECUTION=1, see lib/tasks/sandbox.py.
"""

from lib.tasks.unit_tests import UnitTest, verdicts


def verdicts_of(resps: list[list[str]], docs: list[dict]) -> list[list[bool]]:
    """Whether each response of each document passes, all in one call of the sandbox."""
    docs = list(docs)
    tests = [
        UnitTest(doc["task_id"], doc["entry_point"], doc["prompt"] + doc["canonical_solution"], doc["test"])
        for doc in docs
    ]
    pairs = [
        (test, doc["prompt"] + text) for test, doc, texts in zip(tests, docs, resps, strict=True) for text in texts
    ]
    passed = iter(verdicts(pairs))
    return [[next(passed)[0] for _ in texts] for texts in resps]


def pass_at_1(doc: dict, results: list[list[bool]]) -> dict:
    """The share of a document's samples that pass, of which the mean is the unbiased pass@1."""
    return {"pass@1": sum(results[0]) / len(results[0])}
