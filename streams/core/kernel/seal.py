"""Windows that sealed are given back."""

from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints
from streams.core.kernel.compiled import compiled
from streams.core.kernel.tables import Tables
from streams.core.kernel.windows import put_windows


@compiled
def free_windows(tables: Tables, index: Ints, clock: Ints, numbers: Ints) -> None:
    """Gives windows and their lines back, and makes the table of those that are left anew."""
    windows, lines = tables[t.WINDOWS], tables[t.LINES]
    for i in range(len(numbers)):
        w = numbers[i]
        k = windows[w, t.FIRST_LINE]
        while k != NONE:
            after = lines[k, t.LINE_NEXT]
            lines[k, t.LINE_NEXT] = clock[t.FREE_LINE]
            clock[t.FREE_LINE] = k
            k = after
        windows[w, t.START] = NONE
        windows[w, t.NEXT_FREE] = clock[t.FREE_WINDOW]
        clock[t.FREE_WINDOW] = w
    clock[t.WINDOWS_OPEN] -= len(numbers)
    put_windows(index, windows, clock[t.WINDOWS_USED])
