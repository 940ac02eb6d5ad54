"""EvoPress: each layer's share of the budget by evolution, judged by what the whole model then says.

Sieberling et al., "EvoPress: Accurate Dynamic Model Compression via Evolutionary Search", ICML 2025. A
layer's level is how many weights it keeps, and its mask at each level the best of its scores: their order is
the database of all levels. An offspring moves weights from layers to others, so every generation keeps the
budget to one weight. Offspring are compared on a little data first, the best of them on more, and the last
with its parent on all data. A parent goes only for something better, and the first is uniform. The errors of
single layers are never added up: their sum misleads.

The best of shares that are drawn, as many of them as cost the same, is what evolution must beat.
"""

import torch

from suite.method import allocator
from suite.patterns.unstructured import Unstructured
from suite.studying.layers import Pass
from suite.studying.sparsifier import apportioned

GENERATIONS = 24
OFFSPRING = 8
STAGES = ((4, 1 / 8), (1, 1 / 2), (1, 1))  # how many of them stay, and the share of the data
MOVES = 4  # from a layer to another, at most
STEPS = (1 / 16, 1 / 64, 1 / 256)  # of the budget, in one move
EXAMPLES = 3072  # of the calibration data, as far as whole batches come to that; all else is shares of these
PASSES = OFFSPRING * STAGES[0][1] + STAGES[0][0] * STAGES[1][1] + STAGES[1][0]  # over all data, a generation


@allocator(after=("magnitude",), patterns=(Unstructured,), extents=("default", "full"), ids=("evopress",))
def evopress(layers, scores, sparsity):
    """The shares that evolution finds, by how far the model's answers are from the dense one's."""
    search = Search(layers, scores, sparsity)
    parent = search.uniform
    least = search.distance(parent)
    for _ in range(GENERATIONS):
        some = [search.moved(parent) for _ in range(OFFSPRING)]
        for stay, share in STAGES:
            judged = [search.distance(one, share) for one in some]
            order = sorted(range(len(some)), key=judged.__getitem__)[:stay]
            some = [some[at] for at in order]
        if judged[order[0]] < least:
            parent, least = some[0], judged[order[0]]
    return search.shares(parent)


@allocator(
    after=("magnitude",),
    patterns=(Unstructured,),
    control=True,
    extents=("full",),
    ids=("evopress",),
)
def drawn(layers, scores, sparsity):
    """The best of uniform and of random shares, at the cost of evolution."""
    search = Search(layers, scores, sparsity)
    tried = [search.uniform]
    for _ in range(round(GENERATIONS * PASSES)):
        one = search.uniform
        for _ in range(len(layers)):
            one = search.moved(one)
        tried.append(one)
    return search.shares(min(tried, key=search.distance))


class Search:
    """Allocations of one budget, name -> weights kept, and how far they take the model from the dense."""

    def __init__(self, layers, scores, sparsity):
        self.layers, self.generator = layers, next(iter(layers.values())).generator
        self.sizes = {name: of.numel() for name, of in scores.items()}
        self.uniform = apportioned(
            {name: (1 - sparsity) * size for name, size in self.sizes.items()}, self.sizes, sparsity
        )
        self.budget = sum(self.uniform.values())
        seen = next(iter(layers.values())).seen
        self.problem, self.model, self.passes = seen.problem, seen.model, seen.passes
        batches = self.problem.calibration()
        self.batches = batches[: max(1, EXAMPLES // self.problem.count(batches[0]))]
        with torch.no_grad():
            self.dense = [self.problem.answers(self.model, batch) for batch in self.batches]
        self.passes.append(Pass(sum(map(self.problem.count, self.batches))))
        self.weights = {name: layer.weight.clone() for name, layer in layers.items()}
        self.places = {
            name: of.flatten().argsort(descending=True).argsort().view_as(of) for name, of in scores.items()
        }

    @torch.no_grad()
    def distance(self, kept, share=1.0):
        """Of the answers to this share of the data, every layer at its level."""
        for name, layer in self.layers.items():
            layer.weight.copy_(self.weights[name] * (self.places[name] < kept[name]))
        count = max(1, round(share * len(self.batches)))
        self.passes.append(Pass(sum(map(self.problem.count, self.batches[:count])), kept))
        apart = [
            self.problem.apart(self.problem.answers(self.model, batch), dense).item()
            for batch, dense in zip(self.batches[:count], self.dense, strict=False)
        ]
        for name, layer in self.layers.items():
            layer.weight.copy_(self.weights[name])
        return sum(apart) / count

    def moved(self, parent):
        """An offspring: a few moves of weights, as many as one layer has and the other has room for."""
        kept, names = dict(parent), list(parent)
        for _ in range(self._draw(MOVES) + 1):
            giver, taker = names[self._draw(len(names))], names[self._draw(len(names))]
            wanted = max(1, round(STEPS[self._draw(len(STEPS))] * self.budget))
            count = min(wanted, kept[giver], self.sizes[taker] - kept[taker])
            if giver != taker:
                kept[giver] -= count
                kept[taker] += count
        return kept

    def shares(self, kept):
        return {name: 1 - count / self.sizes[name] for name, count in kept.items()}

    def _draw(self, among):
        return int(torch.randint(among, (), generator=self.generator))
