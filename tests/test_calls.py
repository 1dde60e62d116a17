"""Every bad call of `make torture` ends in one line, and every one with a plain meaning does what was meant."""

import pytest
from transformers.utils import logging

from lib.bench.reliability.calls import _equal, _refused, cases
from lib.errors import UserError

CASES = {case.name: case for case in cases()}


@pytest.mark.parametrize("name", CASES)
def test_a_call(name, tmp_path):
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # of what `generate` says before it calls us
    try:
        CASES[name].check(tmp_path)
    finally:
        logging.set_verbosity(verbosity)


def test_there_are_enough_and_no_two_of_a_name():
    assert len(CASES) == len(list(cases())) >= 60 and all(name.startswith("call: ") for name in CASES)


def _raise(error: Exception):
    raise error


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: None, "let in"),
        (lambda: _raise(ValueError("x")), "raw ValueError"),
        (lambda: _raise(UserError("one\ntwo: the cure")), "not one line"),
        (lambda: _raise(UserError("something else")), "does not say"),
    ],
)
def test_a_case_notices(call, why, tmp_path):
    with pytest.raises(AssertionError, match=why):
        _refused(call, "the cure")(tmp_path)


def test_a_case_notices_another_result(tmp_path):
    with pytest.raises(AssertionError, match="is not"):
        _equal(lambda: 1, lambda: 2)(tmp_path)
