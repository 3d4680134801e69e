"""Some lines of a matrix turned, so that each column of theirs lies in one piece, as Arrow wants it."""

import numpy as np

from streams.core.kernel.columns import Ints, Matrix
from streams.core.kernel.compiled import compiled


@compiled
def turn(matrix: Matrix, lines: Ints, out: Matrix) -> None:
    """Copies line by line: a line lies in few places of memory, a column in as many as there are lines."""
    for k in range(len(lines)):
        for column in range(matrix.shape[1]):
            out[column, k] = matrix[lines[k], column]


def turned(matrix: Matrix, lines: Ints) -> Matrix:
    """The cells [column, line] of these lines."""
    out = np.empty((matrix.shape[1], len(lines)), np.int64)
    turn(matrix, np.ascontiguousarray(lines), out)
    return out
