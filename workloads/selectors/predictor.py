"""Predictor: before a projection up is read, a product of low rank says what it is likely to give.

How well the active set can be foretold is one of the three counts on which ReLU^2 Wins ranks activation
functions. Bad at: weights of full rank, of which a few directions say little.
"""

from suite.activations import best, budget
from suite.selector import Keeping, selector
from suite.workloads.selectors.r_sparse import factors

RANK = 64


@selector(ops=("actmm_up",), ids=("relu2", "lazy-neuron"))
def predictor(case, w):
    """The neurons whose gate times a guess of their product is largest, the guess of rank 64.

    As Liu et al. do, "Deja Vu: Contextual Sparsity for Efficient LLMs at Inference Time", ICML 2023, with the
    weight's own directions in place of learned ones.
    """
    keep = budget(case)
    left, right = factors(w, min(RANK, *w.shape))
    flops, read = 2 * case["n"] * (left.numel() + right.numel()), left.nbytes + right.nbytes

    def select(x, g):
        guess = left @ (right @ x.contiguous())
        return best(g, (g * guess).abs(), keep, flops=flops, read=read)

    return Keeping(select, (left, right))
