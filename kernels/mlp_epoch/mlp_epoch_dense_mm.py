"""Dense: weights with their zeros in place. Only what a step learns is masked, for else the zeros would go.

The least that a dense program can do for this answer. Bad at: every sparsity, that is the point.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.mlp_epoch import training
from suite.kernels.sparse_step import sparse_step_dense_mm as step
from suite.ops.mlp_epoch import MOMENTUM, RATE


class Dense(training.Layer):
    """Learns at the mask's positions alone."""

    def __init__(self, products, weight, velocity, mask):
        super().__init__(products, weight, velocity)
        self.mask = mask

    def learn(self, gradient):
        self.velocity.mul_(MOMENTUM).addcmul_(gradient, self.mask)
        self.weight.sub_(self.velocity, alpha=RATE)


class Masked(Dense):
    """Multiplies by the mask what it computes with, too."""

    def __init__(self, products, weight, velocity, mask):
        super().__init__(products, weight, velocity, mask)
        self.free, self.weight = weight, torch.empty_like(weight)

    def forward(self, x):
        torch.mul(self.free, self.mask, out=self.weight)
        return super().forward(x)

    def learn(self, gradient):
        self.velocity.mul_(MOMENTUM).add_(gradient.mul_(self.mask))
        self.free.sub_(self.velocity, alpha=RATE)


def prepare(pattern, x, product, kind=Dense):
    (m, k), (steps, _, n) = pattern.shape, x.shape
    positions = step.Positions(pattern)
    weights, velocity, learnt = torch.zeros(m, k), torch.zeros(m, k), torch.empty(pattern.nonzeros)
    stacks = [one.split(k) for one in (weights, velocity, pattern.dense)]
    products = [step.Layer(k, k, n, product) for _ in stacks[0]]
    layers = list(map(kind, products, *stacks))
    epoch = training.Epoch(layers, x)

    def run(values, x):
        positions.scatter(values, weights)
        velocity.zero_()
        losses = epoch(x)
        positions.gather(weights, learnt)
        return losses, learnt

    used = [one.weight for one in layers]
    return Prepared(
        run,
        executed=2 * n * steps * (3 * m * k - k * k),
        values=weights.nbytes + velocity.nbytes,
        metadata=pattern.dense.nbytes,
        holds=(weights, velocity, learnt, pattern.dense, used, epoch.holds, [one.holds for one in products]),
        note={"algorithm": kind.__name__.lower()},
    )


@kernel(op="mlp_epoch", on="cpu", dtypes=("float32",), dense=True, refuse=step.refuse, live_order="columns")
def mlp_epoch_dense_mm(pattern, values, x):
    """Dense products by torch.mm; what is learnt is masked."""
    return prepare(pattern, x, step.mm)
