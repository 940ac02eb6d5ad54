"""Pruned 1x1 convolutions of mobile networks: output by input channels, times the pixels of one image."""

from itertools import product

from suite.case import case
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.shapes import EFFICIENTNET_B0, MOBILENET_V1, MOBILENET_V2

LAYERS = tuple(dict.fromkeys((*MOBILENET_V1.values(), *MOBILENET_V2.values(), *EFFICIENTNET_B0.values())))
SPARSITIES = (0.5, 0.9, 0.7, 0.95, 0.3, 0.75, 0.8)  # the literature's; coarse to fine


@workload(version=1, ids=("fast-sparse-convnets", "sparsebytenn"))
def pointwise(extent):
    """1x1 convolutions of mobile networks, unstructured and in groups of four weights."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    m, k, n = MOBILENET_V1["1x1 at 28, second"]
    yield case("spmm", Block(4, 1, 0.5), m=m, k=k, n=n)


def default():
    """Groups of four output channels at low sparsity, where unstructured weights lose, and these at high."""
    m, k, n = MOBILENET_V1["1x1 at 56, second"]
    for pattern in (Block(4, 1, 0.5), Block(4, 1, 0.3), Unstructured(0.9), Unstructured(0.7)):
        yield case("spmm", pattern, m=m, k=k, n=n)
    m, k, n = MOBILENET_V1["1x1 at 14, others"]
    for sparsity in (0.5, 0.3):
        yield case("spmm", Block(4, 1, sparsity), m=m, k=k, n=n)


def full():
    """Every layer of the three networks, unstructured and in groups of four output or input channels."""
    for (m, k, n), sparsity in product(LAYERS, SPARSITIES):
        for pattern in (Unstructured(sparsity), Block(4, 1, sparsity), Block(1, 4, sparsity)):
            yield case("spmm", pattern, m=m, k=k, n=n)
