"""SR-STE: the straight-through estimator, with a pull towards zero on the weights that are masked.

Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", ICLR 2021. The pull
steadies the mask: what was dropped fades instead of coming back.
"""

from suite.method import trainer
from suite.patterns.n_of_m import NofM

PULL = (
    2e-2  # times the weight, added to its gradient; the paper's 2e-4, for plain descent, Adam does not feel
)


@trainer(
    after=("magnitude-uniform",),
    patterns=(NofM,),
    start="fresh",
    training="weights",
    tuning_runs=4,
    ids=("sr-ste",),
)
def sr_ste(sparsifier):
    """Train through an N:M mask, dropped weights fading."""
    for _ in sparsifier.schedule():
        sparsifier.step_through(decay=PULL)
    sparsifier.prune()
