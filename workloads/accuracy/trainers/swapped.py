"""Swapped: while a mixture learns, two experts change places behind the gate where that lowers the loss.

Ibrahim et al., "COMET: Learning Cardinality Constrained Mixture of Experts with Trees and Local Search", KDD
2023: which outputs of a gate belong to which experts is left to a local search, for gradients get stuck in
what was drawn at first. A move is a swap of two experts of a layer; the loss on one batch of training data
says whether it stays. A search must beat swaps that nobody judges.
"""

import torch

from suite.kernel import Refused
from suite.method import trainer
from suite.patterns.chosen import Chosen
from suite.studying.layers import Pass
from suite.workloads.accuracy.feed import Mixture

EVERY = 10  # steps between two searches
UNTIL = 0.25  # of the training; later experts are what their places made them, and no swap lowers the loss
MOVES = 4  # tried of each layer in a search

TERMS = {"patterns": (Chosen,), "start": "fresh", "training": "weights", "extents": ("full",)}


@trainer(**TERMS, tuning_runs=4, ids=("comet",))
def swapped(sparsifier):
    """Train a fresh model and search, now and then, for better places of its experts."""
    problem, model = sparsifier.problem, sparsifier.model
    batches = problem.calibration()

    def search(rules):
        batch = batches[int(torch.randint(len(batches), ()))]

        def loss():
            sparsifier.spent.passes.append(Pass(problem.count(batch), sparsifier.nonzeros))
            return problem.loss(model, batch).item()

        searched(rules, loss, MOVES)

    train(sparsifier, search)


@trainer(**TERMS, ids=("comet",))
def swapped_at_random(sparsifier):
    """Train a fresh model and swap, as often as the other searches, two experts of each layer, any."""
    train(sparsifier, lambda rules: [swap(rule.order, *drawn(rule)) for rule in rules])


def train(sparsifier, move):
    """A course in which places of experts are moved now and then. Refused: there are none."""
    rules = [one for one in sparsifier.model.modules() if isinstance(one, Mixture)]
    if not rules:
        raise Refused("the model has no experts whose places could be swapped")
    for step, done in enumerate(sparsifier.schedule()):
        if step % EVERY == 0 and done < UNTIL:
            with torch.no_grad():
                move(rules)
        sparsifier.step()


def searched(rules, loss, moves):
    """The losses that came of the moves that were kept, the first that of no move: each lower than before."""
    found = [loss()]
    for rule in rules * moves:
        pair = drawn(rule)
        swap(rule.order, *pair)
        if (now := loss()) < found[-1]:
            found.append(now)
        else:
            swap(rule.order, *pair)
    return found


def drawn(rule):
    """Two experts, any."""
    return torch.randperm(len(rule.order))[:2].tolist()


def swap(order, one, other):
    """In place."""
    order[[one, other]] = order[[other, one]]
