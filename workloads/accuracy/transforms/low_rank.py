"""Low rank: each weight as the product of two thin ones, of as many numbers as Monarch factors keep.

Blocks divide a layer's sides, so Monarch often keeps less than was asked; to a rank, this keeps as much. The
rival of structured weights that needs no permutation, and half of Pixelfly. Trained from fresh thin
weights, or the nearest product to the dense model's weights, by their singular values (Eckart and Young).
"""

import copy

import torch

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.structured import Sum, replaced, thin
from suite.workloads.accuracy.transforms.monarch import share


@transform(
    after=("plain",),
    patterns=(Unstructured,),
    tasks=("digits_mlp", "digits_vit"),
    start="fresh",
    ids=("monarch", "pixelfly"),
)
def low_rank(problem, pattern):
    """Two thin weights in place of each layer, from the start."""
    return replaced(problem, problem.model(), pattern.sparsity, fresh)


@transform(patterns=(Unstructured,), tasks=("digits_mlp", "digits_vit", "byte_lm"), ids=("monarch",))
def low_rank_projected(problem, pattern):
    """The nearest product of two thin weights to each weight of the dense model."""
    return replaced(problem, copy.deepcopy(problem.trained), pattern.sparsity, projected)


def fresh(layer, density):
    m, k = layer.weight.shape
    return Sum([thin(max(1, round(share(m, k, density) * m * k / (m + k))), layer)], layer)


@torch.no_grad()
def projected(layer, density):
    made = fresh(layer, density)
    first, second = made.parts[0]
    u, s, v = torch.linalg.svd(layer.weight.double(), full_matrices=False)
    root = s[: first.out_features].sqrt()
    first.weight.copy_(root[:, None] * v[: len(root)])
    second.weight.copy_(u[:, : len(root)] * root)
    return made
