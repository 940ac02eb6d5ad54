"""Matched: a fresh model trained for the FLOPs that the dense training takes, on as many examples as that is.

A mixture of experts pays for uneven loads, or all tokens would come to ask one expert.
"""

from suite.method import trainer
from suite.patterns.chosen import Chosen
from suite.studying.layers import Work

PENALTY = 0.01  # for uneven loads, of each layer


@trainer(
    patterns=(Chosen,),
    start="fresh",
    training="weights",
    extents=("full",),
    ids=("moe-params-vs-flops",),
)
def matched(sparsifier):
    """Train a fresh model for the dense training's FLOPs."""
    problem = sparsifier.problem
    rules = [one for one in sparsifier.model.modules() if hasattr(one, "uneven")]

    def loss(model, batch):
        return problem.loss(model, batch) + PENALTY * sum(one.uneven for one in rules)

    for _ in sparsifier.schedule(Work(problem, problem.trained).total / sparsifier.forward_flops):
        sparsifier.step(loss=loss)
