"""Continued: the trained model trained on, for half of the FLOPs that its own training took.

As many for any model that was made of it: one that takes more FLOPs for an example sees fewer of them.
"""

from suite.method import trainer
from suite.patterns.chosen import Chosen
from suite.studying.layers import Work

SHARE = 0.5  # of the dense training


@trainer(
    patterns=(Chosen,), training="weights", extents=("full",), ids=("sparse-upcycling", "upcycling-inference")
)
def continued(sparsifier):
    """Train on, as it is, for half of the dense training's FLOPs."""
    dense = Work(sparsifier.problem, sparsifier.problem.trained).total
    for _ in sparsifier.schedule(SHARE * dense / sparsifier.forward_flops):
        sparsifier.step()
