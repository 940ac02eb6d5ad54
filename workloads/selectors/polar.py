"""Polar: the neurons that matter most to a whole batch, the same for all of its tokens.

What a call reads is then its budget, however many tokens there are: the union of a batch cannot grow. Bad at:
tokens of a batch that have little in common.
"""

from suite.activations import best, budget
from suite.ops.actmm import norms
from suite.selector import Keeping, selector


@selector(ops=("actmm", "actmm_up"), ids=("polar-sparsity",))
def polar(case, w):
    """The neurons that matter most to all tokens of the batch together, for each of them (Polar Sparsity).

    Shrestha et al., "Polar Sparsity: High Throughput Batched LLM Inferencing with Scalable Contextual
    Sparsity", 2025: of its two halves the one for neurons, without its learned routers.
    """
    weights, keep = norms(case, w)[:, None], budget(case)

    def select(*live):
        x = live[-1]
        return best(x, (x * weights).square().sum(1, keepdim=True), keep, flops=3 * x.numel())

    return Keeping(select, (weights,))
