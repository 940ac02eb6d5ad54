"""Mixtures: feed-forward layers of experts of which a token asks one, at the dense model's FLOPs of training.

Abnar et al., "Parameters vs FLOPs: Scaling Laws for Optimal Sparsity for Mixture-of-Experts Language Models",
ICML 2025: which share of the weights should be idle, with the FLOPs of training given? The pattern says it:
of E experts all but one, 1 - 1 / E. There are two answers, for what else is held may be either of these:

    mixture    the FLOPs of an example are the dense model's: the more experts, the more weights
    parted     the weights are the dense model's: the more experts, the fewer FLOPs, and the more examples

Neurons make room for the router: half a neuron for each expert, or of each of its own where they are parts.
The router learns by the gate of the expert that is asked, and by a penalty for uneven loads, as in Fedus et
al., "Switch Transformers: Scaling to Trillion Parameter Models with Simple and Efficient Sparsity", 2022.
"""

from suite.formats import routing
from suite.kernel import Refused
from suite.method import transform
from suite.patterns.chosen import Chosen
from suite.workloads.accuracy.feed import Experts, Feed

TERMS = {"after": ("matched",), "patterns": (Chosen,), "tasks": ("digits_vit",), "start": "fresh"}
TERMS |= {"extents": ("full",), "ids": ("moe-params-vs-flops",)}


@transform(**TERMS, iso="infer_flops")
def mixture(problem, pattern):
    """Experts as large as the dense layer, as many as leave so much idle."""
    return of(problem, pattern, lambda hidden, experts, at: hidden - experts // 2)


@transform(**TERMS, iso="params")
def parted(problem, pattern):
    """The dense layer in as many experts as leave so much idle."""
    return of(problem, pattern, lambda hidden, experts, at: hidden // experts - at % 2)


def of(problem, pattern, neurons):
    """A fresh model. neurons(of the dense layer, experts, number of the layer): of an expert."""
    experts = round(1 / (1 - pattern.sparsity)) if pattern.sparsity < 1 else 0
    if abs(experts * (1 - pattern.sparsity) - 1) > 1e-6:
        raise Refused(f"{pattern} is not one of a whole number of experts")
    model = problem.model()
    for at, block in enumerate(model.blocks):
        dim, hidden = block.feed.down.weight.shape
        each = neurons(hidden, experts, at)
        if each < 1:
            raise Refused(f"{hidden} neurons are too few for {experts} experts")
        block.feed = Feed(dim, experts * each, rule=Switch(dim, experts))
    return model.train()


class Switch(Experts):
    """A token asks the expert it holds for likeliest, which counts as much as it is held likely."""

    def __init__(self, dim, experts):
        super().__init__(dim, experts, 1, routing.prototypes)
