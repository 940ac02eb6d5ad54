"""SET: sparse evolutionary training: small weights go, random ones grow.

Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired
by network science", Nature Communications 2018. It never needs a dense gradient; most of what it grows is
no use.
"""

import torch

from suite.method import trainer
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.trainers.regrown import train


@trainer(after=("random-erk",), patterns=(Unstructured,), start="fresh", training="weights")
def set_(sparsifier):
    """Train a fresh sparse model whose smallest weights move to random places."""
    train(sparsifier, lambda layer, _: torch.rand(layer.weight.shape, generator=sparsifier.generator))
