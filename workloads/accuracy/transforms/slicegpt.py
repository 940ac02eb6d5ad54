"""SliceGPT: a language model made smaller and still dense, by deleting directions that it hardly uses.

Ashkboos et al., "SliceGPT: Compress Large Language Models by Deleting Rows and Columns", ICLR 2024. A norm by
the root mean square does not see how its inputs are turned. So the stream between layers can be turned before
each norm by a matrix of its own, which the weights on either side take in, and the model says what it said.
Turned to principal components, the last dimensions hold little; the rows and columns that write and read them
go. The way round each layer then needs a matrix from one turning to the next: these cost weights, and count.
Here all turnings are found in the dense model; there, each in the sliced model before it.

What is deleted is lost, for nothing is learned anew; the model needs no kernel, for it is dense.
"""

import copy
from collections import defaultdict

import torch
from torch import nn

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.decoder import Block

TASKS = ("byte_lm",)


@transform(patterns=(Unstructured,), tasks=TASKS, ids=("slicegpt",))
def slicegpt(problem, pattern):
    """A dense model of fewer dimensions: the principal ones of the stream before each norm."""
    model = problem.dense()
    turnings = [torch.linalg.eigh(one)[1].flip(1) for one in streams(problem, model)]
    return sliced(model, turnings, width(model, pattern.sparsity))


@transform(patterns=(Unstructured,), tasks=TASKS, control=True, ids=("slicegpt",))
def sliced_at_random(problem, pattern):
    """A dense model of fewer dimensions, any: what principal ones must beat."""
    model = problem.dense()
    size = model.embed.embedding_dim
    turning = torch.linalg.qr(torch.randn(size, size, dtype=torch.double))[0]
    return sliced(model, [turning] * (2 * len(model.blocks) + 1), width(model, pattern.sparsity))


class Sliced(Block):
    """A block between turnings, [dim, width] each: before its first norm, its second, and the next block's.

    heads and hidden neurons stay as they are.
    """

    def __init__(self, block, before, between, after):
        nn.Module.__init__(self)
        self.heads = block.heads
        self.first, self.second = norm(before), norm(between)
        self.q, self.k, self.v = (reading(one, block.first, before) for one in (block.q, block.k, block.v))
        self.gate, self.up = (reading(one, block.second, between) for one in (block.gate, block.up))
        self.out, self.down = linear(between.mT @ block.out.weight), linear(after.mT @ block.down.weight)
        self.around, self.past = linear(between.mT @ before), linear(after.mT @ between)

    def forward(self, x, turns):
        x = self.around(x) + self.attended(x, turns)
        return self.past(x) + self.fed(x)


@torch.no_grad()
def sliced(model, turnings, size):
    """The model turned by orthogonal matrices, one before each norm, and cut to so many dimensions."""
    turnings = [one[:, :size].float() for one in turnings]
    made = copy.deepcopy(model)
    made.embed = nn.Embedding.from_pretrained(model.embed.weight @ turnings[0], freeze=False)
    made.blocks = nn.ModuleList(
        Sliced(block, *turnings[2 * at : 2 * at + 3]) for at, block in enumerate(model.blocks)
    )
    made.norm, made.head = norm(turnings[-1]), reading(model.head, model.norm, turnings[-1])
    return made


def reading(layer, before, turning):
    """A layer behind a norm, whose weights it takes in, of turned inputs."""
    return linear(layer.weight * before.weight @ turning)


def linear(weight):
    made = nn.Linear(*weight.mT.shape, bias=False)
    made.weight = nn.Parameter(weight.contiguous())
    return made


def norm(turning):
    """One that divides by the dimensions there were, not by those left."""
    dim, size = turning.shape
    made = nn.RMSNorm(size, 1e-5)
    nn.init.constant_(made.weight, (dim / size) ** 0.5)
    return made


@torch.no_grad()
def streams(problem, model):
    """The second moments, [dim, dim], of what each norm gives on before its weights, in the model's order."""
    norms = [one for block in model.blocks for one in (block.first, block.second)] + [model.norm]
    sums = defaultdict(int)

    def look(at, given):
        x = given[0].flatten(0, 1).double()
        x = x / x.square().mean(1, keepdim=True).sqrt()
        sums[at] = sums[at] + x.mT @ x

    hooks = [one.register_forward_pre_hook(lambda _, x, at=at: look(at, x)) for at, one in enumerate(norms)]
    for batch in problem.calibration():
        problem.loss(model, batch)
    for one in hooks:
        one.remove()
    return [sums[at] for at in range(len(norms))]


def width(model, sparsity):
    """The most dimensions that need no more weights than the sparse model keeps, ways round included."""
    dim, depth = model.embed.embedding_dim, len(model.blocks)
    whole = sum(one.weight.numel() for one in model.blocks.modules() if isinstance(one, nn.Linear))

    def weights(size):
        return whole * size / dim + 2 * depth * size**2

    return max((size for size in range(1, dim) if weights(size) <= (1 - sparsity) * whole), default=1)
