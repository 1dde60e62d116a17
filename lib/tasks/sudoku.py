"""Logic: Sudoku of 6x6 and 9x9 cells, where every token of the answer is checked by others.

The prompt is the grid, row by row, with 0 for a blank, so that a tokenizer makes a token of each cell; the response
is the whole grid. Any grid counts that keeps the clues and in which no row, column or box holds a digit twice. A
puzzle has one solution, so that a model has one target.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from lib.tasks.base import Item, Score, Task, generated


@dataclass(frozen=True)
class Shape:
    """A grid of rows * columns cells a side, in boxes of `rows` by `columns`; blanks: the fewest and the most."""

    rows: int
    columns: int
    blanks: tuple[int, int]

    @property
    def side(self) -> int:
        return self.rows * self.columns

    def units(self) -> list[tuple[int, ...]]:
        """Rows, columns and boxes: the cells of each."""
        n, r, c = self.side, self.rows, self.columns
        rows = [tuple(range(n * i, n * i + n)) for i in range(n)]
        columns = [tuple(range(i, n * n, n)) for i in range(n)]
        boxes = [
            tuple(n * (top + i) + left + j for i in range(r) for j in range(c))
            for top in range(0, n, r)
            for left in range(0, n, c)
        ]
        return rows + columns + boxes


class Search:
    """Fills a grid cell by cell, the one with the fewest candidates first; digits are bits."""

    def __init__(self, shape: Shape):
        self.shape, self.units = shape, shape.units()
        cells = range(shape.side**2)
        self.units_of = [[u for u, unit in enumerate(self.units) if cell in unit] for cell in cells]

    def solutions(self, grid: list[int], rng: Random | None = None) -> Iterator[list[int]]:
        """All ways to fill the zeros of a grid, in random order where `rng` is given."""
        grid, used = list(grid), [0] * len(self.units)
        for cell, digit in enumerate(grid):
            for u in self.units_of[cell]:
                used[u] |= 1 << digit if digit else 0
        yield from self._fill(grid, used, [cell for cell, digit in enumerate(grid) if not digit], rng)

    def _fill(self, grid, used, empty, rng) -> Iterator[list[int]]:
        if not empty:
            yield list(grid)
            return
        best, candidates = None, None
        for cell in empty:
            a, b, c = self.units_of[cell]
            taken = used[a] | used[b] | used[c]
            free = [digit for digit in range(1, self.shape.side + 1) if not taken >> digit & 1]
            if candidates is None or len(free) < len(candidates):
                best, candidates = cell, free
                if len(free) < 2:
                    break
        if rng is not None:
            rng.shuffle(candidates)
        rest = [cell for cell in empty if cell != best]
        for digit in candidates:
            grid[best] = digit
            for u in self.units_of[best]:
                used[u] ^= 1 << digit
            yield from self._fill(grid, used, rest, rng)
            for u in self.units_of[best]:
                used[u] ^= 1 << digit
        grid[best] = 0


def puzzle(search: Search, rng: Random) -> tuple[list[int], list[int]]:
    """A grid with zeros for blanks, and its one solution: cells are emptied in random order while there is one."""
    cells = search.shape.side**2
    solved = next(search.solutions([0] * cells, rng))
    given, wanted = list(solved), rng.randint(*search.shape.blanks)
    for cell in rng.sample(range(cells), cells):
        if given.count(0) == wanted:
            break
        given[cell] = 0
        found = search.solutions(given)
        next(found)
        if next(found, None) is not None:
            given[cell] = solved[cell]
    return given, solved


def written(grid: list[int], side: int) -> str:
    """Rows of digits, a line each."""
    cells = "".join(map(str, grid))
    return "\n".join(cells[i : i + side] for i in range(0, len(cells), side))


def relabelled(grid: list[int]) -> str:
    """The grid, digits named in the order in which they come: grids that are equal so are in one split."""
    names: dict[int, str] = {}
    return "".join(names.setdefault(digit, str(len(names) + 1)) for digit in grid)


def read(text: str, side: int) -> list[int] | None:
    """The grid that a response holds, spaces and empty lines aside; None where it holds no such grid."""
    rows = ["".join(line.split()) for line in text.strip().splitlines() if line.strip()]
    if len(rows) != side or any(len(row) != side or not (row.isascii() and row.isdigit()) for row in rows):
        return None
    return [int(digit) for row in rows for digit in row]


def score(item: Item, text: str) -> Score:
    """Right where the grid is whole, keeps the clues, and every row, column and box holds each digit once."""
    shape = Shape(*item.reference["box"], (0, 0))
    grid = read(text, shape.side)
    if grid is None:
        return Score(0, None)
    digits = set(range(1, shape.side + 1))
    clues = read_clues(item.reference["clues"])
    kept = all(clue in (0, digit) for clue, digit in zip(clues, grid, strict=True))
    whole = all({grid[cell] for cell in unit} == digits for unit in shape.units())
    return Score(int(kept and whole), written(grid, shape.side))


def read_clues(text: str) -> list[int]:
    """The grid that `written` wrote."""
    return [int(cell) for cell in text if cell != "\n"]


def _task(name: str, shape: Shape) -> Task:
    search = Search(shape)

    def draw(index: int) -> Item:
        given, solved = puzzle(search, Random(f"{name}/{index}"))
        clues = written(given, shape.side)
        return Item(
            id=f"{name}/{index}",
            prompt=f"{clues}\n\n",
            target=written(solved, shape.side),
            reference={"clues": clues, "box": [shape.rows, shape.columns], "blanks": given.count(0)},
        )

    return Task(
        name=name,
        kind="logic",
        licence="MIT (this repository)",
        max_new_tokens=shape.side * (shape.side + 1),  # the cells, the line ends, and the end of the text
        stream=lambda split: generated(draw, split, key=lambda item: relabelled(read_clues(item.target))),
        score=score,
    )


SIX = _task("sudoku6", Shape(2, 3, (8, 22)))
NINE = _task("sudoku9", Shape(3, 3, (20, 45)))
