"""Continued: the trained model trained on, for half of the FLOPs that its own training took.

As many for any model that was made of it: one that takes more FLOPs for an example sees fewer of them. What
is pruned and then fine-tuned sees half as many examples again as well, so this is the dense rival that
learned as long; `longer` is that among smaller ones.
"""

from suite.method import trainer
from suite.patterns.chosen import Chosen
from suite.patterns.unstructured import Unstructured
from suite.studying.layers import Work

SHARE = 0.5  # of the dense training


@trainer(
    patterns=(Chosen, Unstructured),
    training="weights",
    once=True,
    ids=("sparse-upcycling", "upcycling-inference", "gmp-iso-memory"),
)
def continued(sparsifier):
    """Train on, as it is, for half of the dense training's FLOPs."""
    dense = Work(sparsifier.problem, sparsifier.problem.trained).total
    for _ in sparsifier.schedule(SHARE * dense / sparsifier.forward_flops):
        sparsifier.step()


@trainer(start="fresh", training="weights", ids=("gmp-iso-memory",))
def longer(sparsifier):
    """Train a fresh model as it is, half as long again as the dense one."""
    for _ in sparsifier.schedule(1 + SHARE):
        sparsifier.step()
