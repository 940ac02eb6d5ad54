"""Decode over a cache that lies in slower memory: what a call looks at is brought over, or all of it.

A processor's slow tier is a disk, a GPU's its host's memory. Dense is full offload: everything comes over in
each call. The same case of `decode` stands beside: the cache whole in fast memory, where it fits, and the
same selectors with nothing to fetch. What does not fit is the point, so a line also says which share of a
cache a selector keeps near: 1 over it is how many sequences fit there where one would whole.
"""

from dataclasses import replace
from itertools import product

from suite.workload import workload
from suite.workloads.kv import SIXTEENTH, chosen

CONTEXTS = (1024, 8192, 32768, 131072)
BATCHES = (1, 4)
SPARSITIES = (SIXTEENTH, 0.75, 1 - 1 / 64)
INPUTS = ("needles", "channels")
MOST = 2**28  # numbers of keys, or of values


@workload(version=1, ids=("double-sparsity", "shadowkv", "lserve"))
def kv_offload(extent):
    """One query a head over a cache on a disk or in a host's memory, of which pages are fetched."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    yield far(chosen(SIXTEENTH, 1, 1024))


def default():
    """A cache of 32 MB, far and near."""
    yield from beside(chosen(SIXTEENTH, 1, 8192))


def full():
    """Every context, a few batches, shorter and longer pages."""
    sizes = [(n, t) for n, t in product(BATCHES, CONTEXTS) if n * t * 8 * 128 <= MOST]
    for (n, t), sparsity, page in product(sizes, SPARSITIES, (16, 64)):
        yield from beside(chosen(sparsity, n, t, page=page))
    for (n, t), data in product(sizes, INPUTS):
        yield from beside(chosen(SIXTEENTH, n, t, data=data))
    for t in CONTEXTS[:3]:
        yield from beside(chosen(SIXTEENTH, 1, t, heads=32))


def far(near):
    """The same cache, in slower memory."""
    return replace(near, op="decode_offload")


def beside(near):
    """Both."""
    yield far(near)
    yield near
