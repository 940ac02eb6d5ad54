"""Magnitude: the largest weights. Blind to how large a weight's inputs are.

Jaiswal et al., "The Emergence of Essential Sparsity in Large Pre-trained Models", NeurIPS 2023, on how far
this goes with no training after it.
"""

from suite.method import criterion


@criterion(ids=("essential-sparsity", "hidden-structures"))
def magnitude(layer):
    """The largest weights."""
    return layer.weight.abs()
