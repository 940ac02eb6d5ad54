"""Compressed rows in column tiles, in C++: of values that change nothing is converted, and nothing is dense.

All three products run along the samples, as in SparseProp (Nikdan et al., ICML 2023): a nonzero adds a
multiple of a row of x to sums in registers, or has the product of a row of dy and one of x summed across. The
values are read where they are but for the input gradient, which has the pattern by columns, made once, and
picks the values anew in each step. A tile is as many columns as have their rows of x in L1, or in L2 where a
row would have too few nonzeros in it.

Bad at: few samples, which are padded to a whole register; weights that are more than half full.
"""

from ctypes import c_int
from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.cpu.info import cache_bytes
from suite.formats.columns import columns
from suite.kernel import Prepared, Refused, kernel
from suite.sparse import INT32_MOST

NEAR, FAR = 1.0, 0.5  # shares of L1 and of L2 that the rows of x take which a tile meets
FULL = 0.18  # density above which a row has enough in a near tile
SEGMENT = 8  # nonzeros a row must have in a tile, on average, to pay for fetching and storing its sums
MOST_ROWS = 512  # of a chunk: what it answers stays in L2 from tile to tile
SHARE = 4  # chunks a thread, so that the last to finish is not long alone
SHORT = 2**16  # columns that two bytes can tell apart
GROUP = 4  # stored positions that are summed across together, as in the source


def refuse(case, device):
    reasons = native.missing()
    if case.pattern and not case.data and case.pattern.count(case["m"], case["k"]) > INT32_MOST:
        reasons.append(f"counts nonzeros in 32 bits; {case.pattern} has more than {INT32_MOST} here")
    return reasons


def compiled():
    return native.load(Path(__file__).with_suffix(".cpp"))


class Tiles:
    """Compressed rows in tiles, for packed operands of n columns.

    Entries stay in the order of their rows, or are sorted `by_tile`; `order` then says where each was.
    """

    def __init__(self, library, starts, indices, shape, n, by_tile=False):
        if len(indices) > INT32_MOST:
            raise Refused(f"{len(indices)} nonzeros; entries are counted to {INT32_MOST}")
        rows, across = shape
        self.count = tiles(len(indices), shape, min(n, library.panel()))
        depth = -(-across // self.count)
        tile, within = np.divmod(indices.numpy(), np.int32(depth))
        segment = tile * np.int64(rows) + np.repeat(np.arange(rows), starts.diff().numpy())
        lengths = np.bincount(segment, minlength=self.count * rows).reshape(self.count, rows)
        self.sampled = int((-(-lengths // GROUP) * GROUP).sum())  # positions of which `sample` makes sums
        if by_tile:
            self.order = torch.from_numpy(np.argsort(tile, kind="stable"))
            edges, within = np.append(0, lengths.cumsum()), within[self.order.numpy()]
        else:
            edges = starts[:-1].numpy() + np.vstack((np.zeros_like(lengths[:1]), lengths.cumsum(0)))
        self.edges = torch.from_numpy(edges.astype(np.int32))
        self.columns = torch.from_numpy(within.astype(np.uint16))
        self.holds = (self.edges, self.columns)
        self.metadata_bytes = self.edges.nbytes + self.columns.nbytes
        threads = torch.get_num_threads()
        chunk = min(MOST_ROWS, -(-rows // (SHARE * threads)))
        sizes = (rows, across, self.count, depth, 1 if by_tile else rows, chunk, c_int(threads), n)
        given = (*self.holds, *sizes, native.LIVE, native.LIVE, native.LIVE)
        self.multiply = native.bind(library.multiply, *given)  # values, b, out: out = the matrix times b
        self.sample = native.bind(library.sample, *given)  # dy, x, out: out = dy x^T where stored


def tiles(stored, shape, width):
    """How many: of columns whose rows of `width` numbers fill a cache, or more if rows would be too short."""
    rows, across = shape
    near = stored > FULL * rows * across
    share = NEAR * cache_bytes("L1d") if near else FAR * cache_bytes("L2")
    wanted = -(-across // max(1, int(share) // (4 * width)))
    return max(-(-across // SHORT), min(wanted, stored // (SEGMENT * rows)), 1)


def filled(n, library):
    """n columns and those that fill the last register."""
    return -(-n // library.lanes()) * library.lanes()


class Packed:
    """Gives operands of n columns as `Tiles` wants them: as they are, where they are one panel already."""

    def __init__(self, library, rows, n):
        whole = filled(n, library)
        self.holds = []
        if n < whole or whole > library.panel():
            self.holds.append(torch.empty(rows, whole))
        given = (native.LIVE, native.LIVE, rows, n, whole, c_int(torch.get_num_threads()))
        self._pack = native.bind(library.pack, *given, *self.holds)

    def __call__(self, x):
        if not self.holds:
            return x
        self._pack(x, x.stride(0))
        return self.holds[0]


class Layer:
    """The products of a layer whose pattern stays; it answers with memory of its own."""

    def __init__(self, pattern, n, library):
        (m, k), whole, stored = pattern.shape, filled(n, library), pattern.nonzeros
        turned = columns(pattern)
        self.n, self.x = n, None
        self.forth = Tiles(library, pattern.starts, pattern.columns, (m, k), whole)
        self.back = Tiles(library, turned.starts, turned.rows, (k, m), whole, by_tile=True)
        self.places, self.turned = turned.places[self.back.order], torch.empty(stored)
        self.y, self.dx, self.dvalues = torch.empty(m, whole), torch.empty(k, whole), torch.empty(stored)
        self.pack_x, self.pack_dy = Packed(library, k, n), Packed(library, m, n)
        own = (self.y, self.dx, self.dvalues, *self.pack_x.holds, *self.pack_dy.holds)
        self.holds = (*self.forth.holds, *self.back.holds, self.places, self.turned, *own)
        self.metadata_bytes = self.forth.metadata_bytes + self.back.metadata_bytes + self.places.nbytes
        each = (stored, stored, self.forth.sampled)
        self.executed = [2 * positions * whole for positions in each]  # forward, input and weight gradient

    def forward(self, values, x):
        """y; x is kept for the way back."""
        self.x = self.pack_x(x)
        self.forth.multiply(values, self.x, self.y)
        return self.y[:, : self.n]

    def backward(self, values, dy, further=True):
        """The gradients of x, if they go further, and of the values."""
        dy = self.pack_dy(dy)
        if further:
            torch.index_select(values, 0, self.places, out=self.turned)
            self.back.multiply(self.turned, dy, self.dx)
        self.forth.sample(dy, self.x, self.dvalues)
        return self.dx[:, : self.n], self.dvalues


def prepare(pattern, x, library):
    layer = Layer(pattern, x.shape[1], library)

    def run(values, x, dy):
        return layer.forward(values, x), *layer.backward(values, dy)

    return Prepared(
        run,
        executed=sum(layer.executed),
        values=layer.turned.nbytes,
        metadata=layer.metadata_bytes,
        holds=layer.holds,
        note={"tiles": f"{layer.forth.count}+{layer.back.count}", "lanes": library.lanes()},
    )


@kernel(op="sparse_step", on="cpu", dtypes=("float32",), refuse=refuse, ids=("sparseprop",))
def sparse_step_tiled(pattern, values, x, dy):
    """Compressed rows in column tiles, in C++."""
    return prepare(pattern, x, compiled())
