"""PGF: N:M training in which masked weights fade before they are cut.

Bambhaniya et al., "Progressive Gradient Flow for Robust N:M Sparsity Training in Transformers", 2024. What is
outside the mask counts with a share of its size that falls from 1 to 0 in the course of the training;
gradients pass straight through to all weights. So the network is dense at first, and N:M before it ends.
Until then its passes are dense ones, and are counted as such: a step costs more than one of `ste`.
"""

from suite.method import trainer
from suite.patterns.n_of_m import NofM

BEGIN, END = 0.1, 0.75  # of the training, between which they fade


@trainer(
    after=("magnitude-uniform",),
    patterns=(NofM,),
    start="fresh",
    training="weights",
    extents=("default", "full"),
    ids=("pgf-nm",),
)
def pgf_nm(sparsifier):
    """Train through an N:M mask, what is outside it fading in a straight line."""
    for done in sparsifier.schedule():
        sparsifier.step_through(left=left(done))
    sparsifier.prune()


def left(done):
    """The share of their size that masked weights keep, at this share of the training."""
    return min(1.0, max(0.0, (END - done) / (END - BEGIN)))
