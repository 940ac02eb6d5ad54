"""Feed: a feed-forward layer of which a token may use some neurons only.

    y = down(silenced(activation(up x)))

`up` makes the neurons, for a gated activation twice as many numbers; a rule then says which of them speak.
The others are zeros, exactly, so their columns of `down` need not be read: `share` says how much of each
weight is. Everything is multiplied all the same: what is told of such a layer is simulated.
"""

import math
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import gelu, relu, silu

from suite.formats import routing


def squared_relu(x):
    return relu(x) ** 2


PLAIN = {"gelu": gelu, "silu": silu, "relu": relu, "squared_relu": squared_relu}
GATED = {"swiglu": silu, "reglu": relu}  # of one half, times the other


class Feed(nn.Module):
    """activation: one of PLAIN or GATED. rule: a module that gives its neurons, or zeros; None: all speak."""

    def __init__(self, dim, hidden, activation="gelu", rule=None):
        super().__init__()
        self.up = nn.Linear(dim, hidden * (2 if activation in GATED else 1))
        self.down = nn.Linear(hidden, dim)
        self.activation, self.rule = activation, rule

    def forward(self, x):
        return self.down(self.neurons(x))

    def neurons(self, x):
        """What `down` gets, [..., hidden]."""
        made = self.up(x)
        if gate := GATED.get(self.activation):
            opened, wide = made.chunk(2, -1)
            made = gate(opened) * wide
        else:
            made = PLAIN[self.activation](made)
        return made if self.rule is None else self.rule(made, x, self.down.weight)

    def train(self, mode=True):
        """How much of its weights a token uses may depend on whether the layer learns."""
        super().train(mode)
        if self.rule is not None:
            self.up.share, self.down.share = self.rule.shares()
        return self


def equal(dim, hidden, activation):
    """Neurons with which a layer has as many weights as one of `hidden` that is not gated."""
    return round(hidden * 2 / 3) if activation in GATED else hidden


class Loudest(nn.Module):
    """The neurons of a token that add most to the answer: |neuron| times the norm of its column of `down`.

    learnt: whether the others are silent in training too; else only where the model is asked.
    """

    def __init__(self, keep, hidden, learnt=False):
        super().__init__()
        self.keep, self.hidden, self.learnt = keep, hidden, learnt

    def forward(self, made, x, down):
        if self.training and not self.learnt:
            return made
        told = self.told(made.detach().abs() * down.detach().norm(dim=0))
        return made * torch.zeros_like(made).scatter_(-1, told, 1)

    def told(self, scores):
        return scores.topk(self.keep, -1).indices

    def shares(self):
        """All of `up` is needed to know; of `down`, the columns of those that speak."""
        return 1.0, 1.0 if self.training and not self.learnt else self.keep / self.hidden


class Blind(Loudest):
    """As many neurons of each token, any: what choosing must beat."""

    def told(self, scores):
        return super().told(torch.rand_like(scores))


class Cut(nn.Module):
    """The neurons whose score, as Loudest has it, reaches one cut for all; it counts those that do not."""

    def __init__(self):
        super().__init__()
        self.least, self.silent, self.all, self.most = 0.0, 0, 0, 0.0

    def forward(self, made, x, down):
        scores = made.abs() * down.norm(dim=0)
        quiet = (scores < self.least) | (made == 0)
        self.silent, self.all = self.silent + int(quiet.sum()), self.all + quiet.numel()
        self.most = max(self.most, float(scores.max()))
        return made.masked_fill(quiet, 0)

    def shares(self):
        return 1.0, 1.0


@contextmanager
def cutting(model, loss):
    """at(cut): (the share of neurons that are silent at this cut, what `loss()` is then, the highest score).

    In place of the layers' own rules, which come back afterwards. Exact zeros are silent at any cut.
    """
    feeds = [one for one in model.modules() if isinstance(one, Feed)]
    rules, cut = [one.rule for one in feeds], Cut()

    @torch.no_grad()
    def at(least):
        cut.least, cut.silent, cut.all = least, 0, 0
        lost = float(loss())
        return cut.silent / cut.all, lost, cut.most

    for one in feeds:
        one.rule = cut
    try:
        yield at
    finally:
        for one, rule in zip(feeds, rules, strict=True):
            one.rule = rule


def spared(at, rise, halvings=24):
    """(the share of neurons that are silent where perplexity has risen by this share, the rise there).

    The cut is found by bisection. `at` is as `cutting` has it, the loss in nats. Luo et al., "Sparsing Law:
    Towards Large Language Models with Greater Activation Sparsity", 2024, whose PPL-p% sparsity this is.
    """
    share, whole, high = at(0.0)
    low = reached = 0.0
    for _ in range(halvings):
        silent, lost, _ = at(middle := (low + high) / 2)
        if (risen := math.expm1(lost - whole)) <= rise:
            low, share, reached = middle, silent, risen
        else:
            high = middle
    return share, reached


class Mixture(nn.Module):
    """Neurons in so many experts, of which a token asks some: what each counts is for `gated(x)` to say.

    room: the rows of each expert, in those it needs where loads are even; later choices than fill them are
    dropped. None: there is room for all.
    order: which of the gate's outputs each expert has, int64[experts].
    loads, dropped: of the last call, how many tokens asked each expert, and the share of choices dropped.
    uneven: of the last call, a penalty for uneven loads; 0 of a gate that has none.
    """

    uneven = dropped = 0.0

    def __init__(self, experts, asked, room=None):
        super().__init__()
        self.experts, self.asked, self.room = experts, asked, room
        self.register_buffer("order", torch.arange(experts))

    def gated(self, x):
        """[..., experts]: the gate's outputs for tokens [..., dim], 0 where one does not go."""
        raise NotImplementedError

    def forward(self, made, x, down):
        going = self.gated(x).flatten(0, -2).index_select(1, self.order)
        self.loads = (going > 0).sum(0)
        if self.room is not None:
            going = routing.within(going, math.ceil(self.room * self.asked * len(going) / self.experts))
            self.dropped = 1 - float((going > 0).sum() / self.loads.sum())
        return (made.unflatten(-1, (self.experts, -1)) * going.view(*x.shape[:-1], -1, 1)).flatten(-2)

    def shares(self):
        part = self.asked / self.experts
        return part, part


class Experts(Mixture):
    """A linear router; `gates` makes of its logits, and of how many are asked, what each expert counts.

    groups: of neighbouring experts, each of which is to be evenly loaded by itself. The penalty is that of
    Fedus et al., "Switch Transformers", 2022: 1 where tokens are spread evenly, and as many as a group has
    experts at worst.
    """

    def __init__(self, dim, experts, asked, gates, groups=1, room=None):
        super().__init__(experts, asked, room)
        self.router = nn.Linear(dim, experts, bias=False)
        self.gates, self.groups = gates, groups

    def gated(self, x):
        logits = self.router(x).flatten(0, -2)
        going = self.gates(logits, self.asked)
        loads = (going > 0).sum(0)
        likely = logits.unflatten(-1, (self.groups, -1)).softmax(-1).flatten(-2).mean(0) / self.groups
        self.uneven = self.experts * (loads / loads.sum() * likely).sum()
        return going.view(*x.shape[:-1], -1)


def uneven(model):
    """The load of the busiest expert over the mean, of the layer where it is highest, in the last call."""
    found = [one.loads for one in model.modules() if isinstance(one, Mixture)]
    return max(float(one.max() / one.double().mean()) for one in found) if found else None


def routed(model):
    """How evenly the last call went to experts, by the names in a Score; nothing of a model without them.

    The entropy of loads, 1 where they are even, is that of the layer where it is lowest; of dropped choices
    there are those of all layers.
    """
    rules = [one for one in model.modules() if isinstance(one, Mixture)]
    if not rules:
        return {}
    shares = [one.loads.double() / one.loads.sum() for one in rules]
    entropies = [float(torch.special.entr(of).sum()) / math.log(len(of)) for of in shares]
    found = {"load imbalance": uneven(model), "load entropy": min(entropies)}
    if any(one.room is not None for one in rules):
        found["choices dropped"] = sum(one.dropped for one in rules) / len(rules)
    return found
