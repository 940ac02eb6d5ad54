"""Experts: feed-forward layers as mixtures of experts, of which each token asks the pattern's share.

`experts` and `prototypes` have as many active neurons as the dense layer, in experts that are smaller the
more of them are asked: Yang et al., "M6-T: Exploring Sparse Expert Models and Beyond", 2021, whose prototypes
are groups of experts, of each of which a token asks one. There `plain` leaves loads as they come, `balanced`
penalises uneven ones, and with `_c1` or `_c2` an expert has room for once or twice the rows of even loads, in
the order of the tokens: what comes later is dropped. `upcycled` begins as the trained dense model, every
expert a copy of its layer: Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense
Checkpoints", ICLR 2023. Gates of the best of all sum to 1: with one expert asked, its router learns from
a penalty alone.
"""

import copy

import torch

from suite.formats import routing
from suite.kernel import Refused
from suite.method import transform
from suite.pattern import rounded
from suite.patterns.chosen import Chosen
from suite.workloads.accuracy.feed import Experts, Feed

EXPERTS = 8
TERMS = {"patterns": (Chosen,), "tasks": ("digits_vit",), "extents": ("full",)}
FRESH = TERMS | {"after": ("plain",), "start": "fresh", "ids": ("m6-t",)}
FRESH |= {"tasks": ("digits_vit", "planted_mixture")}
LOADED = FRESH | {"after": ("plain", "balanced")}
SEARCHED = FRESH | {"after": ("plain", "balanced", "swapped", "swapped_at_random"), "ids": ("comet", "m6-t")}
AFTER = TERMS | {"after": ("continued",), "ids": ("sparse-upcycling", "upcycling-inference")}


@transform(**SEARCHED)
def experts(problem, pattern):
    """Experts with as many active neurons as the dense layer; a token asks those of its highest logits."""
    return fresh(problem, pattern, routing.dense)


@transform(**LOADED)
def experts_c1(problem, pattern):
    """The same, an expert having as many rows as with even loads."""
    return fresh(problem, pattern, routing.dense, room=1.0)


@transform(**LOADED)
def experts_c2(problem, pattern):
    """The same, an expert having twice as many rows as with even loads."""
    return fresh(problem, pattern, routing.dense, room=2.0)


@transform(**LOADED)
def prototypes(problem, pattern):
    """Experts with as many active neurons as the dense layer; a token asks the best of each group."""
    return fresh(problem, pattern, routing.prototypes)


@transform(**LOADED)
def prototypes_c1(problem, pattern):
    """The same, an expert having as many rows as with even loads."""
    return fresh(problem, pattern, routing.prototypes, room=1.0)


@transform(**LOADED)
def prototypes_c2(problem, pattern):
    """The same, an expert having twice as many rows as with even loads."""
    return fresh(problem, pattern, routing.prototypes, room=2.0)


@transform(**FRESH, control=True)
def experts_at_random(problem, pattern):
    """Experts with as many active neurons as the dense layer; a token asks any."""
    return fresh(problem, pattern, blindly)


@transform(**AFTER)
def upcycled(problem, pattern):
    """The dense model, each of its layers copied into experts, which a new router chooses among."""
    return grown(problem, pattern, keep=True)


@transform(**AFTER, control=True)
def upcycled_afresh(problem, pattern):
    """The same with experts of fresh weights in the trained model."""
    return grown(problem, pattern, keep=False)


def fresh(problem, pattern, gates, room=None):
    """A fresh model whose experts are asked by their logits, with room for so many times even loads."""

    def rule(dim, asked):
        groups = asked if gates is routing.prototypes else 1
        return Experts(dim, EXPERTS, asked, gates, groups, room)

    return mixed(problem, pattern, rule)


def mixed(problem, pattern, rule):
    """A fresh model of experts by rule(dim, how many are asked), as many neurons active as before.

    Refused: the dense layer's neurons are not so many equal parts.
    """
    model = problem.model()
    for block in model.blocks:
        dim, hidden = block.feed.down.weight.shape
        asked = asked_of(pattern)
        if hidden % asked:
            raise Refused(f"{hidden} neurons are not {asked} equal experts")
        block.feed = Feed(dim, EXPERTS * hidden // asked, rule=rule(dim, asked))
    return model.train()


@torch.no_grad()
def grown(problem, pattern, keep):
    """The trained model with experts of its layers' size; keep: of its layers' weights too."""
    model = copy.deepcopy(problem.trained)
    for block in model.blocks:
        before, (dim, hidden) = block.feed, block.feed.down.weight.shape
        block.feed = Feed(dim, EXPERTS * hidden, rule=Experts(dim, EXPERTS, asked_of(pattern), routing.dense))
        if keep:
            block.feed.up.weight.copy_(before.up.weight.repeat(EXPERTS, 1))
            block.feed.up.bias.copy_(before.up.bias.repeat(EXPERTS))
            block.feed.down.weight.copy_(before.down.weight.repeat(1, EXPERTS))
            block.feed.down.bias.copy_(before.down.bias)
    return model.train()


def asked_of(pattern):
    """How many experts a token asks. Refused: none."""
    asked = rounded(pattern.sparsity, EXPERTS)
    if not asked:
        raise Refused(f"{pattern} leaves a token less than one of {EXPERTS} experts")
    return asked


def blindly(logits, asked):
    """Gates of experts that are drawn; what each of them counts is in the logits."""
    others = torch.rand_like(logits).topk(logits.shape[1] - asked, -1).indices
    return routing.dense(logits.scatter(-1, others, -torch.inf), asked)
