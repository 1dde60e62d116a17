"""Values as JSON of plain types, so that an answer can leave a process that is not trusted and be compared elsewhere.

What arrives is data: an object that calls itself equal to everything arrives as the number or text that it holds, or
not at all. Only the standard library is used, for the sandbox's bare interpreter runs this too.
"""

import sys
from itertools import islice

LONGEST = 100_000  # elements taken from an iterator
SMALL = 2**53  # whole numbers below it are JSON numbers, others hexadecimal: decimal digits take quadratic time
# Tag -> how a container is made of its decoded elements.
CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter}


def encode(value):
    """JSON of None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, or an iterator of them.

    A subclass of one of these goes as what it holds, and so does a number of numpy. Raises TypeError for all else.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int.__add__(value, 0)
        return number if -SMALL < number < SMALL else ["int", hex(number)]
    if isinstance(value, float):
        return float.__add__(value, 0.0) if type(value) is not float else value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, bytes):
        return ["bytes", bytes.hex(value)]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, *map(encode, kind.__iter__(value))]
    if isinstance(value, dict):
        return ["dict", *([encode(key), encode(part)] for key, part in dict.items(value))]
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    if generic is not None and isinstance(value, generic) and not isinstance(value.item(), generic):
        return encode(value.item())
    if hasattr(type(value), "__next__"):
        parts = [encode(part) for part in islice(value, LONGEST + 1)]
        if len(parts) > LONGEST:
            raise TypeError(f"an iterator of more than {LONGEST} elements")
        return ["iterator", *parts]
    raise TypeError(f"{type(value).__name__} is not plain data")


def decode(data):
    """What `encode` was given. Raises ValueError or TypeError for JSON that it does not write."""
    if data is None or type(data) in (bool, int, float, str):
        return data
    tag, *parts = data
    if tag == "dict":
        return {decode(key): decode(part) for key, part in parts}
    if tag in CONTAINERS:
        return CONTAINERS[tag]([decode(part) for part in parts])
    if tag == "int":
        return int(parts[0], 16)
    if tag == "bytes":
        return bytes.fromhex(parts[0])
    if tag == "complex":
        return complex(*parts)
    raise ValueError(f"no plain data: {tag!r}")
