"""Balanced: the training of the dense model, for models whose experts pay for uneven loads beside it.

Yang et al., "M6-T: Exploring Sparse Expert Models and Beyond", 2021, ask what such a penalty is worth: even
loads save time where experts stand on devices of their own, but need not make the model any better.
"""

from suite.method import trainer
from suite.patterns.chosen import Chosen
from suite.workloads.accuracy.feed import Mixture

PENALTY = 0.01  # for uneven loads, of each layer


@trainer(patterns=(Chosen,), start="fresh", training="weights", extents=("full",), ids=("m6-t",))
def balanced(sparsifier):
    """Train a fresh model as it is, its experts' uneven loads penalised."""
    for _ in sparsifier.schedule():
        sparsifier.step(loss=paying(sparsifier.problem))


def paying(problem):
    """The problem's loss of a model on a batch, and what the uneven loads of its experts cost."""

    def loss(model, batch):
        rules = [one for one in model.modules() if isinstance(one, Mixture)]
        return problem.loss(model, batch) + PENALTY * sum(one.uneven for one in rules)

    return loss
