"""Weights of few bits: half of all groups at 4 bits, and what else would take as little room.

The same layer in the forms that compete for a memory: all of it at 4 and at 2 bits, 2:4 at 16, and groups
along a row left out at 4. Dense kernels of 16 bits race on what the codes stand for. With few tokens a call
waits for its weights, and bits are time; with many, they are unpacked for nothing.
"""

from itertools import product

from suite.case import UNPACKED, W2A16, W4A16, case
from suite.patterns.block import Block
from suite.patterns.n_of_m import NofM
from suite.quantized import GROUP
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, LLM

TOKENS = (1, 16, 4, 64, 8, 2, 32)
SPARSITIES = (0.5, 0.75, 0.25, 0.9)
ALL = 0.0
TWO_OF_FOUR = NofM(2, 4), UNPACKED


@workload(version=1, ids=("gqsa",))
def quantized(extent):
    """Layers of language models in 4 bits with groups left out, beside 2 bits, 2:4 and all of it."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def grouped(sparsity, dtype=W4A16):
    return Block(1, GROUP, sparsity), dtype


def smoke():
    """Seconds."""
    for pattern, dtype in (grouped(0.5), grouped(ALL, W2A16), TWO_OF_FOUR):
        yield case("spmm", pattern, dtype, m=1024, k=1024, n=1)


def default():
    """One layer in all forms, at one token and until there are too many."""
    m, k = ANCHOR
    for n, (pattern, dtype) in product(TOKENS[:3], (grouped(0.5), grouped(ALL, W2A16), TWO_OF_FOUR)):
        yield case("spmm", pattern, dtype, m=m, k=k, n=n)
    yield case("spmm", *grouped(0.75), m=m, k=k, n=1)


def full():
    """All shares of groups and tokens, then other layers."""
    forms = (*map(grouped, SPARSITIES), grouped(ALL, W2A16), TWO_OF_FOUR)
    m, k = ANCHOR
    for n, (pattern, dtype) in product(TOKENS, forms):
        yield case("spmm", pattern, dtype, m=m, k=k, n=n)
    layers = [shape for shape in dict.fromkeys(LLM.values()) if shape != ANCHOR]
    for (m, k), n, (pattern, dtype) in product(layers, TOKENS[:4], (grouped(0.5), *forms[-2:])):
        yield case("spmm", pattern, dtype, m=m, k=k, n=n)
