"""Matched: a fresh model trained for the FLOPs that the dense training takes, on as many examples as that is.

A mixture of experts pays for uneven loads, or all tokens would come to ask one expert.
"""

from suite.method import trainer
from suite.patterns.chosen import Chosen
from suite.studying.layers import Work
from suite.workloads.accuracy.trainers.balanced import paying


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
    for _ in sparsifier.schedule(Work(problem, problem.trained).total / sparsifier.forward_flops):
        sparsifier.step(loss=paying(problem))
