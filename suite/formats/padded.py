"""Padded: a live operand with zeros beyond it, for libraries that take whole multiples alone.

The copy is part of each call, as it must be wherever activations come at any size; where nothing is missing
there is none.
"""

from collections.abc import Callable

from torch import Tensor


def padded(
    b: Tensor, rows: int, columns: int, order: str = "rows"
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What gives each such b so many rows and columns, and the buffer for it, in the kernel's live order.

    Of a single row or column strides tell no order, so it is said.
    """
    k, n = b.shape
    if (k, n) == (rows, columns):
        return (lambda b: b), b.new_empty(0)
    wide = b.new_zeros(columns, rows).t() if order == "columns" else b.new_zeros(rows, columns)

    def filled(b: Tensor) -> Tensor:
        wide[:k, :n] = b
        return wide

    return filled, wide
