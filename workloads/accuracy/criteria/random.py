"""Random: any weights. The control of every other criterion.

Liu et al., "The Unreasonable Effectiveness of Random Pruning", ICLR 2022.
"""

import torch

from suite.method import criterion


@criterion(control=True, ids=("random-pruning",))
def random(layer):
    """Any weights: what every criterion must beat."""
    return torch.rand(layer.weight.shape, generator=layer.generator)
