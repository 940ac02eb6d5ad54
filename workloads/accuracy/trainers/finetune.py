"""Fine-tuning: prune the trained model at once, then train what is left.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015.
"""

from suite.method import trainer


@trainer(
    after=("magnitude-global", "magnitude-uniform", "random-copied"),
    training="weights",
    ids=("hidden-structures",),
)
def finetune(lesson):
    """Prune the dense model, then train for half as many steps again."""
    lesson.prune()
    for _ in lesson.course(0.5):
        lesson.step()
