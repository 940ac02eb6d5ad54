"""Training: the epoch of `mlp_epoch`, the same for every kernel but for its products and how it learns."""

import torch

from suite.kernel import Prepared
from suite.ops.mlp_epoch import MOMENTUM, RATE
from suite.sparse import Sparse


class Layer:
    """Products as in `sparse_step`, with a weight in the form that they take, and its velocity."""

    def __init__(self, products, weight, velocity):
        self.products, self.weight, self.velocity = products, weight, velocity

    def forward(self, x):
        return self.products.forward(self.weight, x)

    def backward(self, dy, further):
        return self.products.backward(self.weight, dy, further)

    def learn(self, gradient):
        self.velocity.mul_(MOMENTUM).add_(gradient)
        self.weight.sub_(self.velocity, alpha=RATE)


class Epoch:
    """One pass over data. Activations become what they are where the layers answered."""

    def __init__(self, layers, x):
        self.layers, self.n = layers, x.shape[2]
        self.losses = torch.empty(len(x))
        self.error, self.scratch = torch.empty_like(x[0]), torch.empty_like(x[0])
        self.holds = self.losses, self.error, self.scratch

    def __call__(self, x):
        for batch, loss in zip(x, self.losses, strict=True):
            self.step(batch, loss)
        return self.losses.div_(2 * self.n)

    def step(self, batch, loss):
        inputs = [batch]
        for layer in self.layers[:-1]:
            z = layer.forward(inputs[-1])
            inputs.append(z.div_(torch.abs(z, out=self.scratch).add_(1)))
        dy = torch.sub(self.layers[-1].forward(inputs[-1]), batch, out=self.error)
        torch.sum(torch.mul(dy, dy, out=self.scratch), (0, 1), out=loss)
        dy.div_(self.n)
        for layer, x in zip(reversed(self.layers), reversed(inputs), strict=True):
            further = x is not batch
            dy, gradient = layer.backward(dy, further)
            layer.learn(gradient)
            if further:
                root = torch.abs(x, out=self.scratch).sub_(1)  # of the slope there
                dy.mul_(root).mul_(root)


def layers_of(pattern):
    """The patterns that stand one upon the other, each k x k."""
    m, k = pattern.shape
    for first in range(0, m, k):
        low, high = int(pattern.starts[first]), int(pattern.starts[first + k])
        starts = pattern.starts[first : first + k + 1] - low
        yield Sparse(starts, pattern.columns[low:high], pattern.values[low:high], (k, k), pattern.pattern)


def prepare(pattern, x, make):
    """An epoch whose weights are the values of compressed rows; make(pattern, n) gives a layer's products."""
    products = [make(one, x.shape[2]) for one in layers_of(pattern)]
    weights, velocity = torch.zeros(pattern.nonzeros), torch.zeros(pattern.nonzeros)
    each = [len(one.columns) for one in layers_of(pattern)]
    layers = list(map(Layer, products, weights.split(each), velocity.split(each)))
    epoch = Epoch(layers, x)

    def run(values, x):
        weights.copy_(values)
        velocity.zero_()
        return epoch(x), weights

    forward, back, gradient = (sum(flops) for flops in zip(*(one.executed for one in products), strict=True))
    return Prepared(
        run,
        executed=len(x) * (forward + back - products[0].executed[1] + gradient),
        values=weights.nbytes + velocity.nbytes,
        metadata=sum(one.metadata_bytes for one in products),
        holds=(weights, velocity, epoch.holds, [one.holds for one in products]),
    )
