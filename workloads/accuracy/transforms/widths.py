"""Widths: how wide a model must be for a cost, in whole neurons."""

from suite.kernel import Refused
from suite.studying.layers import Work, weights

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
    """Of one example, the layers at this density."""
    model = problem.model(width)
    work = Work(problem, model)
    sizes = {name: weights(layer) for name, layer in problem.layers(model).items()}
    return work.at({name: density * size for name, size in sizes.items()}, sizes)


def parameters(problem, width):
    """Weights of the layers that could be pruned."""
    return sum(weights(layer) for layer in problem.layers(problem.model(width)).values())
