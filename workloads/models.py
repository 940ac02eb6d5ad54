"""Models timed as a whole, beside the layers of theirs that are timed alone.

What lies between layers is the same work whatever is pruned, so a model gains less than its layers do. A case
is the largest layer of its model, whose versions race beside the kernels (suite/version.py).
"""

from suite.case import case
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.whole import of_tasks
from suite.workload import workload

of_tasks("byte_lm", "digits_mlp", "digits_vit")

LANGUAGE, WINDOW = {"m": 352, "k": 128}, 256
PERCEPTRON, BATCH = {"m": 300, "k": 64}, 64
VISION, PATCHES = {"m": 96, "k": 32}, 8

SPARSITIES = {"smoke": (0.5,), "default": (0.5,), "full": (0.5, 0.8, 0.9)}


@workload(version=1, ids=("s4",))
def models(extent):
    """Whole models: a language model on a text and on the token after it; in full, classifiers on a batch."""
    patterns = [Unstructured(one) for one in SPARSITIES[extent]]
    if extent == "full":
        patterns.append(NofM(2, 4))
    for pattern in patterns:
        yield case("spmm", pattern, data="byte_lm", n=WINDOW, **LANGUAGE)
        if extent != "smoke":
            yield case("spmm", pattern, data="byte_lm", n=1, **LANGUAGE)
        if extent == "full":
            yield case("spmm", pattern, data="digits_mlp", n=BATCH, **PERCEPTRON)
            yield case("spmm", pattern, data="digits_vit", n=BATCH * PATCHES, **VISION)
