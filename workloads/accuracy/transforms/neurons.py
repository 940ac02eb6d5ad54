"""Neurons: feed-forward layers of other activations, of which each token keeps its loudest neurons.

Zhang et al., "ReLU2 Wins: Discovering Efficient Activation Functions for Sparse LLMs", 2024: an activation
function is worth what is left when neurons that add little are left out, so each is trained as it is, in a
layer of as many weights, and the same share of neurons is silenced afterwards. That a model uses few neurons
anyway, and may be held to few from the beginning, is Li et al.'s: "The Lazy Neuron Phenomenon: On Emergence
of Activation Sparsity in Transformers", ICLR 2023.
"""

from suite.method import transform
from suite.pattern import rounded
from suite.patterns.chosen import Chosen
from suite.workloads.accuracy.feed import Blind, Feed, Loudest, equal

TERMS = {"patterns": (Chosen,), "tasks": ("digits_vit",), "start": "fresh", "extents": ("full",)}
LENGTHS = ("plain", "plain_quarter", "plain_fourfold")


@transform(after=LENGTHS, **TERMS, ids=("relu2", "sparsing-law", "lazy-neuron"))
def relu(problem, pattern):
    """ReLU; a token keeps its loudest neurons once the model is trained."""
    return of(problem, pattern, "relu")


@transform(after=LENGTHS, **TERMS, ids=("relu2", "sparsing-law"))
def silu(problem, pattern):
    """SiLU; a token keeps its loudest neurons once the model is trained."""
    return of(problem, pattern, "silu")


@transform(after=("plain",), **TERMS, ids=("relu2",))
def squared_relu(problem, pattern):
    """Squared ReLU; a token keeps its loudest neurons once the model is trained."""
    return of(problem, pattern, "squared_relu")


@transform(after=("plain",), **TERMS, ids=("relu2",))
def swiglu(problem, pattern):
    """Gated SiLU; a token keeps its loudest neurons once the model is trained."""
    return of(problem, pattern, "swiglu")


@transform(after=("plain",), **TERMS, ids=("relu2",))
def reglu(problem, pattern):
    """Gated ReLU; a token keeps its loudest neurons once the model is trained."""
    return of(problem, pattern, "reglu")


@transform(after=("plain",), **TERMS, ids=("lazy-neuron",))
def lazy(problem, pattern):
    """ReLU; a token has its loudest neurons alone from the beginning."""
    return of(problem, pattern, "relu", Loudest, learnt=True)


@transform(after=("plain",), **TERMS, control=True, ids=("lazy-neuron",))
def lazy_at_random(problem, pattern):
    """ReLU; a token has as many neurons from the beginning, any."""
    return of(problem, pattern, "relu", Blind, learnt=True)


def of(problem, pattern, activation, rule=Loudest, learnt=False):
    """A fresh model of this activation, of whose neurons a token keeps the pattern's share."""
    model = problem.model()
    for block in model.blocks:
        dim, before = block.feed.down.weight.shape
        hidden = equal(dim, before, activation)
        keep = rounded(pattern.sparsity, hidden)
        block.feed = Feed(dim, hidden, activation, rule(keep, hidden, learnt))
    return model.train()
