"""Static: the mask is drawn before training and stays. What dynamic sparse training must beat.

Liu et al., "The Unreasonable Effectiveness of Random Pruning", ICLR 2022. After
`gradient-global` it is SNIP.
"""

from suite.method import trainer


@trainer(
    after=("random-uniform", "random-erk"),
    start="fresh",
    training="weights",
    ids=("random-pruning",),
)
def static(sparsifier):
    """Train a fresh model inside a mask that stays."""
    sparsifier.prune()
    for _ in sparsifier.schedule():
        sparsifier.step()
