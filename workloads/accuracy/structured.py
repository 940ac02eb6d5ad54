"""Structured: linear layers in fewer numbers without zeros: block-diagonal factors, blocks, thin products.

Their weights are ordinary ones of `nn.Linear`, stored without what is left out, so they are trained, counted
and stored as any layer's.
"""

import torch
from torch import nn

from suite.kernel import Refused

NARROW = 16  # a layer with fewer inputs or outputs stays as it is: there is next to nothing to save
GAIN = 3**0.5  # torch begins a layer with answers of a third of the variance; two layers would have a ninth


def replaced(problem, model, sparsity, make):
    """The model with its layers replaced by `make(layer, density)`, all but narrow ones.

    Those keep all their weights, and the others that much less. Refused: they alone keep too many.
    """
    layers = {name: one for name, one in problem.layers(model).items() if isinstance(one, nn.Linear)}
    total = sum(one.weight.numel() for one in layers.values())
    wide = {name: one for name, one in layers.items() if min(one.weight.shape) >= NARROW}
    size = sum(one.weight.numel() for one in wide.values())
    density = 1 - sparsity * total / size if size else 0
    if density <= 0:
        raise Refused(f"layers narrower than {NARROW} keep more than is left at {sparsity:.0%}")
    for name, layer in wide.items():
        put(model, name, make(layer, density))
    return model


def put(model, name, module):
    """In the place of the module of this name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


class BlockDiagonal(nn.Linear):
    """x [..., blocks width] times `blocks` blocks, which stand one upon the other: [blocks rows, width]."""

    def __init__(self, blocks, rows, width):
        super().__init__(width, blocks * rows, bias=False)
        self.blocks = blocks

    def forward(self, x):
        weight = self.weight.unflatten(0, (self.blocks, -1))
        parts = x.reshape(-1, self.blocks, self.in_features).transpose(0, 1)
        return torch.bmm(parts, weight.mT).transpose(0, 1).reshape(*x.shape[:-1], -1)


class BlockSparse(nn.Linear):
    """x [..., k] times square blocks that stand in some rows and columns of blocks: [count side, side]."""

    def __init__(self, rows, columns, side, m):
        super().__init__(side, len(rows) * side, bias=False)
        self.side, self.down = side, m // side
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        bound = (m / self.weight.numel()) ** 0.5  # one over the root of a row's inputs, on average
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x):
        parts = x.reshape(-1, x.shape[-1] // self.side, self.side).transpose(0, 1)
        said = torch.bmm(parts.index_select(0, self.columns), self.weight.unflatten(0, (-1, self.side)).mT)
        out = x.new_zeros(self.down, *said.shape[1:]).index_add(0, self.rows, said)
        return out.transpose(0, 1).reshape(*x.shape[:-1], -1)


class InPlace(nn.Module):
    """What stands in a layer's place: with its bias, and what models ask of it."""

    def __init__(self, layer):
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias

    def forward(self, x):
        out = self.product(x)
        return out if self.bias is None else out + self.bias


class Monarch(InPlace):
    """Two block-diagonal factors, as suite/formats/monarch.py has them."""

    def __init__(self, blocks, groups, layer):
        super().__init__(layer)
        (m, k), self.groups = layer.weight.shape, groups
        self.right = BlockDiagonal(blocks, groups, k // blocks)
        self.left = BlockDiagonal(groups, m // groups, blocks)
        with torch.no_grad():
            self.left.weight.mul_(GAIN)

    def product(self, x):
        hidden = self.right(x).unflatten(-1, (-1, self.groups)).transpose(-1, -2).flatten(-2)
        return self.left(hidden).unflatten(-1, (self.groups, -1)).transpose(-1, -2).flatten(-2)


class Sum(InPlace):
    """Several layers of the same inputs, whose answers are added up."""

    def __init__(self, parts, layer):
        super().__init__(layer)
        self.parts = nn.ModuleList(parts)

    def product(self, x):
        return sum(part(x) for part in self.parts)


def thin(rank, layer):
    """A product of two thin matrices with a layer's inputs and outputs."""
    m, k = layer.weight.shape
    second = nn.Linear(rank, m, bias=False)
    with torch.no_grad():
        second.weight.mul_(GAIN)
    return nn.Sequential(nn.Linear(k, rank, bias=False), second)
