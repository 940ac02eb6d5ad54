"""Coupled: hidden channels of a model, which rows write each and which columns read it.

A channel can be left out, moved or trained alone only as all of these together. In a chain of layers,
whatever stands between them works on each channel apart; a flattened channel is read by as many columns as it
has places.
"""

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from suite.kernel import Refused
from suite.workloads.accuracy.decoder import Decoder


@dataclass(frozen=True)
class Hidden:
    """The channels between layers: unit rows of each writer and `columns` of the reader make one.

    writers, reader: names of modules. unit: rows that stand or fall together, such as those of a head.
    """

    writers: tuple[str, ...]
    reader: str
    count: int
    unit: int
    columns: int

    def read(self, kept):
        """The columns that read these channels, in their order."""
        return spread(kept, self.columns)

    def written(self, kept):
        """The rows that write them."""
        return spread(kept, self.unit)


def hidden(model):
    """All hidden channels: of a chain of layers those between each two, of a decoder neurons and heads."""
    found = []
    if isinstance(model, Decoder):
        for at, block in enumerate(model.blocks):
            path = f"blocks.{at}."
            size = block.q.out_features // block.heads
            heads = tuple(path + one for one in "qkv")
            found.append(Hidden(heads, path + "out", block.heads, size, size))
            neurons = (path + "gate", path + "up")
            found.append(Hidden(neurons, path + "down", block.gate.out_features, 1, 1))
        return found
    if not isinstance(model, nn.Sequential):
        raise Refused(f"which channels of a {type(model).__name__} belong together is not known here")
    chain = [(name, one) for name, one in model.named_children() if isinstance(one, nn.Linear | nn.Conv2d)]
    for (writer, one), (reader, other) in pairwise(chain):
        count = len(one.weight)
        found.append(Hidden((writer,), reader, count, 1, other.weight[0].numel() // count))
    return found


def sizes(model, channels):
    """[count]: the norm of all weights of each channel. Its gradient at a channel of zeros is zero."""
    parts = [model.get_submodule(channels.reader).weight.flatten(1).mT]
    parts += [model.get_submodule(one).weight.flatten(1) for one in channels.writers]
    whole = torch.cat([one.unflatten(0, (channels.count, -1)).flatten(1) for one in parts], 1)
    return torch.linalg.vector_norm(whole, dim=1)


@torch.no_grad()
def arranged(model, kept):
    """A model of these channels alone, in this order: (channels, int64[kept]) for each that changes."""
    made = copy.deepcopy(model)
    for channels, these in kept:
        for writer in channels.writers:
            take(made.get_submodule(writer), 0, channels.written(these))
        reader = made.get_submodule(channels.reader)
        if isinstance(reader, nn.Conv2d):
            take(reader, 1, these)
        else:
            take(reader, 1, channels.read(these))
    return made


def take(module, dim, these):
    """Rows (with their biases) or columns of a layer, the others dropped."""
    module.weight = nn.Parameter(module.weight.index_select(dim, these).contiguous())
    if dim == 0 and module.bias is not None:
        module.bias = nn.Parameter(module.bias[these].clone())
    name = ("out" if dim == 0 else "in") + ("_channels" if isinstance(module, nn.Conv2d) else "_features")
    setattr(module, name, module.weight.shape[dim])


def spread(channels, unit):
    return (channels[:, None] * unit + torch.arange(unit)).flatten()


def chosen(model, problem, sparsity, scores):
    """The channels that stay, as `arranged` takes them: the best that the budget has room for.

    scores: a list of (channels, [count]), compared over all layers; each layer keeps one channel at least.
    Refused: there are too few.
    """
    layers = problem.layers(model)
    budget = (1 - sparsity) * sum(one.weight.numel() for one in layers.values())
    kept = [torch.ones(channels.count, dtype=torch.bool) for channels, _ in scores]
    flat = [(value, at, one) for at, (_, of) in enumerate(scores) for one, value in enumerate(of.tolist())]
    for _, at, one in sorted(flat):
        if weights_of(layers, scores, kept) <= budget:
            break
        if kept[at].sum() > 1:
            kept[at][one] = False
    if weights_of(layers, scores, kept) > budget:
        raise Refused(f"a channel to each layer is more than {1 - sparsity:.0%} of the weights already")
    return [(channels, mask.nonzero()[:, 0]) for (channels, _), mask in zip(scores, kept, strict=True)]


def weights_of(layers, scores, kept):
    """How many weights are left of layers, where some channels are."""
    rows, columns = dict.fromkeys(layers, 1.0), dict.fromkeys(layers, 1.0)
    for (channels, _), mask in zip(scores, kept, strict=True):
        share = mask.sum().item() / len(mask)
        columns[channels.reader] = share
        rows |= dict.fromkeys(channels.writers, share)
    return sum(round(rows[name] * columns[name] * one.weight.numel()) for name, one in layers.items())
