"""A weight that is kept on a disk, or in memory of another kind, and brought over each time it is needed."""

from itertools import product

from suite.case import case
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, DTYPES, LLM, SPARSITIES, TOKENS

TWO_OF_FOUR = NofM(2, 4)  # the one pattern that every form takes
OPS = ("stream_disk", "stream_memory")
LARGE = ("Llama-3-70B o", "Llama-3-70B gate", "OPT-66B o", "OPT-66B up")  # of models that are offloaded


@workload(version=1, ids=("endor",))
def offload(extent):
    """Layers of language models streamed from disk and from memory, one token at a time and a few."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Less than a second."""
    yield case("stream_memory", TWO_OF_FOUR, "bfloat16", m=1024, k=1024, n=1)


def default():
    """Half of the weights gone, from either place; and most of them, from disk."""
    m, k = ANCHOR
    for op, pattern in (*product(OPS, (TWO_OF_FOUR,)), ("stream_disk", Unstructured(0.9))):
        yield case(op, pattern, "bfloat16", m=m, k=k, n=1)


def full():
    """The anchor at all sparsities and a few numbers of tokens, large layers at one token."""
    m, k = ANCHOR
    patterns = (TWO_OF_FOUR, *map(Unstructured, SPARSITIES))
    for op, dtype, n, pattern in product(OPS, DTYPES[:2], TOKENS[:3], patterns):
        yield case(op, pattern, dtype, m=m, k=k, n=n)
    for op, layer, pattern in product(OPS, LARGE, (TWO_OF_FOUR, Unstructured(0.8))):
        m, k = LLM[layer]
        yield case(op, pattern, "bfloat16", m=m, k=k, n=1)
