"""LoRA: fine-tuning that learns a product of low rank on top of each layer's weights, which stay as they are.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. On a pruned layer the product
counts inside the mask alone, in training as at the end, where it is merged into the weights: what was trained
is what is merged, and zeros stay zero. Merged without the mask, it would fill them.
"""

import torch

from suite.method import trainer

RANK = 4
SHARE = 0.5  # of the dense training
RATE = 4  # times the task's, for the product begins at zero


@trainer(after=("magnitude-uniform",), training="weights", extents=("full",), ids=("sparselora", "s2ft"))
def lora(sparsifier):
    """Prune, then learn a masked product of low rank for each layer."""
    adapted(sparsifier)


def adapted(sparsifier, step=None):
    """Prune, and train adapters, one for each layer, which are merged at the end.

    step(sparsifier, adapters, done): the gradients of a step, by the layers' whole weights.
    """
    sparsifier.prune()
    adapters = {name: Adapter(sparsifier, name) for name in sparsifier.layers}
    parameters = [one for adapter in adapters.values() for one in (adapter.down, adapter.up)]
    step = step or whole
    for done in sparsifier.schedule(SHARE, parameters, RATE * sparsifier.problem.rate):
        found = step(sparsifier, adapters, done)
        for name, adapter in adapters.items():
            adapter.learn(found[name])
        sparsifier.advance()
    for name, adapter in adapters.items():
        sparsifier.layers[name].weight.copy_(adapter.base + adapter.product())
    sparsifier.verify()


def whole(sparsifier, adapters, done):
    """A step in which all that the masks leave is multiplied."""
    merged = {name: one.base + one.product() for name, one in adapters.items()}
    return sparsifier.gradients_at(merged, sparsifier.nonzeros)


class Adapter:
    """base [m, k], which stays, and inside its mask up [m, r] times down [r, k], zero at first."""

    def __init__(self, sparsifier, name):
        layer = sparsifier.layers[name]
        m, k = layer.weight.shape
        self.base, self.mask = layer.weight.clone(), sparsifier.masks[name]
        self.down = torch.randn(RANK, k, generator=sparsifier.generator) / k**0.5
        self.up = torch.zeros(m, RANK)

    def product(self):
        return self.up @ self.down * self.mask

    def learn(self, gradient):
        """The adapter's gradients, from that of the layer's weights."""
        inside = gradient * self.mask
        self.up.grad, self.down.grad = inside @ self.down.mT, self.up.mT @ inside
