"""Hashes of definitions: everything that a result uses counts, wherever it stands, and nothing besides."""

import pytest

from lib.running.code import closure, files_hash, hash_of

HOUSE = {
    "lib/__init__.py": "",
    "lib/loop.py": '''"""A module."""

from lib.room import tables
from lib.room.shapes import Round
from lib.shop import price

LIMIT = 3
STEPS = {"first": 1}
STEPS["second"] = 2
if LIMIT > 2:
    STEPS["third"] = 4


def decode(x):
    """Says what it does."""
    from lib.late import finish as end

    if x < 0:
        raise ValueError(f"{x} is below zero")
    # A shape of its own.
    shape = Round(LIMIT)
    return end(shape.area() + price(x) + tables.look(STEPS["first"]))


def unused(x):
    return decode(x) + 1
''',
    "lib/late.py": "def finish(x):\n    return x + 1\n",
    "lib/room/__init__.py": "",
    "lib/room/tables.py": "ROWS = [1, 2]\n\n\ndef look(x):\n    return ROWS[x]\n\n\ndef other(x):\n    return x\n",
    "lib/room/shapes.py": """from dataclasses import dataclass


@dataclass
class Shape:
    size: int = 0

    def area(self):
        return self.size * self.factor()


class Round(Shape):
    def factor(self):
        return 3.14


class Flat(Shape):
    def factor(self):
        return 0
""",
    "lib/shop/__init__.py": "from lib.shop.prices import price\n",
    "lib/shop/prices.py": "def price(x):\n    return _tax(x)\n\n\ndef _tax(x):\n    return 1.2 * x\n",
}
ROOTS = [("lib.loop", "decode")]


@pytest.fixture
def house(tmp_path):
    """Writes HOUSE with files changed, to a folder that no hash was made of before, and gives that folder."""
    made = iter(range(100))

    def write(changes=()):
        root = tmp_path / str(next(made))
        for name, text in (HOUSE | dict(changes)).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


@pytest.fixture
def hashed(house):
    return lambda changes=(): hash_of(ROOTS, root=house(changes))


def edited(file, old, new):
    assert HOUSE[file].count(old) == 1, old
    return {file: HOUSE[file].replace(old, new)}


MOVED = {
    "lib/loop.py": HOUSE["lib/loop.py"].replace("lib.late", "lib.new.ends"),
    "lib/new/__init__.py": "",
    "lib/new/ends.py": HOUSE["lib/late.py"],
    "lib/late.py": "",
}
NOTHING = {
    "a comment": edited("lib/loop.py", "# A shape of its own.", "# What was meant; and why."),
    "no comment": edited("lib/loop.py", "    # A shape of its own.\n", ""),
    "a docstring": edited("lib/loop.py", "Says what it does.", "Says it better."),
    "no docstring": edited("lib/loop.py", '    """Says what it does."""\n', ""),
    "a new docstring": edited("lib/shop/prices.py", "    return _tax(x)", '    """With tax."""\n    return _tax(x)'),
    "a docstring of a class": edited("lib/room/shapes.py", "(Shape):\n    def factor(self):\n        return 3", 
                                     '(Shape):\n    """A disc."""\n\n    def factor(self):\n        return 3'),
    "a docstring of a module": edited("lib/loop.py", "A module.", "A loop."),
    "an import": edited("lib/loop.py", "from lib.room import tables\n", "import os\n\nfrom lib.room import tables\n"),
    "an import by another way": edited("lib/loop.py", "from lib.shop import", "from lib.shop.prices import"),
    "an import inside a function": edited("lib/late.py", "    return", "    import os\n\n    return"),
    "an import that moves to the top": edited("lib/loop.py", "    from lib.late import finish as end\n\n", "")
    | {"lib/loop.py": "from lib.late import finish as end\n"
       + HOUSE["lib/loop.py"].replace("    from lib.late import finish as end\n\n", "")},
    "the words of an error": edited("lib/loop.py", "is below zero", "must be 0 or more"),
    "the form of the text": edited("lib/loop.py", "shape.area() + price(x)",
                                "(\n        shape.area()\n        + price( x )\n    )"),
    "an unused neighbour": edited("lib/loop.py", "decode(x) + 1", "decode(x) + 2"),
    "no unused neighbour": edited("lib/room/tables.py", "\n\ndef other(x):\n    return x\n", ""),
    "a new neighbour": edited("lib/late.py", "def finish", "def start(x):\n    return 0\n\n\ndef finish"),
    "an unused class": edited("lib/room/shapes.py", "return 0", "return 1"),
    "a neighbour's table by a constant that is used": edited("lib/loop.py", "\n\ndef unused",
                                                    "SPARE = {}\nSPARE[LIMIT] = 1\n\n\ndef unused"),
    "a file that nothing names": {"lib/room/more.py": "decode = 1\n"},
    "a definition that moves to another file": MOVED,
    "a definition that is re-exported from elsewhere": {
        "lib/shop/__init__.py": "from lib.shop.front import price\n",
        "lib/shop/front.py": "from lib.shop.prices import price\n",
    },
    "the order of definitions": {
        "lib/shop/prices.py": "def _tax(x):\n    return 1.2 * x\n\n\ndef price(x):\n    return _tax(x)\n"
    },
}  # fmt: skip
SOMETHING = {
    "the function itself": edited("lib/loop.py", "shape.area() +", "shape.area() -"),
    "when an error is raised": edited("lib/loop.py", "if x < 0", "if x < 1"),
    "that an error is raised": edited("lib/loop.py",
                                      '    if x < 0:\n        raise ValueError(f"{x} is below zero")\n',
                                      ""),
    "a constant": edited("lib/loop.py", "LIMIT = 3", "LIMIT = 4"),
    "an entry of a table": edited("lib/loop.py", '{"first": 1}', '{"first": 0}'),
    "an entry that is set later": edited("lib/loop.py", '["second"] = 2', '["second"] = 3'),
    "an entry that is set under a condition": edited("lib/loop.py", '["third"] = 4', '["third"] = 5'),
    "a helper of a helper": edited("lib/shop/prices.py", "1.2", "1.3"),
    "a helper that a re-export hides": edited("lib/shop/prices.py", "return _tax(x)", "return 2 * _tax(x)"),
    "a function of a module": edited("lib/room/tables.py", "return ROWS[x]", "return ROWS[-x]"),
    "a constant of that module": edited("lib/room/tables.py", "[1, 2]", "[2, 1]"),
    "a function that is imported late": edited("lib/late.py", "x + 1", "x + 2"),
    "a method": edited("lib/room/shapes.py", "3.14", "3.2"),
    "a method of the base": edited("lib/room/shapes.py", "self.size *", "self.size +"),
    "a field of the base": edited("lib/room/shapes.py", "size: int = 0", "size: int = 1"),
    "another base": edited("lib/room/shapes.py", "class Round(Shape)", "class Round(Flat)"),
    "a decorator": edited("lib/room/shapes.py", "@dataclass\n", "@dataclass(frozen=True)\n"),
    "where a name comes from": {
        "lib/shop/__init__.py": "from lib.shop.free import price\n",
        "lib/shop/free.py": "def price(x):\n    return 0\n",
    },
    "a default": edited("lib/late.py", "finish(x)", "finish(x, y=0)"),
    "a text that is no docstring": edited("lib/late.py", "return x + 1", 'return f"{x}"'),
}  # fmt: skip


@pytest.mark.parametrize("change", NOTHING)
def test_what_says_the_same_has_the_same_hash(hashed, change):
    assert hashed(NOTHING[change]) == hashed()


@pytest.mark.parametrize("change", SOMETHING)
def test_what_a_definition_uses_is_a_part_of_its_hash(hashed, change):
    assert hashed(SOMETHING[change]) != hashed()


def test_every_change_has_a_hash_of_its_own(hashed):
    assert len({hashed(change) for change in SOMETHING.values()}) == len(SOMETHING)


def test_a_closure_names_what_is_used_and_where(house):
    assert {f"{module}.{name}" for module, name in closure(ROOTS, root=house())} == {
        "lib.loop.decode",
        "lib.loop.LIMIT",
        "lib.loop.STEPS",
        "lib.late.finish",
        "lib.room.tables.look",
        "lib.room.tables.ROWS",
        "lib.room.shapes.Shape",
        "lib.room.shapes.Round",
        "lib.shop.prices.price",
        "lib.shop.prices._tax",
    }


def test_only_the_rooms_that_are_asked_for_count(house):
    within = ("lib.loop", "lib.shop")
    inside = closure(ROOTS, within, house())
    assert {module for module, _ in inside} == {"lib.loop", "lib.shop.prices"}
    plain = hash_of(ROOTS, within, house())
    assert hash_of(ROOTS, within, house(SOMETHING["a method"])) == plain
    assert hash_of(ROOTS, within, house(SOMETHING["a helper of a helper"])) != plain
    assert not closure(ROOTS, ("lib.lo",), house()), "lib.loop is no room of lib.lo"


def test_more_roots_are_one_hash_in_any_order(house):
    root, more = house(), [("lib.late", "finish"), ("lib.room.tables", "other")]
    assert hash_of([*ROOTS, *more], root=root) == hash_of([*more, *ROOTS], root=root) != hash_of(ROOTS, root=root)
    assert hash_of([*ROOTS, more[0]], root=root) == hash_of(ROOTS, root=root), "it is used anyway"


@pytest.mark.parametrize("missing", [("lib.loop", "encode"), ("lib.attic", "decode"), ("lib.loop", "<lambda>")])
def test_a_root_that_is_not_there_is_an_error(house, missing):
    with pytest.raises(ValueError, match=f"{missing[0]} has no {missing[1]}"):
        hash_of([*ROOTS, missing], root=house())


def test_a_root_may_be_named_where_it_is_re_exported(house):
    root = house()
    assert hash_of([("lib.shop", "price")], root=root) == hash_of([("lib.shop.prices", "price")], root=root)


def test_tables_of_everything_are_apart_and_names_like_theirs_are_not(house):
    """`TASKS` of one module lists all tasks; a constant that another module calls so is its own."""
    table = (
        "from lib.late import finish\n\nTASKS = {'a': finish, 'b': 1}\n\n\ndef get_task(x):\n    return TASKS[x]\n"
    )
    own = "TASKS = ('a', 'b')\n\n\ndef get_task(x):\n    return TASKS[x]\n"

    def of(module, text):
        return hash_of([(module, "get_task")], root=house({f"{module.replace('.', '/')}/__init__.py": text}))

    assert of("lib.tasks", table) == of("lib.tasks", table.replace("'b': 1", "'b': 2"))
    assert of("lib.other", own) != of("lib.other", own.replace("'b'", "'c'"))


SYNTAX = '''
@cache
def f(x: int = 1, /, *y, z=None, **more) -> int:
    """Everything that Python 3.11 can say."""
    with open(f"{x!r:>{z}}") as file, y[0] as (a, *b):
        c: dict[str, int] = {**more, "a": [i async for i in y if i] or None}
    while (n := len(a)) and not b[1:, ::2]:
        for i in range(n):
            a[i] @= -i if i else ~i
            continue
        else:
            break
    try:
        del c["a"]
    except* (KeyError, OSError) as error:
        raise UserError("words") from error
    finally:
        assert x < n <= 3 != 4, "not so"
    match x:
        case [1, *rest] | {"k": _, **rest} if rest:
            yield from rest
        case A(b=None) as d:
            global g
            g = lambda *a, b=1: (yield)
    return {1, 2.5, 3j, b"\\x00", ..., True, *{k: v for k, v in a}}


class A(C, metaclass=D):
    x = y = 1

    async def g(self):
        return await self.x
'''


def test_a_hash_is_the_same_in_every_python(house):
    """Pinned: syntax trees have other empty fields from version to version."""
    root = house({"lib/late.py": SYNTAX})
    assert hash_of([("lib.late", "f"), ("lib.late", "A")], root=root) == "40920c36edd3fe15"


def test_a_hash_of_files_is_of_names_and_bytes_and_of_a_notebooks_sources(tmp_path):
    table, notebook = tmp_path / "a.csv", tmp_path / "b.ipynb"
    table.write_text("x\n1\n")
    notebook.write_text('{"cells": [{"source": ["a", "b"], "outputs": [1]}], "metadata": {}}')
    plain = files_hash([table, notebook])
    assert files_hash([notebook, table]) == plain
    notebook.write_text('{"cells": [{"source": "ab", "outputs": []}], "metadata": {"kernel": 1}}')
    assert files_hash([table, notebook]) == plain
    notebook.write_text('{"cells": [{"source": "ac", "outputs": []}], "metadata": {}}')
    assert files_hash([table, notebook]) != plain
    first = files_hash([table])
    table.write_text("x\n2\n")
    named = files_hash([table])
    assert named != first
    table.rename(tmp_path / "c.csv")
    assert files_hash([tmp_path / "c.csv"]) != named
