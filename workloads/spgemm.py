"""Sparse times sparse: graphs and meshes with themselves, matrices with their transpose, pruned layers."""

from itertools import product

from suite.case import case
from suite.patterns.banded import Banded
from suite.patterns.rmat import Rmat
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, DLMC_TRANSFORMER, PREFILL, SPARSITIES

GRIDS = {5: (256**2, 10**6), 9: (256**2, 10**6), 7: (64**3, 100**3), 27: (64**3, 100**3)}
GRAPHS = ((4096, 0.99), (4096, 0.999), (20_000, 0.999), (100_000, 0.9999), (10**6, 0.999999))
BANDS = ((4096, 0.9), (4096, 0.99), (20_000, 0.999))
TALL_AND_WIDE = ((8192, 2048), (2048, 8192))
TOKENS = (512, 64)


@workload(version=1, ids=("smash",))
def spgemm(extent):
    """Both sparse: paths in graphs, coarser meshes, rows that meet, pruned weights with activations."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def square(pattern, side):
    """A matrix with itself."""
    return case("spgemm", pattern, m=side, k=side, p=side)


def smoke():
    """Seconds."""
    yield square(Rmat(0.99), 1024)


def default():
    """One of each kind; the mesh is larger than any dense product would be worth."""
    m, k = PREFILL
    yield case("spgemm", Unstructured(0.9), m=m, k=k, p=512)
    yield square(Rmat(0.99), 2048)
    yield square(Stencil(9), 256**2)
    yield case("spgemm", Rmat(0.99), m=1024, k=4096, p=1024)


def full():
    """Graphs, meshes and bands by size and density; pruned layers at the literature's sparsities."""
    for side, sparsity in GRAPHS:
        yield square(Rmat(sparsity), side)
    for points, sides in GRIDS.items():
        for side in sides:
            yield square(Stencil(points), side)
    for side, sparsity in BANDS:
        yield square(Banded(sparsity), side)
    for (m, k), pattern in product(TALL_AND_WIDE, (Rmat(0.99), Unstructured(0.99), Unstructured(0.999))):
        yield case("spgemm", pattern, m=m, k=k, p=m)
    for (m, k), p, sparsity in product((ANCHOR, PREFILL), TOKENS, SPARSITIES):
        yield case("spgemm", Unstructured(sparsity), m=m, k=k, p=p)
    for (m, k), sparsity in product(DLMC_TRANSFORMER.values(), SPARSITIES):
        yield case("spgemm", Unstructured(sparsity), m=m, k=k, p=256)
