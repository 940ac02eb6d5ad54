"""Gradual pruning: sparsity rises along a cubic while the model is trained for the first time.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017.
"""

from suite.method import trainer
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured

BEGIN, END = 0.2, 0.7  # of the training
ROUNDS = 20  # in which sparsity rises


@trainer(
    after=("magnitude-global",),
    patterns=(Unstructured, Block),
    start="fresh",
    training="weights",
    ids=("gmp-iso-memory",),
)
def gradual(sparsifier):
    """Prune more and more of the smallest weights while training."""
    graded(sparsifier, 1.0)


def graded(sparsifier, share):
    """The same in a training of any length, which is this share of the dense model's."""
    reached = 0
    for done in sparsifier.schedule(share):
        if (upto := turn(done)) > reached:
            reached = upto
            sparsifier.prune(sparsity_at(sparsifier.sparsity, reached))
        sparsifier.step()


def turn(done):
    """How many of the rounds are over, at this share of the training."""
    return round(min(1, max(0, (done - BEGIN) / (END - BEGIN))) * ROUNDS)


def sparsity_at(final, rounds):
    """After so many rounds: fast at first, while there is much to leave out."""
    return final * (1 - (1 - rounds / ROUNDS) ** 3)
