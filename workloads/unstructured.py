"""Weights pruned anywhere, and the other matrices a general sparse product meets."""

from itertools import product

from suite.case import case
from suite.patterns.banded import Banded
from suite.patterns.fan_in import FanIn
from suite.patterns.planted import Planted
from suite.patterns.rmat import Rmat
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.shapes import (
    ANCHOR,
    DLMC_TRANSFORMER,
    DTYPES,
    FEW_TOKENS,
    LLM,
    MOBILENET_V1,
    PREFILL,
    RESNET_50,
    SPARSITIES,
    TOKENS,
)

CLASSES = (Rmat, Banded, FanIn)  # beside uniform random, which is the worst case for blocks


@workload(
    version=1,
    ids=("smat", "sten", "turbo-vbi", "high-sparsity-llama", "fast-sparse-convnets", "sparsebytenn"),
)
def unstructured(extent):
    """Unstructured layers of language models and convolutions, and matrices of other classes."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    for sparsity in (0.5, 0.9):
        yield case("spmm", Unstructured(sparsity), m=1024, k=1024, n=64)
    yield case("spmm", Unstructured(0.9), m=1024, k=1024, n=1)
    yield case("spmm", Rmat(0.99), m=1000, k=1000, n=33)


def default():
    """The anchor layer in every regime, a smaller one at prefill, then one case of each other kind."""
    for (m, k), n, sparsities in (
        (ANCHOR, 64, (0.5, 0.9, 0.7, 0.95, 0.3, 0.99)),
        (ANCHOR, 1, (0.5, 0.9, 0.7, 0.95, 0.3, 0.99)),
        (PREFILL, 512, (0.5, 0.9, 0.7, 0.95, 0.3)),
    ):
        for sparsity in sparsities:
            yield case("spmm", Unstructured(sparsity), m=m, k=k, n=n)
    m, k = ANCHOR
    for sparsity in (0.5, 0.9, 0.95):
        yield case("spmm", Unstructured(sparsity), "bfloat16", m=m, k=k, n=64)
    for pattern in (Rmat(0.99), Banded(0.99), Planted(16, 16, 0.95), Stencil(9)):
        yield case("spmm", pattern, m=m, k=k, n=64)
    m, k, n = MOBILENET_V1["1x1 at 14, others"]
    for sparsity in (0.9, 0.7):
        yield case("spmm", Unstructured(sparsity), m=m, k=k, n=n)


def full():
    """The literature's grids: the anchor at everything, other layers at fewer numbers of tokens."""
    m, k = ANCHOR
    for dtype, n, sparsity in product(DTYPES, TOKENS, SPARSITIES):
        yield case("spmm", Unstructured(sparsity), dtype, m=m, k=k, n=n)
    for of, dtype, n, sparsity in product(CLASSES, DTYPES[:2], FEW_TOKENS, SPARSITIES):
        yield case("spmm", of(sparsity), dtype, m=m, k=k, n=n)
    for block, dtype, n, sparsity in product((16, 32), DTYPES[:2], FEW_TOKENS, SPARSITIES):
        yield case("spmm", Planted(block, block, sparsity), dtype, m=m, k=k, n=n)
    for points, side, n in product((5, 9, 7, 27), (64**2, 10**6), (1, 64)):
        yield case("spmm", Stencil(points), m=side, k=side, n=n)
    for sparsity, n in product((0.9999, 0.99999), (1, 64)):
        yield case("spmm", Rmat(sparsity), m=10**6, k=10**6, n=n)
    layers = [
        shape for shape in dict.fromkeys((*LLM.values(), *DLMC_TRANSFORMER.values())) if shape != ANCHOR
    ]
    for (m, k), dtype, n, sparsity in product(layers, DTYPES[:2], FEW_TOKENS, SPARSITIES):
        yield case("spmm", Unstructured(sparsity), dtype, m=m, k=k, n=n)
    convolutions = dict.fromkeys((*MOBILENET_V1.values(), *RESNET_50.values()))
    for (m, k, pixels), images, sparsity in product(convolutions, (1, 32), SPARSITIES):
        yield case("spmm", Unstructured(sparsity), m=m, k=k, n=pixels * images)
