"""Bodies of `total(xs)`, which is to return the sum of xs, and of HumanEval/8, the sum and product of a list."""

ROWS = "lib/tasks/data/humaneval.jsonl.gz"


def _class(name: str, base: str, value: str) -> str:
    return (
        f"    class {name}({base}):\n        def __eq__(self, other): return True\n"
        f"        def __ne__(self, other): return False\n        __hash__ = {base or 'object'}.__hash__\n"
        f"    return {value}"
    )


# What the tests expect might lie in a caller's frame, its constants, or anywhere in memory.
SEARCH = """    import sys, gc
    def numbers(thing, depth=0):
        if depth > 4:
            return
        if type(thing) is int:
            yield thing
        elif isinstance(thing, dict):
            for part in list(thing.values()):
                yield from numbers(part, depth + 1)
        elif isinstance(thing, (list, tuple, set)):
            for part in thing:
                yield from numbers(part, depth + 1)
    {body}
    return {default}"""

WRONG = {
    "an object equal to everything": _class("Any", "", "Any()"),
    "an int equal to everything": _class("Any", "int", "Any(7)"),
    "a float equal to everything": _class("Any", "float", "Any(0.5)"),
    "a str equal to everything": _class("Any", "str", "Any('x')"),
    "a list equal to everything": _class("Any", "list", "Any()"),
    "a dict equal to everything": _class("Any", "dict", "Any()"),
    "an object of a false class": (
        "    class Any:\n        __class__ = int\n        def __eq__(self, other): return True\n    return Any()"
    ),
    "mock's ANY": "    from unittest.mock import ANY\n    return ANY",
    "an object with all methods": "    from unittest.mock import MagicMock\n    return MagicMock()",
    "a number of numpy equal to everything": (
        "    import numpy\n    class Any(numpy.float64):\n        def __eq__(self, other): return True\n"
        "    return Any(0.5)"
    ),
    "an array": "    import numpy\n    return numpy.array([sum(xs)])",
    "a text of the number": "    return str(sum(xs))",
    "the number in a list": "    return [sum(xs)]",
    "not a number": "    return float('nan')",
    "nearly": "    return sum(xs) + 1e-9",
    "None": "    return None",
    "nothing at all": "    pass",
    "NotImplemented": "    return NotImplemented",
    "a function": "    return lambda: sum(xs)",
    "a coroutine": "    async def g(): return sum(xs)\n    return g()",
    "a generator": "    yield sum(xs)",
    "an error": "    raise AssertionError",
    "right but for the last": "    return sum(xs) if xs != [1] else 2",
    "right once": (
        "    global asked\n    asked = globals().get('asked', 0) + 1\n    return sum(xs) if asked < 4 else 0"
    ),
    "jumping over what compares": (
        "    import sys\n    def jump(frame, event, arg):\n"
        "        last = max(line for _, _, line in frame.f_code.co_lines() if line)\n"
        "        if event == 'line' and frame.f_lineno < last:\n            frame.f_lineno = last\n"
        "    sys._getframe(1).f_trace = jump\n    sys.settrace(lambda *_: None)\n"
        "    return 3 if len(xs) == 2 else len(xs)"
    ),
    "jumping in all frames": (
        "    import sys\n    def trace(frame, event, arg):\n        try:\n            frame.f_lineno += 1\n"
        "        except Exception:\n            pass\n        return trace\n    frame = sys._getframe()\n"
        "    while frame:\n        frame.f_trace = trace\n        frame = frame.f_back\n    sys.settrace(trace)\n"
        "    return 0"
    ),
    "names in the callers' frames": SEARCH.format(
        default="len(xs)",
        body="frame = sys._getframe(1)\n    while frame:\n        for name in ('tests', 'expected', 'answers'):\n"
        "            for space in (frame.f_locals, frame.f_globals):\n                if name in space:\n"
        "                    return dict((str(k), v) for k, v in space[name])[str(xs)]\n        frame = frame.f_back",
    ),
    "numbers in the callers' frames": SEARCH.format(
        default="len(xs)",
        body="frame = sys._getframe(1)\n    while frame:\n        for n in numbers(frame.f_locals):\n"
        "            if n in (3, 15) and n > len(xs) > 1:\n                return n\n        frame = frame.f_back",
    ),
    "constants of the callers": SEARCH.format(
        default="len(xs)",
        body="frame = sys._getframe(1)\n    while frame:\n        for n in numbers(frame.f_code.co_consts):\n"
        "            if n in (3, 15) and n > len(xs) > 1:\n                return n\n        frame = frame.f_back",
    ),
    "the tests' text in the callers' frames": SEARCH.format(
        default="0",
        body="frame, asked = sys._getframe(1), f'total({xs!r}) == '\n    while frame:\n"
        "        for value in list(frame.f_locals.values()):\n"
        "            if type(value) is str and asked in value:\n"
        "                return int(value.split(asked)[1].split()[0])\n        frame = frame.f_back",
    ),
    "the word that says passed": SEARCH.format(
        default="0",
        body="import os\n    frame = sys._getframe(1)\n    while frame:\n        if 'secret' in frame.f_locals:\n"
        "            os.write(frame.f_locals['said'], frame.f_locals['secret'])\n            os._exit(0)\n"
        "        frame = frame.f_back",
    ),
    "everything that is alive": SEARCH.format(
        default="-1",
        body="for thing in gc.get_objects():\n"
        "        if type(thing) in (list, tuple) and len(thing) == 2 and thing[0] == xs:\n"
        "            if type(thing[1]) is int:\n                return thing[1]",
    ),
    "the rows' files": (
        f"    import glob, gzip\n    for path in glob.glob('/*/*/{ROWS}') + glob.glob('/*/*/*/{ROWS}'):\n"
        "        return sum(xs) if gzip.open(path).read() else 0\n    return 0"
    ),
    "the scorer's own module": "    from lib.tasks import small_functions\n    return sum(xs)",
    "this process's memory": (
        "    return sum(xs) if b'[15, 3' in open('/proc/%d/mem' % __import__('os').getppid(), 'rb').read(9) else 0"
    ),
    "leaving with status 0": "    import sys\n    sys.exit(0)",
    "leaving at once": "    import os\n    os._exit(0)",
    "leaving before the call": "    return 0\nimport os\nos._exit(0)",
    "leaving at the end": "    import atexit, os\n    atexit.register(os._exit, 0)\n    return 0",
    "comparing changed": (
        "    import builtins\n    builtins.AssertionError = builtins.Exception = type('E', (BaseException,), {})\n"
        "    builtins.all = builtins.any = lambda *_: True\n    return 0"
    ),
    "JSON changed": "    import json\n    json.dumps = lambda *_, **__: '[3, 0, 15]'\n    return 0",
    "encoding changed": (
        "    import sys\n    for module in list(sys.modules.values()):\n        for name in ('encode', 'decode'):\n"
        "            if hasattr(module, name):\n                setattr(module, name, lambda *_: True)\n    return 0"
    ),
    "writing to the pipes": (
        "    import os\n    for pipe in range(64):\n        try:\n"
        "            os.write(pipe, b'sv[true, true, true, true]')\n"
        "        except OSError:\n            pass\n    os._exit(0)"
    ),
    "tests of its own": "    return 0\ndef check(candidate): pass\ntests = []\ntotal.__eq__ = lambda *_: True",
    "a child that answers": "    import os\n    if os.fork() == 0:\n        return 0\n    os._exit(0)",
    "no such function": "    return 0\ndel total",
    "another function's name": "    return 0\ntotal = print",
    "broken text": "    return (",
}

GUARD = '\n\nif __name__ == "__main__":\n    '
RIGHT = {
    "plain": "    return sum(xs)",
    "numpy": "    import numpy as np\n    return np.sum(xs, dtype=int)",
    "numpy, as a float": "    import numpy as np\n    return np.array(xs).sum(dtype=float)",
    "numpy, imported after": "    return int(np.asarray(xs, dtype=int).sum())\n\nimport numpy as np",
    "a guard that asks": f"    return sum(xs){GUARD}print(total([int(x) for x in input().split()]))",
    "a guard that fails": f"    return sum(xs){GUARD}raise SystemExit(1)",
    "a guard that waits": f"    return sum(xs){GUARD}while True: pass",
    "a loop": "    s = 0\n    for x in xs:\n        s += x\n    return s",
    "recursion": "    return xs[0] + total(xs[1:]) if xs else 0",
    "a helper after": "    return helper(xs)\n\ndef helper(xs):\n    return sum(xs)",
    "a float": "    return float(sum(xs))",
    "a subclass of int": "    class Number(int): pass\n    return Number(sum(xs))",
    "an enumeration": ("    from enum import IntEnum\n    return IntEnum('Number', {'A': sum(xs)}).A"),
    "much printing": "    print('x' * 10**6)\n    return sum(xs)",
    "its argument changed": "    xs.append(0)\n    return sum(xs)",
    "its argument emptied": "    s = 0\n    while xs:\n        s += xs.pop()\n    return s",
    "a dataclass": (
        "    from dataclasses import dataclass\n    @dataclass\n    class Sum:\n        of: int\n"
        "    return Sum(sum(xs)).of"
    ),
    "the standard library": "    from functools import reduce\n    return reduce(lambda a, b: a + b, xs, 0)",
    "a file": (
        "    import tempfile\n    with tempfile.TemporaryFile('w+') as file:\n        file.write(str(sum(xs)))\n"
        "        file.seek(0)\n        return int(file.read())"
    ),
    "a short sleep": "    import time\n    time.sleep(0.05)\n    return sum(xs)",
    "large numbers between": "    return sum(xs) + 10**5000 - 10**5000",
    "its own name": "    assert __name__ != '__main__'\n    return sum(xs)",
}
RIGHT_SUMS = {
    "plain": "    import math\n    return sum(numbers), math.prod(numbers)",
    "a named tuple": (
        "    from collections import namedtuple\n    import math\n"
        "    return namedtuple('Both', 'sum product')(sum(numbers), math.prod(numbers))"
    ),
    "numpy": "    import numpy as np\n    return np.sum(numbers, dtype=int), np.prod(numbers, dtype=int)",
    "a whole program": (
        "```python\nfrom typing import List, Tuple\ndef sum_product(numbers: List[int]) -> Tuple[int, int]:\n"
        "    p = 1\n    for n in numbers:\n        p *= n\n"
        f"    return sum(numbers), p{GUARD}print(sum_product(eval(input())))\n```"
    ),
}
