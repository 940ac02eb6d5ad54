"""WINA: of each token so many activations, by magnitude times the norm of the neuron's weights.

The best there is where neurons' weights are orthogonal. Bad at: calls so short that sorting is much of them.
"""

from suite.activations import best, budget
from suite.ops.actmm import norms
from suite.selector import Keeping, selector


@selector(ops=("actmm", "actmm_up"), ids=("wina",))
def wina(case, w):
    """The largest activations times the norm of their neuron's weights, so many of each token (WINA).

    Chen et al., "WINA: Weight Informed Neuron Activation for Accelerating Large Language Model Inference",
    2025.
    """
    weights, keep = norms(case, w)[:, None], budget(case)

    def select(*live):
        x = live[-1]
        return best(x, x.abs() * weights, keep, flops=x.numel())

    return Keeping(select, (weights,))
