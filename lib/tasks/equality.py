"""Whether two answers of mathematics are the same, by `math-verify`, from any thread."""

import logging
import re
import subprocess
import sys
import threading


def equal(reference: str, answer: str) -> bool:
    """math-verify's time limit is an alarm, which Python gives to its main thread alone: in another one plain numbers
    need no limit, and all else goes to a process of its own."""
    if threading.current_thread() is threading.main_thread():
        return _verified(reference, answer)
    if re.fullmatch(r"-?[\d.]{1,40}", answer):
        return _verified(reference, answer, limited=False)
    call = f"from math_verify import parse, verify; print(verify(parse({reference!r}), parse({answer!r})))"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", call], capture_output=True, text=True)
    return found.stdout.strip() == "True"


def _verified(reference: str, answer: str, limited: bool = True) -> bool:
    from math_verify import parse, verify  # imported late: it takes a second

    if limited:
        return verify(parse(reference), parse(answer))
    for part in ("parser", "grader"):  # which warn that there is no limit
        logging.getLogger(f"math_verify.{part}").setLevel(logging.ERROR)
    parsed = [parse(text, parsing_timeout=None) for text in (reference, answer)]
    return verify(*parsed, timeout_seconds=None)
