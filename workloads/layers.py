"""Layers of the models that studies make sparse, so that what a mask costs has its time beside it.

The models are small, and so are their layers: most of a call is what calling takes. That is the answer for
them, and no answer for larger ones.
"""

from suite.case import case
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.workload import workload

BATCH, WINDOW = 64, 256  # pictures at once; bytes of text

# task: (m, k, n) of its linear layers, at a batch of pictures, each of eight patches in the transformer, or
# at a window of text. Convolutions of digits_cnn are no products of a matrix until inputs are unfolded.
LAYERS = {
    "digits_mlp": ((300, 64, BATCH), (100, 300, BATCH), (10, 100, BATCH)),
    "byte_lm": ((352, 128, WINDOW), (128, 128, WINDOW), (128, 352, WINDOW)),
    "digits_vit": (
        *((m, k, 8 * BATCH) for m, k in ((96, 32), (32, 32), (64, 32), (32, 64), (32, 8))),
        (10, 32, BATCH),
    ),
    "digits_features": ((200, 64, BATCH), (64, 200, BATCH)),
}

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

# Between two of them a time can be told, beyond them none: few that are far apart tell of many.
SPARSITIES = {
    "smoke": (0.5,),
    "default": (0.5, 0.9, 0.98),
    "full": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98),
}
PATTERNS = {"smoke": (), "default": (NofM(2, 4),), "full": (NofM(2, 4), NofM(4, 8), NofM(1, 8))}


@workload(version=3, ids=("s4", "sparse-ift", "gmp-iso-memory"))
def layers(extent):
    """Linear layers of the studied models, at a window of text and at a batch of pictures.

    In full, those of digits_mlp's smaller and larger models of equal cost, too.
    """
    first, *others = LAYERS.values()
    yield from in_groups(first, extent)  # a sparsity each: soon there is a whole model
    for m, k, n in [shape for one in ((first, *others) if extent != "smoke" else (first,)) for shape in one]:
        for sparsity in SPARSITIES[extent]:
            yield case("spmm", Unstructured(sparsity), m=m, k=k, n=n)
    yield from in_groups([shape for one in others for shape in one], extent)
    if extent == "full":
        for sparsity, models in (*SMALLER.items(), *LARGER.items()):
            for m, k in models:
                yield case("spmm", Unstructured(sparsity), m=m, k=k, n=BATCH)


def in_groups(shapes, extent):
    """Layers that are N:M, as far as groups divide them."""
    for pattern in PATTERNS[extent]:
        for m, k, n in shapes:
            if k % pattern.m == 0:
                yield case("spmm", pattern, m=m, k=k, n=n)
