"""Wide: a wider model, so sparse that it takes the dense model's FLOPs.

Thangarasa et al., "Sparse-IFT: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency", ICML
2024. For a layer between two hidden ones the width is 1 / sqrt(1 - sparsity); inputs and classes do not
grow, and attention's products grow without a mask, so here it is found for the model as a whole. Widths come
in whole neurons, with attention in whole heads; feed-forward layers, where there are any, have a few neurons
more or less for what that misses.
"""

from suite.method import transform
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.feed import Feed
from suite.workloads.accuracy.structured import put
from suite.workloads.accuracy.transforms.widths import feeds, flops, flops_of, looked_at, width_for

WITHIN = 0.02
NEAR = 0.1  # enough where feed-forward layers make up for the rest
MASKS = ("random-uniform-static", "random-uniform-set", "random-uniform-rigl")


@transform(
    after=MASKS,
    patterns=(Unstructured,),
    start="fresh",
    iso="infer_flops",
    ids=("sparse-ift",),
)
def wide(problem, pattern):
    """A wider sparse model of the dense model's FLOPs."""
    density = 1 - pattern.sparsity
    wanted = flops(problem, 1.0, 1.0)
    within = NEAR if feeds(looked_at(problem)) else WITHIN
    model = problem.model(width_for(lambda width: flops(problem, width, density), wanted, within))
    missing = wanted - flops_of(problem, model, density)
    return with_neurons(problem, model, density, missing) if missing and feeds(model) else model


def with_neurons(problem, model, density, missing):
    """The model, its feed-forward layers of so many neurons more that these take what is missing of FLOPs."""
    before = flops_of(problem, model, density)

    def grown(by):
        for name, one in feeds(model).items():
            put(model, name, Feed(one.down.out_features, one.down.in_features + by, one.activation))

    grown(1)
    each = flops_of(problem, model, density) - before
    grown(round(missing / each) - 1)
    return model
