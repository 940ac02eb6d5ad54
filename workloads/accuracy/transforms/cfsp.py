"""CFSP: the hidden neurons of a language model that add most to its stream, more where blocks do more.

Wang et al., "CFSP: An Efficient Structured Pruning Framework for LLMs with Coarse-to-Fine Activation
Information", COLING 2025. One forward pass over the calibration data tells both: the angle by which a block
turns its input is what the block is worth, and says how many neurons it keeps; the size of a neuron's
activations times that of the column that reads it is what a neuron is worth. What stays is a smaller dense
model. Attention stays whole.
"""

import math
from collections import defaultdict

import torch

from suite.kernel import Refused
from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.studying.language import Language
from suite.studying.sparsifier import apportioned
from suite.workloads.accuracy.coupled import arranged
from suite.workloads.accuracy.stream import stream

SPREAD = 0.5  # how much more than the mean the blocks that do most keep, or less


@transform(patterns=(Unstructured,), problems=(Language,), ids=("cfsp",))
def cfsp(problem, pattern):
    """A dense model of fewer hidden neurons, shared out by what each block does."""
    return narrowed(problem, pattern, spread=SPREAD)


@transform(patterns=(Unstructured,), problems=(Language,), extents=("full",), ids=("cfsp",))
def cfsp_uniform(problem, pattern):
    """A dense model of fewer hidden neurons, the same number in each block."""
    return narrowed(problem, pattern, spread=0.0)


@transform(patterns=(Unstructured,), problems=(Language,), control=True, ids=("cfsp",))
def neurons_at_random(problem, pattern):
    """A dense model of fewer hidden neurons, any, the same number in each block."""
    return narrowed(problem, pattern, spread=0.0, score=lambda of: torch.rand(len(of)))


def narrowed(problem, pattern, spread, score=lambda of: of):
    """The model with the neurons of the highest scores."""
    model = problem.dense()
    turns, worth = seen(problem, model)
    found = shares(problem, model, pattern.sparsity, turns, spread)
    kept = []
    for channels in neurons(model):
        best = score(worth[channels.reader]).topk(found[channels.reader]).indices
        kept.append((channels, best.sort().values))
    return arranged(model, kept)


def neurons(model):
    return list(stream(model).neurons(model))


@torch.no_grad()
def seen(problem, model):
    """In one pass: how far each block turns its input, and what its neurons add, by the reader's name."""
    turned, squares, count = defaultdict(float), defaultdict(float), 0
    hooks = []
    for channels, block in zip(neurons(model), model.get_submodule(stream(model).blocks), strict=True):
        name = channels.reader

        def turn(module, given, out, name=name):
            cosine = torch.cosine_similarity(given[0].double(), out.double(), dim=-1)
            turned[name] += cosine.clamp(-1, 1).arccos().sum().item() / math.pi

        def read(module, given, name=name):
            squares[name] = squares[name] + given[0].double().flatten(0, -2).square().sum(0)

        reader = model.get_submodule(name)
        hooks += [block.register_forward_hook(turn), reader.register_forward_pre_hook(read)]
    for batch in problem.calibration():
        problem.loss(model, batch)
        count += problem.count(batch)
    for one in hooks:
        one.remove()
    columns = {name: model.get_submodule(name).weight.double().norm(dim=0) for name in turned}
    worth = {name: (of / count).sqrt() * columns[name] for name, of in squares.items()}
    return {name: of / count for name, of in turned.items()}, worth


def shares(problem, model, sparsity, turns, spread):
    """How many neurons each block keeps: in all as many as the budget has weights for."""
    found = neurons(model)
    whole = sum(one.weight.numel() for one in problem.layers(model).values())
    each = 3 * model.get_submodule(stream(model).embed).embedding_dim  # weights of a neuron
    total = sum(one.count for one in found)
    kept = total - math.ceil(sparsity * whole / each - 1e-9)
    if kept < len(found):
        raise Refused(f"what is not hidden neurons is more than {1 - sparsity:.0%} of the weights already")
    mean = sum(turns.values()) / len(turns)
    widest = max(abs(of - mean) for of in turns.values()) or 1.0
    spread = min(spread, total / kept - 1)  # no block has more than all
    more = {name: spread * (of - mean) / widest for name, of in turns.items()}
    wanted = {one.reader: kept / total * one.count * (1 + more[one.reader]) for one in found}
    return apportioned(wanted, {one.reader: one.count for one in found}, 1 - kept / total)
