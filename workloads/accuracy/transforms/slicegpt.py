"""SliceGPT: a language model made smaller and still dense, by deleting directions that it hardly uses.

Ashkboos et al., "SliceGPT: Compress Large Language Models by Deleting Rows and Columns", ICLR 2024. A norm by
the root mean square does not see how its inputs are turned. So the stream between layers can be turned before
each norm by a matrix of its own, which the weights on either side take in, and the model says what it said.
Turned to principal components, the last dimensions hold little; the rows and columns that write and read them
go. The way round each layer then needs a matrix from one turning to the next: these cost weights, and count.
Here all turnings are found in the dense model; there, each in the sliced model before it.

What is deleted is lost, for nothing is learned anew; the model needs no kernel, for it is dense. A model of
transformers that is built as Llama is, is sliced too; whether it is one, turning it without a cut tells.
"""

import copy
from collections import defaultdict

import torch
from torch import nn

from suite.kernel import Refused
from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.studying.language import Language
from suite.workloads.accuracy.stream import OURS, stream

CLOSE = 1e-3  # how far a turned model may be from what it said, as a part of its largest logit


@transform(patterns=(Unstructured,), problems=(Language,), ids=("slicegpt",))
def slicegpt(problem, pattern):
    """A dense model of fewer dimensions: the principal ones of the stream before each norm."""
    model = problem.dense()
    turnings = [torch.linalg.eigh(one)[1].flip(1) for one in moments(problem, model)]
    return cut(problem, model, turnings, pattern.sparsity)


@transform(patterns=(Unstructured,), problems=(Language,), control=True, ids=("slicegpt",))
def sliced_at_random(problem, pattern):
    """A dense model of fewer dimensions, any: what principal ones must beat."""
    model = problem.dense()
    size = model.get_submodule(stream(model).embed).embedding_dim
    turning = torch.linalg.qr(torch.randn(size, size, dtype=torch.double))[0]
    return cut(problem, model, [turning] * len(norms(model)), pattern.sparsity)


def ours(block, x, turns):
    """A block of the decoder here, with a matrix in each way round."""
    x = block.around(x) + block.attended(x, turns)
    return block.past(x) + block.fed(x)


def llamas(layer, x, **given):
    """A layer of transformers, with a matrix in each way round."""
    told, *_ = layer.self_attn(hidden_states=layer.input_layernorm(x), **given)
    x = layer.around(x) + told
    return layer.past(x) + layer.mlp(layer.post_attention_layernorm(x))


@torch.no_grad()
def cut(problem, model, turnings, sparsity):
    """A smaller model. Refused: turned and whole, it does not say what it said."""
    tokens = problem.learned[0][:1]
    said = problem.logits(model, tokens)
    off = (problem.logits(sliced(model, turnings, len(turnings[0])), tokens) - said).abs().max()
    if not off <= CLOSE * said.abs().max():
        raise Refused(
            f"a {type(model).__name__} says something else once its stream is turned: its norms, or what is "
            "around them, are not as in Llama"
        )
    return sliced(model, turnings, width(model, sparsity))


@torch.no_grad()
def sliced(model, turnings, size):
    """The model turned by orthogonal matrices, one before each norm, and cut to so many dimensions.

    Heads and hidden neurons stay as they are.
    """
    turnings = [one[:, :size].float() for one in turnings]
    made = copy.deepcopy(model)
    known = stream(made)
    embed = made.get_submodule(known.embed)
    embed.weight, embed.embedding_dim = nn.Parameter(embed.weight @ turnings[0]), size
    for at, branch in enumerate(known.branches(made)):
        for name in branch.readers:
            reading(made.get_submodule(name), made.get_submodule(branch.norm), turnings[at])
        writing(made.get_submodule(branch.writer), turnings[at + 1])
    reading(made.get_submodule(known.head), made.get_submodule(known.norm), turnings[-1])
    for name, turning in zip(norms(made), turnings, strict=True):
        parent, _, child = name.rpartition(".")
        setattr(made.get_submodule(parent), child, norm(made.get_submodule(name), turning))
    for at, block in enumerate(made.get_submodule(known.blocks)):
        before, between, after = turnings[2 * at : 2 * at + 3]
        block.around, block.past = linear(between.mT @ before), linear(after.mT @ between)
        way = ours if known is OURS else llamas
        block.__class__ = type("Sliced", (type(block),), {"forward": way})
    return made


def norms(model):
    """Their names, in the order in which the stream meets them."""
    known = stream(model)
    return [*(one.norm for one in known.branches(model)), known.norm]


def reading(layer, before, turning):
    """A layer behind a norm takes in its weights, and reads what is turned."""
    layer.weight = nn.Parameter((layer.weight * before.weight @ turning).contiguous())
    layer.in_features = turning.shape[1]


def writing(layer, turning):
    """A layer writes what is turned."""
    layer.weight = nn.Parameter((turning.mT @ layer.weight).contiguous())
    layer.out_features = turning.shape[1]
    if layer.bias is not None:
        layer.bias = nn.Parameter(turning.mT @ layer.bias)


def linear(weight):
    made = nn.Linear(*weight.mT.shape, bias=False)
    made.weight = nn.Parameter(weight.contiguous())
    return made


def norm(before, turning):
    """One that divides by the dimensions there were, not by those left."""
    dim, size = turning.shape
    made = nn.RMSNorm(size, getattr(before, "variance_epsilon", getattr(before, "eps", None)))
    nn.init.constant_(made.weight, (dim / size) ** 0.5)
    return made


@torch.no_grad()
def moments(problem, model):
    """The second moments, [dim, dim], of what each norm gives on before its weights, in the model's order."""
    sums = defaultdict(int)

    def look(at, given):
        x = given[0].flatten(0, -2).double()
        x = x / x.square().mean(1, keepdim=True).sqrt()
        sums[at] = sums[at] + x.mT @ x

    names = norms(model)
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, x, at=at: look(at, x))
        for at, name in enumerate(names)
    ]
    for batch in problem.calibration():
        problem.loss(model, batch)
    for one in hooks:
        one.remove()
    return [sums[at] for at in range(len(names))]


def width(model, sparsity):
    """The most dimensions that need no more weights than the sparse model keeps, ways round included."""
    known = stream(model)
    dim, blocks = model.get_submodule(known.embed).embedding_dim, model.get_submodule(known.blocks)
    whole = sum(one.weight.numel() for one in blocks.modules() if isinstance(one, nn.Linear))

    def weights(size):
        return whole * size / dim + 2 * len(blocks) * size**2

    return max((size for size in range(1, dim) if weights(size) <= (1 - sparsity) * whole), default=1)
