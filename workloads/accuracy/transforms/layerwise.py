"""Layerwise: each layer made larger by itself, and so sparse that it takes the FLOPs it had.

Thangarasa et al., "Sparse-IFT: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency", ICML
2024, whose families these are beside `wide`. Of a layer of m outputs and k inputs (of a convolution, k to
each place) at sparsity s:

    parallel     1 / (1 - s) branches, whose answers are added up
    factorised   two layers with r neurons between them, r (m + k) (1 - s) = m k
    doped        the layer itself, and beside it a dense product of rank r, r (m + k) = s m k

Branches of a layer without an activation come to one matrix in the end, which can be no more than the dense
one; so where a ReLU follows, each branch has its own, and the one that follows changes nothing. Branches of a
feed-forward layer are that layer with as many times the neurons.
"""

import copy
from collections import defaultdict
from itertools import pairwise, product
from math import ceil, floor

import torch
from torch import nn

from suite.kernel import Refused
from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.studying.layers import Work
from suite.studying.sparsifier import put_beside
from suite.workloads.accuracy.feed import Feed
from suite.workloads.accuracy.structured import GAIN, put
from suite.workloads.accuracy.transforms.wide import MASKS, WITHIN
from suite.workloads.accuracy.transforms.widths import MOST, feeds, flops, flops_of

TERMS = {
    "after": MASKS,
    "patterns": (Unstructured,),
    "start": "fresh",
    "extents": ("full",),
    "iso": "infer_flops",
    "ids": ("sparse-ift",),
}


@transform(**TERMS)
def parallel(problem, pattern):
    """Sparse branches side by side in place of each layer, their answers added up."""
    density = 1 - pattern.sparsity
    affordable(density)
    count = round(1 / density)
    if abs(count * density - 1) > WITHIN:
        raise Refused(f"{1 / density:.2f} branches of {density:.0%} make a layer: no whole number")
    model = problem.model()
    if count == 1:
        return model
    for name, feed in feeds(model).items():
        put(model, name, Feed(feed.down.out_features, count * feed.down.in_features, feed.activation))
    for name, layer in alone(problem, model):
        put(model, name, Branches(layer, count, followed_by_relu(model, name)))
    return held(problem, model, density)


@transform(**TERMS)
def factorised(problem, pattern):
    """Two sparse layers in place of each, with more neurons between them than the dense rank would be."""
    density = 1 - pattern.sparsity
    affordable(density)
    model = problem.model()
    layers = problem.layers(model)
    for name, rank in ranks(problem, model, 1 / density).items():
        put(model, name, factors(layers[name], max(1, rank), density))
    return held(problem, model, density)


@transform(**TERMS)
def doped(problem, pattern):
    """A dense product of low rank beside each layer, which is sparse."""
    model = problem.model()
    layers = problem.layers(model)
    for name, rank in ranks(problem, model, pattern.sparsity).items():
        if rank:
            m, k = layers[name].weight.flatten(1).shape
            thin = nn.Linear(k, rank, bias=False), nn.Linear(rank, m, bias=False)
            down, up = (one.weight.detach() for one in thin)
            put_beside(layers[name], down, GAIN * pattern.sparsity**0.5 * up)
    return held(problem, model, 1 - pattern.sparsity)


class Branches(nn.Module):
    """A layer and fresh ones like it, of the same inputs; their answers, behind a ReLU or not, are added."""

    def __init__(self, layer, count, relu):
        super().__init__()
        more = [copy.deepcopy(layer) for _ in range(count - 1)]
        for one in more:
            one.reset_parameters()
        self.branches = nn.ModuleList([layer, *more])
        self.relu = relu

    def forward(self, x):
        said = [branch(x) for branch in self.branches]
        return sum(torch.relu(one) for one in said) if self.relu else sum(said)


def factors(layer, rank, density):
    """Two layers with a ReLU between, which answer, sparse and fresh, with a fresh dense layer's variance."""
    m = len(layer.weight)
    if isinstance(layer, nn.Conv2d):
        how = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        both = nn.Conv2d(layer.in_channels, rank, *how), nn.Conv2d(rank, m, 1)
    else:
        both = nn.Linear(layer.in_features, rank), nn.Linear(rank, m, bias=layer.bias is not None)
    with torch.no_grad():
        both[0].weight.mul_(density**-0.5)
        both[1].weight.mul_(GAIN * 2**0.5 * density**-0.5)  # a ReLU lets half of the variance pass
    return nn.Sequential(both[0], nn.ReLU(), both[1])


def ranks(problem, model, share):
    """The ranks at which products have this share of each layer's FLOPs: {layer: rank}.

    Of the whole numbers on either side, those by which all layers together are nearest to it; layers alike
    have one rank.
    """
    work, alike = Work(problem, model), defaultdict(list)
    for name, layer in problem.layers(model).items():
        alike[*layer.weight.flatten(1).shape, work.rows[name]].append(name)
    wanted = {shape: share * shape[0] * shape[1] / (shape[0] + shape[1]) for shape in alike}
    each = {(m, k, rows): (m + k) * rows * len(alike[m, k, rows]) for m, k, rows in alike}

    def off(found):
        chosen = zip(alike, found, strict=True)
        return abs(sum((rank - wanted[shape]) * each[shape] for shape, rank in chosen))

    best = min(product(*((floor(one), ceil(one)) for one in wanted.values())), key=off)
    return {name: rank for shape, rank in zip(alike, best, strict=True) for name in alike[shape]}


def alone(problem, model):
    """The layers outside feed-forward ones, by name."""
    inside = tuple(f"{name}." for name in feeds(model))
    return [(name, one) for name, one in problem.layers(model).items() if not name.startswith(inside)]


def followed_by_relu(model, name):
    """Whether what comes after a layer is a ReLU, as far as a chain tells."""
    parent, _, child = name.rpartition(".")
    chain = model.get_submodule(parent)
    pairs = pairwise(chain.named_children()) if isinstance(chain, nn.Sequential) else ()
    return any(one == child and isinstance(after, nn.ReLU) for (one, _), (_, after) in pairs)


def affordable(density):
    """Refused: it would take longer than all the rest of a study."""
    if density * MOST**2 < 1:
        raise Refused(f"a layer of {density:.0%} in the dense FLOPs has over {MOST**2} times the weights")


def held(problem, model, density):
    """The model. Refused: its FLOPs are not the dense one's."""
    off = flops_of(problem, model, density) / flops(problem, 1.0, 1.0) - 1
    if abs(off) > WITHIN:
        raise Refused(f"in whole neurons the nearest model is off by {off:+.1%} in FLOPs")
    return model
