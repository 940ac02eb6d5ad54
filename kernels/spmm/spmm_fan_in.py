"""Constant fan-in, condensed: two plain tables, without row pointers and without a row that is longer.

One column: rows stand side by side in the lanes of registers, and the numbers of `b` that a slot of them
meets are put together by hand; nothing is summed across lanes, and no row ends early. More columns: `b` is
packed in panels. As the slots of a row ascend and rows are equally long, what some slots of all rows meet
is near the same place of a panel, which so stays in L2.

Bad at: many columns. The place is near, yet too wide for L1, and tiles that would be narrow enough have
unlike numbers of each row: these are what tiled rows keep pointers for.

Lasby et al., "Dynamic Sparse Training with Structured Sparsity", ICLR 2024.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.condensed import condensed
from suite.kernel import Prepared, kernel
from suite.patterns.fan_in import FanIn

PANEL = 64  # columns, as in the source
NEAR = 2**19  # bytes of a panel that some slots of all rows meet: they stay in L2
LEAST = 32  # slots of a row that pay for fetching and storing its sums
ROWS = 512  # of a chunk: its sums between tiles are 128 KiB at most
SHARE = 8  # chunks a thread, so that the last to finish is not long alone


def refuse(case, device):
    return native.missing()


def prepare(a, b, *flags):
    library = native.load(Path(__file__).with_suffix(".cpp"), *flags)
    (m, k), n = a.shape, b.shape[1]
    threads = torch.get_num_threads()
    held = condensed(a, library.lanes() if n == 1 else 1)
    widths = [library.stride(min(PANEL, n - first)) for first in range(0, n, PANEL)] if n > 1 else [1]
    tile = max(LEAST, held.fan_in * NEAR // (4 * widths[0] * k))
    chunk = max(1, min(ROWS, m * len(widths) // (SHARE * threads)))
    packed = torch.empty(k * sum(widths))
    partial = torch.empty(threads * chunk * PANEL)
    out = b.new_empty(m, n)
    multiply = native.bind(
        library[f"spmm_{str(held.columns.dtype).removeprefix('torch.')}"],
        *(held.values, held.columns, native.LIVE, out),
        *(m, k, n, held.fan_in, tile, chunk),
        *(packed, partial, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * held.values.numel() * sum(widths),
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.values, held.columns, packed, partial, out),
        note={"fan_in": held.fan_in, "lanes": library.lanes()},
    )


@kernel(op="spmm", on="cpu", dtypes=("float32",), patterns=(FanIn,), refuse=refuse, ids=("srigl",))
def spmm_fan_in(a, b):
    """Condensed rows of equal length, in C++."""
    return prepare(a, b)
