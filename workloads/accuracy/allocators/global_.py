"""Global: one ranking of all weights. Only as good as the scores are comparable between layers.

It may empty a layer, and then nothing passes.
"""

import torch

from suite.method import allocator
from suite.patterns.unstructured import Unstructured


@allocator(patterns=(Unstructured,), ids=("hidden-structures",))
def global_(layers, scores, sparsity):
    """What one ranking of all layers' scores keeps of each."""
    return ranked(scores, sparsity)


def ranked(scores, sparsity):
    """Of each layer, the share that is not among the highest of all scores."""
    everything = torch.cat([of.flatten() for of in scores.values()])
    kept = torch.zeros(len(everything), dtype=torch.bool)
    kept[everything.topk(round((1 - sparsity) * len(everything)), sorted=False).indices] = True
    parts = kept.split([of.numel() for of in scores.values()])
    return {name: 1 - part.sum().item() / len(part) for name, part in zip(scores, parts, strict=True)}
