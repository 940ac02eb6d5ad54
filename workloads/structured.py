"""Weights that are structured: Monarch's two factors, Pixelfly's two parts, Patch's two kinds of tiles.

The first two leave no zeros in the weight as a whole: their rival is the dense layer that they stand in for.
"""

from itertools import product

from suite.case import case
from suite.patterns.butterfly import Butterfly
from suite.patterns.monarch import Monarch
from suite.patterns.patch import Patch
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, DTYPES, FEW_TOKENS, LLM, PREFILL, TOKENS

FACTORS = ((4, 4), (32, 64), (16, 16), (8, 8), (64, 64), (16, 128), (128, 16))  # blocks and groups
SHARES = (0.5, 1.0, 0.25, 0.75)  # of tiles that are 2:4
PARTS = ((64, 128), (32, 128), (128, 128), (64, 32), (64, 512), (1, 128))  # side of a block, and the rank


@workload(version=1, ids=("monarch", "pixelfly", "patch"))
def structured(extent):
    """Layers in two factors, as a flat butterfly with a part of low rank, in tiles that are dense or 2:4."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    yield case("factored", Monarch(32, 32), m=1024, k=1024, n=64)
    yield case("sparse_low_rank", Butterfly(64), m=1024, k=1024, r=32, n=64)


def default():
    """Few large blocks and many small ones, at a few tokens and at many."""
    (m, k), n = PREFILL, 64
    for blocks, groups in FACTORS[:3]:
        yield case("factored", Monarch(blocks, groups), m=m, k=k, n=n)
    yield case("factored", Monarch(*FACTORS[1]), m=m, k=k, n=1)
    yield case("factored", Monarch(*FACTORS[2]), "bfloat16", m=m, k=k, n=512)
    yield case("sparse_low_rank", Butterfly(64), m=m, k=k, r=64, n=n)
    yield case("sparse_low_rank", Butterfly(32), "bfloat16", m=m, k=k, r=64, n=512)
    for share in SHARES[:2]:
        yield case("spmm", Patch(64, 64, share), m=m, k=k, n=n)


def full():
    """Every cut on the anchor at every number of tokens, then on layers of the models that it divides."""
    m, k = ANCHOR
    for (blocks, groups), dtype, n in product(FACTORS, DTYPES, TOKENS):
        yield case("factored", Monarch(blocks, groups), dtype, m=m, k=k, n=n)
    for share, dtype, n in product(SHARES, DTYPES, TOKENS):
        yield case("spmm", Patch(64, 64, share), dtype, m=m, k=k, n=n)
    for (side, rank), dtype, n in product(PARTS, DTYPES, TOKENS):
        yield case("sparse_low_rank", Butterfly(side), dtype, m=m, k=k, r=rank, n=n)
    layers = [shape for shape in dict.fromkeys(LLM.values()) if shape != ANCHOR]
    for (m, k), n in product(layers, FEW_TOKENS):
        for blocks, groups in FACTORS[:3] if m >= k else ():  # the first factor is k x k
            if not Monarch(blocks, groups).faults(m + k, k):
                yield case("factored", Monarch(blocks, groups), "bfloat16", m=m, k=k, n=n)
        yield case("sparse_low_rank", Butterfly(64), "bfloat16", m=m, k=k, r=128, n=n)
