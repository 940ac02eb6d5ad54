"""STE: train the dense weights behind an N:M mask that is chosen anew at every step.

The gradient at the masked weights is taken for that of the dense ones. Masks flicker: weights that were
dropped keep what they were and come back.
"""

from suite.method import trainer
from suite.patterns.n_of_m import NofM


@trainer(after=("magnitude-uniform",), patterns=(NofM,), start="fresh", training="weights", ids=("sr-ste",))
def ste(sparsifier):
    """Train through an N:M mask, straight through."""
    for _ in sparsifier.schedule():
        sparsifier.step_through()
    sparsifier.prune()
