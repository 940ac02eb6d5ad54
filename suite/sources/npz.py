"""SciPy's `.npz`, as `scipy.sparse.save_npz` writes it. A stored entry is a nonzero, whatever its value."""

import zipfile

import numpy as np
import scipy.sparse
from numpy.lib import format as npy

from suite.registry import Unusable
from suite.sources.checks import check_fill, check_sides
from suite.sources.reader import Content, Located, Reader

INFLATES = 1032  # times a deflated file can grow at most

AGAIN = "Write it anew with scipy.sparse.save_npz"


def shape(where: Located) -> tuple[int, int]:
    """Of the array `shape` inside; the claims of all arrays are checked on the way."""
    check_arrays(where)
    with opened(where) as arrays:
        sides = [int(side) for side in np.atleast_1d(arrays["shape"])]
    if len(sides) != 2:
        raise Unusable(f"{where.text} has {len(sides)} dimensions, should have 2. Name a matrix.")
    return sides[0], sides[1]


def read(where: Located) -> Content:
    m, k = check_sides(where.text, *shape(where))
    try:
        with opened(where) as arrays:
            data = arrays["data"]
        check_fill(where.text, m, k, data.size)
        if data.dtype.kind not in "biuf":
            raise Unusable(
                f"{where.text} holds {data.dtype}; only real matrices are measured. Name another file."
            )
        made = scipy.sparse.load_npz(where.file)
        if made.format in ("csr", "csc", "bsr"):
            made.check_format(full_check=True)
        made = scipy.sparse.coo_array(made)
    except Unusable:
        raise
    except Exception as failed:  # a damaged archive fails in any way at all
        raise unreadable(where, failed) from None
    return Content(made.row.astype(np.int64), made.col.astype(np.int64), made.data)


def opened(where: Located) -> np.lib.npyio.NpzFile:
    """The archive, whose array `shape` is there and readable."""
    try:
        arrays = np.load(where.file, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile) or "shape" not in arrays or "format" not in arrays:
            raise ValueError("it has no arrays `format` and `shape`, so it is not a sparse matrix")
        arrays["shape"].astype(np.int64)
    except Exception as failed:  # a damaged archive fails in any way at all
        raise unreadable(where, failed) from None
    return arrays


def check_arrays(where: Located) -> None:
    """Each array's header against the bytes that follow it."""
    size = where.file.stat().st_size
    try:
        with zipfile.ZipFile(where.file) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    version = npy.read_magic(file)
                    read_header = (
                        npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    )
                    sides, _, dtype = read_header(file)
                needed = dtype.itemsize * int(np.prod([int(side) for side in sides], dtype=object))
                there = min(member.file_size, INFLATES * min(member.compress_size, size))
                if needed > there or min(sides, default=0) < 0:
                    raise ValueError(f"{member.filename} claims {needed} bytes and has {there}")
    except Exception as failed:  # a damaged archive fails in any way at all
        raise unreadable(where, failed) from None


def unreadable(where: Located, failed: Exception) -> Unusable:
    """One sentence for whatever the libraries said."""
    says = str(failed).strip().rstrip(".").split("\n")[0] or type(failed).__name__
    return Unusable(f"{where.text} is not a sparse matrix that can be read: {says}. {AGAIN}.")


READER = Reader((".npz",), shape, read)
