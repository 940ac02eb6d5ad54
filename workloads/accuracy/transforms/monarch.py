"""Monarch: each weight as two block-diagonal factors with a permutation between them.

Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training", ICML 2022. Trained
from fresh factors, or the nearest ones to the dense model's weights, which have a closed form and need no
data. Slices have rank one; what is asked for decides how many blocks there are: of the cuts that keep no more
and hardly less, the one with the squarest slices. Switching to dense weights in the end is left out.
"""

import copy
from itertools import product
from math import log

import torch

from suite.formats.monarch import project
from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.structured import Monarch, replaced

WITHIN = 0.15  # of the density: nearer is not better than squarer


@transform(
    after=("plain",),
    patterns=(Unstructured,),
    tasks=("digits_mlp", "digits_vit"),
    start="fresh",
    ids=("monarch",),
)
def monarch(problem, pattern):
    """Monarch factors in place of each layer, from the start."""
    return replaced(problem, problem.model(), pattern.sparsity, fresh)


@transform(patterns=(Unstructured,), tasks=("digits_mlp", "digits_vit", "byte_lm"), ids=("monarch",))
def monarch_projected(problem, pattern):
    """The nearest Monarch factors to each weight of the dense model."""
    return replaced(problem, copy.deepcopy(problem.trained), pattern.sparsity, projected)


def fresh(layer, density):
    return Monarch(*cut(*layer.weight.shape, density), layer)


@torch.no_grad()
def projected(layer, density):
    made = fresh(layer, density)
    near = project(layer.weight.double(), made.right.blocks, made.groups, 1)
    made.right.weight.copy_(near.right.flatten(0, 1))
    made.left.weight.copy_(near.left.flatten(0, 1))
    return made


def share(m, k, density):
    """What its factors keep of a layer: what a rival of as many numbers has."""
    blocks, groups = cut(m, k, density)
    return groups / m + blocks / k


def cut(m, k, density):
    """Blocks and groups: slices of t x p keep 1 / t + 1 / p of their numbers.

    Where even the largest slice keeps more than is asked, it is that one.
    """
    kept = {(t, p): 1 / t + 1 / p for t, p in product(divisors(m), divisors(k))}
    most = max((of for of in kept.values() if of <= density), default=min(kept.values()))
    near = [one for one, of in kept.items() if (1 - WITHIN) * most <= of <= most]
    tall, wide = min(near, key=lambda one: (abs(log(one[0] / one[1])), -kept[one]))
    return k // wide, m // tall


def divisors(number):
    return [one for one in range(1, number + 1) if number % one == 0]
