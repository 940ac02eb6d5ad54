"""SRigL: RigL with equally many inputs to each neuron, so that a layer can be stored without row starts.

Lasby et al., "Dynamic Sparse Training with Structured Sparsity", ICLR 2024. At a change the smallest weights
of the whole layer go, as RigL has it; each neuron then grows, where its gradients are largest, what it lacks
to as many inputs as all have. Weights that RigL would have after the change are salient. A neuron with fewer
of them than a share of its inputs is ablated: it keeps none, and the others share what it had. Each change
judges anew. The neurons of the last layer are the answers, and stay.

How many neurons are left stands in the pattern of each layer, and how many were ablated in the quality.
`fan_in` has the same masks and does not move them: what moving them must beat.
"""

from dataclasses import dataclass

import torch

from suite.method import trainer
from suite.pattern import Pattern
from suite.patterns.fan_in import FanIn
from suite.patterns.unstructured import Unstructured
from suite.studying.masks import legal, top
from suite.workloads.accuracy.trainers.regrown import changes, moved

SALIENT = 0.3  # of a neuron's inputs, the paper's for convolutional networks; for its transformers 0.95

TERMS = {"after": ("random-erk",), "patterns": (Unstructured,), "start": "fresh", "training": "weights"}


@dataclass(frozen=True)
class Live(Pattern):
    """Neurons of equally many inputs beside neurons of none: `live` of them share a layer's budget.

    No case has it: it is what a layer is held against, and what its line says.
    """

    spelling = "fanin{live}@{sparsity}"
    live: int
    sparsity: float

    def count(self, m, k):
        """The nearest whole number of inputs each, one at least."""
        return self.live * min(k, max(1, round((1 - self.sparsity) * m * k / self.live)))


@legal.register
def _(pattern: Live, mask):
    live = int(mask.any(1).sum())
    return live == pattern.live and set(mask.sum(1).tolist()) <= {0, pattern.count(*mask.shape) // live}


@trainer(**TERMS, ids=("srigl",))
def srigl(sparsifier):
    """Train a fresh sparse model of equally many inputs to a neuron, which move to the largest gradients."""
    begin(sparsifier)
    *_, last = sparsifier.layers
    for share, gradients in changes(sparsifier, dense_gradients=True):
        masks = {}
        for name, layer in sparsifier.layers.items():
            before, held = sparsifier.masks[name], sparsifier.patterns[name]
            salient = moved(layer.weight, before, share, gradients[name].abs())
            live = before.any(1) if name == last else lively(before, salient, held.sparsity)
            pattern, inputs = shared(live, *before.shape, held.sparsity)
            sparsifier.patterns[name] = pattern
            masks[name] = filled(layer.weight, before, salient, gradients[name], inputs) & live[:, None]
        sparsifier.use(masks)
    sparsifier.spent.ablated = sum(int((~mask.any(1)).sum()) for mask in sparsifier.masks.values())


@trainer(**TERMS, extents=("full",), ids=("srigl",))
def fan_in(sparsifier):
    """Train a fresh sparse model of equally many inputs to a neuron, any, which stay."""
    begin(sparsifier)
    for _ in sparsifier.schedule():
        sparsifier.step()


def begin(sparsifier):
    """The masks of the criterion that have equally many inputs to a neuron."""
    shares, masks = sparsifier.chosen(sparsifier.pattern)
    for name, layer in sparsifier.layers.items():
        all_ = torch.ones(len(layer.weight), dtype=torch.bool)
        sparsifier.patterns[name], inputs = shared(all_, *layer.weight.shape, shares[name].sparsity)
        masks[name] = top(sparsifier.method.parts["criterion"](layer), inputs)
    sparsifier.use(masks)


def shared(live, m, k, sparsity):
    """(the pattern of a layer whose live neurons, bool[m], share its budget, how many inputs each has)."""
    count = int(live.sum())
    whole = FanIn(sparsity)
    pattern = whole if count == m and whole.count(m, k) else Live(count, sparsity)
    return pattern, pattern.count(m, k) // count


def lively(before, salient, sparsity):
    """The neurons that stay, bool[m]: those with enough salient weights, and as many as the budget needs."""
    m, k = salient.shape
    counts = salient.sum(1)
    enough = counts >= max(1, int(SALIENT * int(before.sum(1).max())))
    least = -(-round((1 - sparsity) * m * k) // k)
    return enough | top(counts.float(), min(m, max(1, least)))


def filled(weight, before, salient, gradient, inputs):
    """The mask of so many inputs to each neuron: of what stays the largest, then the largest gradients.

    What was let go of in this change comes back last.
    """
    wanted = gradient.abs().where(~before, -1.0)
    stay = before & salient
    return top(torch.where(stay, weight.abs() + 1 + wanted.max(), wanted), inputs)
