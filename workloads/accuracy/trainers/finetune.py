"""Fine-tuning: prune the trained model at once, then train what is left.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015.
"""

from suite.method import trainer


@trainer(
    after=("magnitude-global", "magnitude-uniform", "random-copied"),
    training="weights",
    ids=("hidden-structures",),
)
def finetune(sparsifier):
    """Prune the dense model, then train for half as many steps again."""
    sparsifier.prune()
    for _ in sparsifier.schedule(0.5):
        sparsifier.step()
