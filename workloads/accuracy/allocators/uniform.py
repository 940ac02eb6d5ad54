"""Uniform: the same sparsity in every layer. Layers that few weights pass through suffer first."""

from suite.method import allocator


@allocator(ids=("random-pruning", "hidden-structures"))
def uniform(layers, scores, sparsity):
    """The same sparsity in every layer."""
    return dict.fromkeys(layers, sparsity)
