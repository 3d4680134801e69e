"""Tables of text that fit a terminal: texts fold, numbers and times never break, columns that don't fit are elided."""

from collections.abc import Sequence
from itertools import zip_longest

ELIDED = "…"
NARROWEST = 14
"""The narrowest that a column of text is folded to."""


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[list[str], int]:
    """The heading and the rows, two blanks between columns, and how many columns are shown.

    Columns of text fold until a line fits the width. Where that is not enough, columns are elided in the middle, as
    DuckDB does; the first one always stays.
    """
    kept = list(range(len(columns)))
    is_right = [bool(rows) and all(_is_number(row[index]) for row in rows) for index in kept]
    widths = [_widest([columns[index], *(row[index] for row in rows)]) for index in kept]
    least = [
        wide if right or _is_time(rows, index) else min(wide, max(NARROWEST, len(columns[index])))
        for index, (wide, right) in enumerate(zip(widths, is_right, strict=True))
    ]
    while len(kept) > 1 and _needed(kept, least, len(columns)) > width:
        kept.pop(len(kept) // 2)
    while _needed(kept, widths, len(columns)) > width:
        foldable = [index for index in kept if widths[index] > least[index]]
        if not foldable:
            break
        widths[max(foldable, key=widths.__getitem__)] -= 1
    lines = [
        line for cells in [columns, *rows] for line in _folded(cells, kept, widths, is_right, at=(len(kept) + 1) // 2)
    ]
    return lines or [""], len(kept)


def _needed(kept: Sequence[int], widths: Sequence[int], columns: int) -> int:
    elided = 2 + len(ELIDED) if len(kept) < columns else 0
    return sum(widths[index] for index in kept) + 2 * (len(kept) - 1) + elided


def _folded(
    cells: Sequence[str], kept: Sequence[int], widths: Sequence[int], is_right: Sequence[bool], at: int
) -> list[str]:
    """The lines of one row, with a mark at the column `at` where some are left out."""
    pieces = [
        [part[start : start + widths[index]] for part in cells[index].split("\n")
         for start in range(0, max(len(part), 1), max(widths[index], 1))]
        for index in kept
    ]  # fmt: skip
    lines = []
    for parts in zip_longest(*pieces, fillvalue=""):
        shown = [
            part.rjust(widths[index]) if is_right[index] else part.ljust(widths[index])
            for part, index in zip(parts, kept, strict=True)
        ]
        if len(kept) < len(cells):
            shown.insert(at, ELIDED)
        lines.append("  ".join(shown).rstrip())
    return lines


def _widest(cells: Sequence[str]) -> int:
    return max(len(part) for cell in cells for part in cell.split("\n"))


def _is_number(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "").replace("-", "").split(" ")[0].isdigit()


def _is_time(rows: Sequence[Sequence[str]], index: int) -> bool:
    return all(not row[index] or (row[index][:4].isdigit() and row[index][4:5] == "-") for row in rows)
