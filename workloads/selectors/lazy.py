"""Lazy neurons: the largest activations of each token, as a layer with a top-k activation has them.

Bad at: neurons of unlike weights, which magnitude says nothing of.
"""

from suite.activations import best, budget
from suite.selector import selector


@selector(ops=("actmm", "actmm_up"), ids=("lazy-neuron",))
def lazy(case, w):
    """The largest activations, so many of each token (top-k).

    Li et al., "The Lazy Neuron Phenomenon: On Emergence of Activation Sparsity in Transformers", ICLR 2023.
    """
    keep = budget(case)
    return lambda *live: best(live[-1], live[-1].abs(), keep)
