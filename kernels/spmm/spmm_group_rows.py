"""Groups of rows in C++: one load of a row of `b` serves the 2, 4 or 8 rows that have a nonzero there.

What holds compressed rows back is that every multiply-add loads its own piece of `b`. In a group of h rows, V
registers of `b` and h values make h x V multiply-adds, as in a dense product, so that already 30 % of zeros
pay. Rows with the same columns are first put together, wherever they stand; the answer's rows are stored
where they belong. A panel of `b` is packed by whoever works on it, unless it is met seldom.
bfloat16 is widened, `a` beforehand, `b` as it is packed, and summed in float32.

Bad at: patterns whose rows do not share their columns, which it refuses, for the groups would be mostly
zeros; bfloat16 where the dense product has instructions of its own.
"""

from ctypes import c_int
from math import gcd
from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.formats.bsr import SMALL, fullness
from suite.formats.groups import count_strip_groups, even, strips, whole
from suite.formats.rearranged import alike, stacked
from suite.kernel import Prepared, Refused, kernel

COST = {8: 1.0, 4: 1.05, 2: 1.2}  # of a value in a group of so many rows, beside one of eight
LEAST_FULL = 0.8  # share of nonzeros in the groups, below which other layouts are quicker
L1, L2 = 2**13, 2**18  # numbers of b that stay there, beside the rest: 32 KiB and 1 MiB
WAY = 2**14  # numbers after which addresses meet the same set of a second-level cache
SELDOM = 4  # times, for each row of a group, that a number of b is met and is not worth packing
SEGMENT = 64  # groups of a strip within a tile that pay for fetching and storing its sums
MOST_PARTIAL = 2**15  # numbers that a chunk's sums take between tiles: 128 KiB, and stay in L2
SHARE = 8  # units of work a thread, so that the last to finish is not long alone
STRIP = 4  # what a strip costs beside its groups, counted in groups


def refuse(case, device):
    reasons = native.missing()
    if (full := fullness(case, 2, 1)) < LEAST_FULL:
        reasons.append(hollow(full))
    return reasons


def hollow(full):
    return f"needs rows that share their columns: groups of two would be {full:.0%} full"


def arranged(a, tallest):
    """Rows of a group, and an order of all rows, with which the groups cost the least."""
    heights = [height for height in COST if height <= tallest]
    choices = [(height, np.arange(a.shape[0])) for height in heights]
    stored = [height * count_strip_groups(a, height, order) for height, order in choices]
    if min(stored) > a.nonzeros:
        leader = alike(a)
        choices += [(height, stacked(leader, height)) for height in heights]
        stored += [height * count_strip_groups(a, height, order) for height, order in choices[len(heights) :]]
    best = min(range(len(choices)), key=lambda at: COST[choices[at][0]] * stored[at])
    if a.nonzeros < LEAST_FULL * stored[best] and a.shape[0] * a.shape[1] > SMALL:
        raise Refused(hollow(a.nonzeros / min(stored)))
    return choices[best]


def depth_of(a, height, width):
    """Columns of a tile, of which `width` of b are worked on at a time.

    Few enough for the slice to stay in L1, if the strips then have many groups in it. Eight rows use what
    they load so often that it may come from L2.
    """
    m, k = a.shape
    depth = (L1 if height < 8 else L2) // width
    while depth < k and depth * a.nonzeros < SEGMENT * m * k:
        depth *= 2
    return even(k, min(depth, L2 // width))


def stays(depth, n):
    """Whether so many rows of b, where they are, do not displace each other in a cache."""
    return depth * gcd(n, WAY) <= L2 // 4


def chunks_of(starts, strips, panels, most, threads):
    """Where runs of strips of about equal work, and of so many at most, begin, and the end: int64."""
    work = starts.long().diff().view(-1, strips).sum(0).numpy() + STRIP
    shares = np.linspace(0, work.sum(), min(strips, whole(SHARE * threads, panels)) + 1)
    edges = np.searchsorted(np.cumsum(work), shares[1:-1])
    return torch.from_numpy(np.unique(np.concatenate((edges, np.arange(0, strips, most), [0, strips]))))


def prepare(a, b, library):
    (m, k), n = a.shape, b.shape[1]
    threads = torch.get_num_threads()
    height, order = arranged(a, library.tallest())
    widest, computed = library.widest_panel(height), library.computed(n)
    held = strips(a, height, depth_of(a, height, min(computed, widest)), order)
    values = held.values.float()
    sums = height * (widest + 1)
    most = max(1, MOST_PARTIAL // sums) if held.tiles > 1 else held.strips
    chunks = chunks_of(held.starts, held.strips, whole(n, widest), most, threads)
    seldom = len(held.columns) <= SELDOM * height * k and stays(held.depth, n)
    in_place = b.dtype == torch.float32 and (seldom or bool(library.is_packed(n, height)))
    packed = torch.empty(0 if in_place else threads * k * library.row_of_panel(height))
    room = int(chunks.diff().max()) * sums if held.tiles > 1 else 0
    partial = torch.empty(threads * room)
    out = torch.empty(m, n, dtype=b.dtype)
    number = "float" if b.dtype == torch.float32 else "bfloat16"
    column = "uint16" if held.columns.dtype == torch.uint16 else "int32"
    multiply = native.bind(
        library[f"spmm_{number}_{column}_{height}"],
        *(held.starts, held.columns, values, held.rows, native.LIVE, out),
        *(held.strips, k, n, held.depth, held.tiles),
        *(chunks, len(chunks) - 1, in_place, packed, partial, room, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    where = "in place" if in_place else "packed"
    moved = "" if np.array_equal(order, np.arange(m)) else "rearranged "
    return Prepared(
        run,
        executed=2 * values.numel() * computed,
        values=values.nbytes,
        metadata=held.metadata_bytes + chunks.nbytes,
        holds=(held.starts, held.columns, values, held.rows, chunks, packed, partial, out),
        note={"algorithm": f"{moved}{height}x1", "tiles": held.tiles, "b": where},
    )


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse, ids=("sparsebytenn",))
def spmm_group_rows(a, b):
    """Groups of 2, 4 or 8 rows against registers of b, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp")))
