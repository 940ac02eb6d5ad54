"""Widths: how wide a model must be for a cost, in whole neurons, and what a model costs."""

import torch

from suite.kernel import Refused
from suite.studying.layers import Work, weights
from suite.workloads.accuracy.feed import Feed

HALVINGS = 24
MOST = 3  # times the width: wider models take longer than all the rest of a study


def width_for(cost, wanted, within):
    """The width at which `cost(width)` is nearest to what is wanted. Refused: none is near.

    Cost rises with width in steps; of the two sides of the step the nearer is taken.
    """
    low, high = 0.0, float(MOST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= wanted else (low, middle)
    width = min((low, high), key=lambda one: abs(cost(one) - wanted))
    if abs(cost(width) / wanted - 1) > within:
        off = cost(width) / wanted - 1
        raise Refused(f"no width up to {MOST} times is within {within:.0%}: the nearest is off by {off:+.1%}")
    return width


def flops(problem, width, density):
    """Of one example, the layers at this density; attention's products grow with the width, and are whole."""
    return flops_of(problem, looked_at(problem, width), density)


def flops_of(problem, model, density):
    """The same of a model."""
    work = Work(problem, model)
    sizes = {name: weights(layer) for name, layer in problem.layers(model).items()}
    return work.at({name: density * size for name, size in sizes.items()}, sizes)


def feeds(model):
    """Its feed-forward layers, by name."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Feed)}


def parameters(problem, width):
    """Weights of the layers that could be pruned."""
    return sum(weights(layer) for layer in problem.layers(looked_at(problem, width)).values())


def looked_at(problem, width=1.0):
    """A model that nobody trains: the next one has the weights it would have had without it."""
    with torch.random.fork_rng(devices=()):
        return problem.model(width)
