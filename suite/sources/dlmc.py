"""DLMC's text format, `.smtx`: positions of pruned layers, without values.

Three lines: "rows, columns, nonzeros", where each row starts, and the columns. From the collection of Gale et
al., "Sparse GPU Kernels for Deep Learning", SC 2020.
"""

import numpy as np

from suite.registry import Unusable
from suite.sources.reader import Content, Located, Reader

HEADER_MOST = 200  # characters a first line of three numbers needs at most


def header(where: Located) -> tuple[int, int, int]:
    """Rows, columns, nonzeros."""
    with where.file.open("rb") as file:
        line = file.readline(HEADER_MOST)
    try:
        m, k, nonzeros = (int(number) for number in line.split(b","))
    except ValueError:
        raise Unusable(
            f"{where.text}: the first line is {line[:40]!r}, should be like '512, 512, 26214'. "
            "It is damaged or not a DLMC file."
        ) from None
    if nonzeros < 0:
        raise Unusable(f"{where.text} claims {nonzeros} nonzeros; that cannot be negative. Mend its header.")
    least = 2 * (m + nonzeros)  # a digit and a space each
    size = where.file.stat().st_size
    if m >= 0 and least > size:
        raise Unusable(
            f"{where.text} claims {m} rows and {nonzeros} nonzeros, which need {least} bytes at least, "
            f"and has {size}: truncated or damaged. Copy or download it again."
        )
    return m, k, nonzeros


def shape(where: Located) -> tuple[int, int]:
    return header(where)[:2]


def read(where: Located) -> Content:
    m, _, nonzeros = header(where)
    with where.file.open("rb") as file:
        lines = file.read().split(b"\n")
    starts = numbers(where, "row starts", lines[1] if len(lines) > 1 else b"", m + 1)
    columns = numbers(where, "columns", lines[2] if len(lines) > 2 else b"", nonzeros)
    if any(line.strip() for line in lines[3:]):
        raise Unusable(f"{where.text} has more than three lines. It is damaged or not a DLMC file.")
    if starts[0] != 0 or starts[-1] != nonzeros or (np.diff(starts) < 0).any():
        raise Unusable(
            f"{where.text}: row starts must ascend from 0 to {nonzeros}, and do not. "
            "Copy or download it again."
        )
    return Content(np.repeat(np.arange(m), np.diff(starts)), columns, None)


def numbers(where: Located, what: str, line: bytes, count: int) -> np.ndarray:
    """A line of whole numbers, exactly so many."""
    words = line.split()
    if len(words) != count:
        raise Unusable(
            f"{where.text} has {len(words)} {what}, should have {count}: truncated or damaged. "
            "Copy or download it again."
        )
    try:
        return np.fromiter(map(int, words), np.int64, count)
    except (ValueError, OverflowError) as wrong:
        raise Unusable(f"{where.text}: among its {what}, {wrong}. Copy or download it again.") from None


READER = Reader((".smtx",), shape, read)
