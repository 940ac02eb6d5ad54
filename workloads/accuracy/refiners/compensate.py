"""Compensate: the weights that stay take over what they can of those that go, layer by layer.

With the scores of `obs` it is the second-order pruning of Frantar and Alistarh, "SparseGPT: Massive
Language Models Can Be Accurately Pruned in One-Shot", ICML 2023, taken apart: there mask and weights come
out of one sweep over the columns, here the mask stands before, so that any criterion and pattern can be
mended, and the least-squares problem that is left is solved by conjugate gradients, all rows at once. All
layers see the inputs of the dense model, not those that the pruned layers before them would send.
"""

import torch

from suite.method import refiner
from suite.workloads.accuracy.curvature import damped

ROUNDS = 50  # the error falls in each; most of it in the first ten


@refiner(after=("magnitude-uniform", "wanda-uniform", "obs-uniform", "obs-erk"))
def compensate(layer, mask, pattern):
    """Surviving weights adjusted so that the layer's output changes least."""
    moments, dense = damped(layer.moments), layer.weight.double()
    sizes = moments.diagonal()  # inputs differ in size by orders: the preconditioner
    weight = dense * mask
    left = ((dense - weight) @ moments) * mask
    step = left / sizes
    reach = (left * step).sum(1, keepdim=True)
    for _ in range(ROUNDS):
        felt = (step @ moments) * mask
        far = reach / (step * felt).sum(1, keepdim=True).clamp(min=torch.finfo(felt.dtype).tiny)
        weight += far * step
        left -= far * felt
        before, reach = reach, (left * left / sizes).sum(1, keepdim=True)
        step = left / sizes + reach / before.clamp(min=torch.finfo(felt.dtype).tiny) * step
    return mask, weight.float()
