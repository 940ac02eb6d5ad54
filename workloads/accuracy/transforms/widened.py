"""Widened: the model that `wide` makes sparse, without its zeros: what more capacity is worth at most.

It takes 1 / (1 - sparsity) times the FLOPs that a sparse one of its width has. Where it is no better than the
dense model, a wider model of the dense one's FLOPs has nothing to win.
"""

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.transforms.wide import wide


@transform(after=("plain",), patterns=(Unstructured,), start="fresh", extents=("full",), ids=("sparse-ift",))
def widened(problem, pattern):
    """A wider dense model, as wide as a sparse one of the dense model's FLOPs."""
    return wide(problem, pattern)
