"""ERK: layers with fewer weights for their size stay denser, by the Erdős-Rényi rule with kernels.

Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity", Nature
Communications 2018; with kernels, Evci et al., "Rigging the Lottery", ICML 2020. It knows no weight, so it
can be used before training.
"""

from math import prod

from suite.method import allocator
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured


@allocator(patterns=(Unstructured, Block), ids=("random-pruning",))
def erk(layers, scores, sparsity):
    """Densities in proportion to the sum of a weight's sides over their product, 1 at most."""
    shapes = {name: layer.parameter.shape for name, layer in layers.items()}
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    left = (1 - sparsity) * sum(sizes.values())
    open_, densities = set(layers), {}
    while open_:
        factor = left / sum(sum(shapes[name]) for name in open_)
        full = {name for name in open_ if factor * sum(shapes[name]) > sizes[name]}
        if not full:
            densities |= {name: factor * sum(shapes[name]) / sizes[name] for name in open_}
            break
        densities |= dict.fromkeys(full, 1.0)
        left -= sum(sizes[name] for name in full)
        open_ -= full
    return {name: 1 - density for name, density in densities.items()}
