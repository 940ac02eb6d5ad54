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

# Of digits_mlp: smaller dense models of as many weights as a sparse one keeps, and larger ones so sparse that
# they take as many FLOPs (transforms narrow and wide).
SMALLER = {
    0.5: ((191, 64), (64, 191), (10, 64)),
    0.8: ((100, 64), (33, 100), (10, 33)),
    0.9: ((58, 64), (19, 58), (10, 19)),
}
LARGER = {
    0.5: ((457, 64), (152, 457), (10, 152)),
    0.7: ((614, 64), (205, 614), (10, 205)),
    0.8: ((773, 64), (258, 773), (10, 258)),
}

SPARSITIES = {"smoke": (0.5,), "default": (0.5, 0.8), "full": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)}


@workload(version=2, ids=("s4", "sparse-ift", "gmp-iso-memory"))
def layers(extent):
    """Layers of the studied models: byte_lm's at a window of text, digits_mlp's at a batch of pictures.

    In full, those of digits_mlp's smaller and larger models of equal cost, too.
    """
    shapes = [(shape, WINDOW) for shape in LANGUAGE]
    if extent != "smoke":
        shapes += [(shape, BATCH) for shape in PERCEPTRON]
    for sparsity in SPARSITIES[extent]:
        for (m, k), n in shapes:
            yield case("spmm", Unstructured(sparsity), m=m, k=k, n=n)
    if extent == "full":
        for sparsity, models in (*SMALLER.items(), *LARGER.items()):
            for m, k in models:
                yield case("spmm", Unstructured(sparsity), m=m, k=k, n=BATCH)
        for (m, k), n in shapes:
            for pattern in (NofM(2, 4), NofM(4, 8)):
                if k % pattern.m == 0:
                    yield case("spmm", pattern, m=m, k=k, n=n)
