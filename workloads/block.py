"""Weights pruned in blocks: square, rectangular, and the fixed blocks of a butterfly."""

from itertools import product

from suite.case import case
from suite.patterns.block import Block
from suite.patterns.butterfly import Butterfly
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, DTYPES, FEW_TOKENS, LLM, PREFILL, SPARSITIES, TOKENS

SQUARES = (32, 16, 64, 128)
RECTANGLES = ((1, 16), (16, 1), (8, 32), (64, 16))


@workload(version=1, ids=("pixelfly", "lpvit", "g2gnet"))
def block(extent):
    """Layers kept in blocks of 16 to 128, in rectangles, and in a flat butterfly."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    for sparsity in (0.5, 0.9):
        yield case("spmm", Block(32, 32, sparsity), m=1024, k=1024, n=64)


def default():
    """The anchor layer in blocks of 32, then other blocks at one sparsity."""
    for (m, k), n, sparsities in ((ANCHOR, 64, (0.5, 0.9, 0.7, 0.95, 0.3)), (PREFILL, 512, (0.5, 0.9, 0.7))):
        for sparsity in sparsities:
            yield case("spmm", Block(32, 32, sparsity), m=m, k=k, n=n)
    m, k = ANCHOR
    for pattern in (Block(16, 16, 0.9), Block(1, 16, 0.9), Butterfly(64)):
        yield case("spmm", pattern, m=m, k=k, n=64)


def full():
    """Every block on the anchor at everything, then squares on every layer of the models."""
    m, k = ANCHOR
    for size, dtype, n, sparsity in product(SQUARES, DTYPES, TOKENS, SPARSITIES):
        yield case("spmm", Block(size, size, sparsity), dtype, m=m, k=k, n=n)
    for (rows, columns), dtype, n, sparsity in product(RECTANGLES, DTYPES[:2], FEW_TOKENS, SPARSITIES):
        yield case("spmm", Block(rows, columns, sparsity), dtype, m=m, k=k, n=n)
    for size, dtype, n in product(SQUARES, DTYPES, TOKENS):
        yield case("spmm", Butterfly(size), dtype, m=m, k=k, n=n)
    layers = [shape for shape in dict.fromkeys(LLM.values()) if shape != ANCHOR]
    for (m, k), size, n, sparsity in product(layers, SQUARES, FEW_TOKENS, SPARSITIES):
        yield case("spmm", Block(size, size, sparsity), "bfloat16", m=m, k=k, n=n)
