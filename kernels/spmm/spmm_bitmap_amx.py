"""Bitmap on AMX: packed bfloat16 values spread into tiles of the processor, which multiplies all of them.

As `spmm_bitmap`, at many times its rate of multiplication: spreading the weights is then most of the time,
and one spreading serves 64 tokens. The idea is that of SparAMX (arXiv 2502.12444).

Bad at: many tokens, where a dense product keeps its weights in tiles and spreads nothing.
"""

from ctypes import c_int, c_int64
from pathlib import Path

import torch

from suite import native
from suite.formats.bitmap import bitmap, too_large
from suite.kernel import Prepared, Refused, kernel

HEIGHT, WIDTH = 16, 2  # of a tile: half a row of a tile of the processor, as in the source
FLAGS = ("-mamx-tile", "-mamx-bf16")


def refuse(case, device):
    return [*native.missing(), *too_large(case)]


def prepare(a, b, library):
    (m, k), n = a.shape, b.shape[1]
    if library.ask():
        raise Refused("the system does not let this process use AMX tiles; Linux does from 5.16 on")
    held = bitmap(a, HEIGHT, WIDTH)
    packed = torch.zeros(native.bind(library.packed, k, n, returns=c_int64)(), dtype=b.dtype)
    out = torch.empty(n, m, dtype=b.dtype)
    multiply = native.bind(
        library.spmm_bfloat16,
        *(held.bits, held.values, held.starts, native.LIVE, out, m, k, n, packed),
        c_int(torch.get_num_threads()),
    )

    def run(b):
        multiply(b)
        return out.t()

    steps = packed.numel()  # each number of b, edges and idle tokens too, with each row
    return Prepared(
        run,
        executed=2 * steps * (len(held.starts) - 1) * HEIGHT,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.bits, held.values, held.starts, packed, out),
        note={"algorithm": f"{HEIGHT}x{WIDTH}"},
    )


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("bfloat16",),
    isa=("amx_tile", "amx_bf16", "avx512_vbmi2"),
    refuse=refuse,
    ids=("endor", "squarehead"),
    live_order="columns",
)
def spmm_bitmap_amx(a, b):
    """A bitmap and packed values, spread into AMX tiles, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp"), *FLAGS))
