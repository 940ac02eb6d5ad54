"""Layers of the models that studies make sparse, so that what a mask costs has its time beside it.

The models are small, and so are their layers: most of a call is what calling takes. That is the answer for
them, and no answer for larger ones.
"""

from suite.case import case
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.workload import workload

# (m, k), and how many inputs come at once: a window of text; a batch of pictures.
LANGUAGE, WINDOW = ((352, 128), (128, 128), (128, 352), (256, 128)), 256
PERCEPTRON, BATCH = ((300, 64), (100, 300), (10, 100)), 64

SPARSITIES = {"smoke": (0.5,), "default": (0.5, 0.8), "full": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)}


@workload(version=1, ids=("s4",))
def layers(extent):
    """Layers of the studied models: byte_lm's at a window of text, digits_mlp's at a batch of pictures."""
    shapes = [(shape, WINDOW) for shape in LANGUAGE]
    if extent != "smoke":
        shapes += [(shape, BATCH) for shape in PERCEPTRON]
    for sparsity in SPARSITIES[extent]:
        for (m, k), n in shapes:
            yield case("spmm", Unstructured(sparsity), m=m, k=k, n=n)
    if extent == "full":
        for (m, k), n in shapes:
            for pattern in (NofM(2, 4), NofM(4, 8)):
                if k % pattern.m == 0:
                    yield case("spmm", pattern, m=m, k=k, n=n)
