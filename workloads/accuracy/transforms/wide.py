"""Wide: a wider model, so sparse that it takes the dense model's FLOPs.

Thangarasa et al., "Sparse-IFT: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency", ICML
2024. For a layer between two hidden ones the width is 1 / sqrt(1 - sparsity); inputs and classes do not
grow, so here it is found for the model as a whole.
"""

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.transforms.widths import flops, width_for

WITHIN = 0.02


@transform(
    after=("random-uniform-static", "random-uniform-rigl"),
    patterns=(Unstructured,),
    start="fresh",
    iso="infer_flops",
    ids=("sparse-ift",),
)
def wide(problem, pattern):
    """A wider sparse model of the dense model's FLOPs."""
    density = 1 - pattern.sparsity
    wanted = flops(problem, 1.0, 1.0)
    return problem.model(width_for(lambda width: flops(problem, width, density), wanted, WITHIN))
