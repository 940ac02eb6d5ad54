"""Slim: a dense model of as many bytes as the sparse one, whose zeros are told by a bit for each place."""

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.transforms.widths import looked_at, parameters, width_for

WITHIN = 0.01
BITS = 32  # of a weight


@transform(
    after=("plain", "longer"),
    patterns=(Unstructured,),
    start="fresh",
    iso="bytes",
    ids=("gmp-iso-memory",),
)
def slim(problem, pattern):
    """A narrower dense model of as many bytes."""
    beside = stored(problem, 1.0) - parameters(problem, 1.0)  # biases and what else is never pruned
    wanted = (1 - pattern.sparsity + 1 / BITS) * parameters(problem, 1.0) + beside
    return problem.model(width_for(lambda width: stored(problem, width), wanted, WITHIN))


def stored(problem, width):
    """Numbers that a dense model of this width holds."""
    return sum(one.numel() for one in looked_at(problem, width).parameters())
