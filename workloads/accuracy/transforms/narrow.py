"""Narrow: a dense model with as many weights as the sparse one keeps. The rival that needs no kernel."""

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.transforms.widths import parameters, width_for

WITHIN = 0.06  # small models have few widths; the line's sparsity says what it came to


@transform(
    after=("plain", "plain_quarter", "plain_fourfold", "longer"),
    patterns=(Unstructured,),
    start="fresh",
    iso="params",
    ids=("gmp-iso-memory",),
)
def narrow(problem, pattern):
    """A narrower dense model of as many weights."""
    wanted = (1 - pattern.sparsity) * parameters(problem, 1.0)
    return problem.model(width_for(lambda width: parameters(problem, width), wanted, WITHIN))
