"""RigL: small weights go, those with the largest gradients grow.

Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020. It costs a dense gradient at every
change.
"""

from suite.method import trainer
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.trainers.regrown import train


@trainer(after=("random-erk",), patterns=(Unstructured,), start="fresh", training="weights")
def rigl(sparsifier):
    """Train a fresh sparse model whose smallest weights move to where the gradient is largest."""
    train(sparsifier, lambda _, gradient: gradient.abs(), dense_gradients=True)
