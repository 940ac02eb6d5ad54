"""Matrix Market, `.mtx` and `.mtx.gz`: the format of the SuiteSparse Matrix Collection.

Read here, since SciPy's parser can crash the process on a damaged file. Memory grows with what is in
the file, not with what its header claims. In the coordinate format every entry is a nonzero,
whatever its value; the array format writes every position, and there the nonzeros are those that are not 0.
"""

import gzip
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from suite.registry import Unusable
from suite.sources.checks import check_fill, check_sides
from suite.sources.reader import CHUNK, Content, Located, Reader

LINE_MOST = 2**16  # bytes of a line of the header
LINES_MOST = 10**5  # lines of comments before the sizes

AGAIN = "Copy or download it again"


@dataclass(frozen=True)
class Header:
    """What the first lines say."""

    dense: bool
    field: str
    symmetry: str
    m: int
    k: int
    entries: int

    @property
    def numbers(self) -> int:
        """Of each entry: row, column and value, as far as they are written."""
        return 1 if self.dense else 2 if self.field == "pattern" else 3


@contextmanager
def opened(where: Located) -> Iterator[IO[bytes]]:
    """The text; a damaged gzip file is told in one sentence."""
    try:
        with (
            gzip.open(where.file)
            if where.file.name.lower().endswith(".gz")
            else where.file.open("rb") as file
        ):
            yield file  # pyright: ignore
    except (gzip.BadGzipFile, EOFError, zlib.error) as failed:
        raise Unusable(f"{where.text} does not decompress: {failed}. {AGAIN}.") from None


def header(where: Located, file: IO[bytes]) -> Header:
    """The checked first lines; the file is then at its first entry."""
    banner = file.readline(LINE_MOST)
    words = banner.decode("latin-1").lower().split()
    if len(words) != 5 or words[:2] not in (["%%matrixmarket", "matrix"], ["%matrixmarket", "matrix"]):
        raise Unusable(
            f"{where.text}: the first line is {banner[:40]!r}, should be like "
            f"'%%MatrixMarket matrix coordinate real general'. It is damaged or not a Matrix Market file."
        )
    line = b""
    for _ in range(LINES_MOST):
        line = file.readline(LINE_MOST)
        if not line or (line.strip() and not line.lstrip().startswith(b"%")):
            break
    return check(where, words[2:], line)


def check(where: Located, words: list[str], line: bytes) -> Header:
    """A header of a kind that can be measured."""
    layout, field, symmetry = words
    if layout not in ("coordinate", "array"):
        raise Unusable(
            f"{where.text}: the layout is {layout!r}; there are coordinate and array. Mend its header."
        )
    if field == "complex" or symmetry == "hermitian":
        raise Unusable(
            f"{where.text} is {field} {symmetry}; only real matrices are measured. Name another file."
        )
    if field not in ("real", "double", "integer", "pattern") or (field == "pattern" and layout == "array"):
        raise Unusable(f"{where.text}: {layout} {field} is no kind of entries. Mend its header.")
    if symmetry not in ("general", "symmetric", "skew-symmetric"):
        raise Unusable(
            f"{where.text}: the symmetry is {symmetry!r}; there are general, symmetric and skew-symmetric. "
            "Mend its header."
        )
    wanted = 2 if layout == "array" else 3
    try:
        sizes = [int(word) for word in line.split()]
    except ValueError:
        sizes = []
    if len(sizes) != wanted:
        what = "rows and columns" if wanted == 2 else "rows, columns and entries"
        raise Unusable(f"{where.text}: the line of sizes is {line[:40]!r}, should be {what}. {AGAIN}.")
    m, k = sizes[:2]
    if min(sizes) < 0:
        raise Unusable(
            f"{where.text} claims {line.decode().strip()!r}; sizes cannot be negative. Mend its header."
        )
    if symmetry != "general" and m != k:
        raise Unusable(f"{where.text} is {m} x {k} and {symmetry}; that must be square. Mend its header.")
    if layout == "array":
        entries = m * k if symmetry == "general" else m * (m + (1 if symmetry == "symmetric" else -1)) // 2
    else:
        entries = sizes[2]
    if entries > m * k:
        raise Unusable(
            f"{where.text} claims {entries} entries, and {m} x {k} has {m * k} positions. Mend its header."
        )
    return Header(layout == "array", field, symmetry, m, k, entries)


def shape(where: Located) -> tuple[int, int]:
    with opened(where) as file:
        found = header(where, file)
    return found.m, found.k


def read(where: Located) -> Content:
    with opened(where) as file:
        found = header(where, file)
        check_fill(where.text, *check_sides(where.text, found.m, found.k), found.entries)
        table = numbers(where, file, found)
    if found.dense:
        rows, columns = positions(found)
        kept = np.flatnonzero(table)
        return mirrored(found, rows[kept], columns[kept], table.reshape(-1)[kept])
    at = table[:, :2]
    if not (at == np.floor(at)).all():  # NaN included
        raise Unusable(f"{where.text} has rows or columns that are not whole numbers. {AGAIN}.")
    if (outside := (at < 1) | (at > (found.m, found.k))).any():
        row, column = at[outside.any(axis=1)][0]
        raise Unusable(
            f"{where.text} has an entry in row {row:.0f}, column {column:.0f}, "
            f"and is {found.m} x {found.k}. {AGAIN}."
        )
    rows, columns = (at.T - 1).astype(np.int64)
    if found.symmetry == "skew-symmetric" and (rows == columns).any():
        raise Unusable(
            f"{where.text} is skew-symmetric and has entries on its diagonal. Mend or replace the file."
        )
    return mirrored(found, rows, columns, None if found.field == "pattern" else table[:, 2])


def numbers(where: Located, file: IO[bytes], header: Header) -> np.ndarray:
    """All numbers of the entries, float64[entries, numbers of each]; exactly as many as the header claims."""
    wanted, had, parts = header.entries * header.numbers, 0, []
    while had <= wanted and (text := file.read(CHUNK)):
        text += file.readline()  # a piece ends with a line
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what is not a number only warns
            try:
                part = np.fromstring(text, np.float64, sep=" ")
            except (DeprecationWarning, ValueError):
                raise Unusable(
                    f"{where.text}: {oddity(text)!r} is not a number. {AGAIN}, or mend it."
                ) from None
        parts.append(part)
        had += len(part)
    if had != wanted:
        there = "more" if had > wanted else f"{had // header.numbers}"
        raise Unusable(
            f"{where.text} claims {header.entries} entries and has {there}: truncated or damaged. {AGAIN}."
        )
    return np.concatenate(parts).reshape(header.entries, header.numbers)


def oddity(text: bytes) -> str:
    """The first word that is no number."""
    for word in text.split():
        try:
            float(word)
        except ValueError:
            return word[:40].decode("latin-1")
    return text[:40].decode("latin-1")


def positions(header: Header) -> tuple[np.ndarray, np.ndarray]:
    """Where an array's entries stand: column by column, of a symmetric one the lower triangle."""
    if header.symmetry == "general":
        columns, rows = np.divmod(np.arange(header.entries), header.m)
    else:
        columns, rows = np.triu_indices(header.m, k=header.symmetry == "skew-symmetric")
    return rows, columns


def mirrored(header: Header, rows: np.ndarray, columns: np.ndarray, values: np.ndarray | None) -> Content:
    """The entries, with those a symmetric file leaves out."""
    if header.symmetry == "general":
        return Content(rows, columns, values)
    off = rows != columns
    if values is not None:
        values = np.concatenate((values, values[off] if header.symmetry == "symmetric" else -values[off]))
    return Content(np.concatenate((rows, columns[off])), np.concatenate((columns, rows[off])), values)


READER = Reader((".mtx", ".mtx.gz"), shape, read)
