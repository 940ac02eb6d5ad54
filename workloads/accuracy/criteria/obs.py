"""OBS: the weights whose loss the others in their row could least make up for.

Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992, for
one layer's squared output error, as in Frantar and Alistarh, "SparseGPT", ICML 2023: what leaving out
weight j of a row costs, the rest being adjusted, is w_j^2 / (2 [H^-1]_jj). It is the cost of one weight
alone; that of many together is not their sum.
"""

from suite.method import criterion
from suite.workloads.accuracy.curvature import inverse


@criterion()
def obs(layer):
    """Least loss of the layer's output, the other weights of the row adjusted."""
    return layer.weight.square() / inverse(layer.moments).diagonal().float()
