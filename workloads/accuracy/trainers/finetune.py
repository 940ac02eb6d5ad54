"""Fine-tuning: prune the trained model at once, then train what is left.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015. After
`obs-uniform-compensate` it is the recipe of Agarwalla et al., "Enabling High-Sparsity Foundational Llama
Models with Efficient Pretraining and Deployment", 2024: a second-order mask, which then stays, and further
training.
"""

from suite.method import trainer


@trainer(
    after=("magnitude-global", "magnitude-uniform", "random-copied", "obs-uniform-compensate"),
    training="weights",
    ids=("hidden-structures", "high-sparsity-llama"),
)
def finetune(sparsifier):
    """Prune the dense model, then train for half as many steps again."""
    sparsifier.prune()
    for _ in sparsifier.schedule(0.5):
        sparsifier.step()
