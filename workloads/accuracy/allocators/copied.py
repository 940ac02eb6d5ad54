"""Copied: the shares that one ranking of all magnitudes gives each layer.

With random scores it is the control of global magnitude: what is left of that when only the shares are known.
"""

from suite.method import allocator
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.allocators.global_ import ranked


@allocator(after=("random",), patterns=(Unstructured,), ids=("random-pruning",))
def copied(layers, scores, sparsity):
    """As much of each layer as global magnitude keeps of it."""
    return ranked({name: layer.weight.abs() for name, layer in layers.items()}, sparsity)
