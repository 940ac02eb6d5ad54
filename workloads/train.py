"""Sparse layers in training: steps forward and back, their gradients alone, and epochs of a whole network."""

from itertools import product

from suite.case import case
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, DLMC_TRANSFORMER, PREFILL, SPARSITIES

BATCHES = (256, 64, 16, 1024)  # samples of a step
DEEP = 3  # layers of a network


@workload(version=1, ids=("sparseprop", "nerva"))
def train(extent):
    """Training steps of sparse layers, and epochs of truly sparse networks."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def network(sparsity, width, batch, steps):
    return case("mlp_epoch", Unstructured(sparsity), m=DEEP * width, k=width, n=batch, steps=steps)


def smoke():
    """Seconds."""
    yield case("sparse_step", Unstructured(0.9), m=512, k=512, n=64)
    yield network(0.9, 256, 64, 4)


def default():
    """A layer around where sparsity starts to pay, and one epoch of a network."""
    m, k = PREFILL
    for sparsity in (0.5, 0.9, 0.95, 0.8):
        yield case("sparse_step", Unstructured(sparsity), m=m, k=k, n=256)
    yield network(0.9, 512, 128, 16)


def full():
    """Layers by batches, each gradient by itself, networks up to 99 %."""
    layers = (PREFILL, ANCHOR, *dict.fromkeys(DLMC_TRANSFORMER.values()))
    for (m, k), n, sparsity in product(layers, BATCHES, SPARSITIES):
        yield case("sparse_step", Unstructured(sparsity), m=m, k=k, n=n)
    for width, sparsity in product((512, 1024), SPARSITIES):
        yield network(sparsity, width, 128, 16)
    m, k = PREFILL
    for op, n, sparsity in product(("spmm_t", "sddmm"), BATCHES, SPARSITIES):
        yield case(op, Unstructured(sparsity), m=m, k=k, n=n)
