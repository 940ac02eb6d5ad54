"""Bitmap in C++: a bit for each position and the nonzeros packed, spread in registers and multiplied densely.

A weight of b bits takes density + 1/b of its dense size to move, and all of a dense product to multiply. So
it wins while moving is the cost: at one column and few. The idea is that of SpInfer (EuroSys 2025) and of
SparAMX (arXiv 2502.12444). bfloat16 is multiplied in pairs where the processor can.

Bad at: many columns, where it costs what a dense product does at best; above 90 % sparsity, where the bits of
zeros are much of what is read, and compressed rows do less work.
"""

from ctypes import c_int
from functools import cache
from pathlib import Path

import torch

from suite import native
from suite.formats.bitmap import bitmap, too_large
from suite.kernel import Prepared, kernel

HEIGHT, WIDTH = 32, 2  # of a tile: a 64-bit word, as in the source


@cache
def library():
    return native.load(Path(__file__).with_suffix(".cpp"))


def multiplier(held, out, library):
    """A call that fills `out` with the bitmap times the `b` it is given, both row-major; and its scratch."""
    (m, k), n = held.shape, out.shape[1]
    packed = torch.empty(-(-k // WIDTH) * WIDTH * n)
    multiply = native.bind(
        library[f"spmm_{str(out.dtype).removeprefix('torch.')}"],
        *(held.bits, held.values, held.starts, native.LIVE, out, m, k, n, packed),
        c_int(torch.get_num_threads()),
    )
    return multiply, packed


def refuse(case, device):
    return [*native.missing(), *too_large(case)]


def prepare(a, b, library):
    held = bitmap(a, HEIGHT, WIDTH)
    out = torch.empty(a.shape[0], b.shape[1], dtype=b.dtype)
    multiply, packed = multiplier(held, out, library)

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * held.positions * b.shape[1],
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.bits, held.values, held.starts, packed, out),
        note={"algorithm": f"{HEIGHT}x{WIDTH}", "lanes": library.lanes(b.dtype.itemsize)},
    )


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse, ids=("endor", "squarehead"))
def spmm_bitmap(a, b):
    """A bitmap and packed values, spread in registers and multiplied densely, in C++."""
    return prepare(a, b, library())
