"""Wanda: weights times the size of their inputs, compared within each output.

Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024. A score is
a rank in its row, from 0 to 1, so no allocator learns anything from it. Inputs that move together are taken
for many.
"""

from suite.method import criterion


@criterion()
def wanda(layer):
    """The largest weights times the size of their inputs, ranked within each row."""
    scores = layer.weight.abs() * layer.norms
    return scores.argsort(1).argsort(1) / scores.shape[1]
