"""Random search: the best of several random masks, as fresh as they are, then trained.

Farahani, "Random Search as a Baseline for Sparse Neural Network Architecture Search", 2024, where the best of
them trains no better than any one does. A learned mask is worth what it gains beyond that.
"""

import torch

from suite.method import trainer
from suite.studying.layers import Pass

DRAWS = 16


@trainer(
    after=("random-uniform", "random-erk"),
    start="fresh",
    training="weights",
    extents=("full",),
    ids=("random-search",),
)
def searched(sparsifier):
    """Train a fresh model inside the best of several masks, judged before any training."""
    fresh = {name: layer.weight.clone() for name, layer in sparsifier.layers.items()}
    problem, batches = sparsifier.problem, sparsifier.problem.calibration()
    least, best = float("inf"), ({}, {})
    for _ in range(DRAWS):
        sparsifier.patterns, masks = sparsifier.chosen(sparsifier.pattern)
        sparsifier.use(masks)
        with torch.no_grad():
            loss = sum(problem.loss(sparsifier.model, batch).item() for batch in batches)
        sparsifier.spent.passes.append(Pass(sum(map(problem.count, batches)), sparsifier.nonzeros))
        if loss < least:
            least, best = loss, (sparsifier.patterns, masks)
        for name, layer in sparsifier.layers.items():
            layer.weight.copy_(fresh[name])
    sparsifier.patterns, masks = best
    sparsifier.use(masks)
    for _ in sparsifier.schedule():
        sparsifier.step()
