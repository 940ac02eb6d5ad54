"""Oracle of neurons: those that leave the least error, for which the dense answer is worked out, and more.

Up, outputs are independent: the largest stay. Down, leaving one out may make up for another, so the best set
is a hard problem; from the choice of WINA, neurons are exchanged as long as the error falls.
"""

import torch

from suite.activations import best, budget, without
from suite.ops.actmm import norms
from suite.selector import Keeping, selector

ROUNDS = 2  # of exchanges; each works out a product as large as the dense one twice
FIRST = 64  # exchanged in the first round: one neuron in so many


@selector(ops=("actmm", "actmm_up"), control="knowledge")
def oracle_neurons(case, w):
    """The neurons whose loss the answer would show most, as near as exchanges come to it."""
    keep, product = budget(case), 2 * w.numel() * case["n"]

    def select_up(x, g):
        return best(g, (g * (w @ x.contiguous())).abs(), keep, flops=product)

    if case.op == "actmm_up":
        return Keeping(select_up, (w,))
    back, weights = w.t().contiguous(), norms(case, w)[:, None]
    most = min(keep, len(weights) - keep) // FIRST

    def select(x):
        first = best(x, x.abs() * weights, keep).values != 0
        kept = exchanged(w, back, x, first, weights.square(), most)
        return without(x, ~kept, flops=(1 + 2 * ROUNDS) * product)

    return Keeping(select, (w, back, weights))


def exchanged(w, back, x, kept, squares, most):
    """Which activations are kept, truths [k, n], after exchanges that lower each token's error.

    back: w transposed; squares: of the norms of neurons; most: neurons of an exchange.
    """
    lost = w @ x.masked_fill(kept, 0)
    count = torch.minimum(kept.sum(0), (~kept).sum(0)).clamp(max=most)
    for _ in range(ROUNDS):
        along, alone = 2 * x * (back @ lost), x.square() * squares
        worst = (along + alone).masked_fill(~kept, torch.inf).topk(most, 0, largest=False).indices
        first = (along - alone).masked_fill(kept, -torch.inf).topk(most, 0).indices
        within = torch.arange(most, device=x.device)[:, None] < count
        tried = kept.scatter(0, worst, kept.gather(0, worst) & ~within)
        tried = tried.scatter(0, first, tried.gather(0, first) | within)
        rest = w @ x.masked_fill(tried, 0)
        better = rest.float().square().sum(0) < lost.float().square().sum(0)
        kept, lost = torch.where(better, tried, kept), torch.where(better, rest, lost)
        count = torch.where(better, count, count // 2)
    return kept
