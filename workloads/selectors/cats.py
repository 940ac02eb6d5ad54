"""CATS: a cut for what the activation function gives, before the second product that it gates.

Bad at: neurons whose gate is wide open and whose product is small, which a gate cannot know.
"""

from suite.selector import selector
from suite.workloads.selectors.teal import even


@selector(ops=("actmm_up",), ids=("cats",))
def cats(case, w):
    """Neurons whose gate is above a quantile of magnitudes in a sample (CATS).

    Lee et al., "CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models", COLM 2024.
    """
    return even(case, w)
