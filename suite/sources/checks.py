"""Checks: what a file claims of its matrix, before memory is taken by the claim."""

from suite.registry import Unusable

LEAST_SIDE = 10**7  # a side of up to this many rows or columns is believed whatever the number of entries
MOST_SIDE = 2**31 - 1  # columns are numbered in int32


def check_sides(text: str, m: int, k: int) -> tuple[int, int]:
    """Sides a matrix can have; that they fit its entries is checked when these are known."""
    if m < 0 or k < 0:
        raise Unusable(f"{text} claims to be {m} x {k}; a side cannot be negative. Mend its header.")
    if m == 0 or k == 0:
        raise Unusable(f"{text} is {m} x {k}: empty. Name a file with a matrix in it.")
    if max(m, k) > MOST_SIDE:
        raise Unusable(
            f"{text} claims to be {m} x {k}; sides up to {MOST_SIDE} can be measured. Mend its header."
        )
    return m, k


def check_fill(text: str, m: int, k: int, entries: int) -> None:
    """Refuse what would cost memory by its sides alone: a header may claim any."""
    if entries == 0:
        raise Unusable(f"{text} has no nonzeros; there is nothing to multiply. Name another file.")
    if max(m, k) > LEAST_SIDE + 100 * entries:
        raise Unusable(
            f"{text} claims to be {m} x {k} and has {entries} entries: too few for such sides to be true. "
            "Mend its header, or drop the empty rows and columns."
        )
