"""Sparse activations: feed-forward layers of which a token uses some neurons; which, is known only then.

Up and down projections of language models at decode: one token, and batches whose tokens together use ever
more. In `unstructured` cases tokens choose independently and all neurons are alike, so that a batch of n uses
1 - s^n of them; in `hot` ones a few neurons serve most tokens, as in models. What counts is given there, so
they say what skipping buys before anything is said about choosing well. Then rules choose it at run time, on
activations of which it is known what they are like.
"""

from itertools import product

from suite.case import case
from suite.patterns.chosen import Chosen
from suite.patterns.hot import Hot
from suite.patterns.unstructured import Unstructured
from suite.workload import workload
from suite.workloads.shapes import LLM

UP, DOWN = (8192, 2048), (2048, 8192)  # OPT-1.3B, whose activation is ReLU
SMALL = (128, 352)  # down, of the model that `text` is of
OTHERS = ("Llama-2-7B", "Llama-3-8B", "Llama-2-13B")
SPARSITIES = (0.5, 0.9, 0.7, 0.95)
BATCHES = (1, 8, 4, 16, 2, 32, 64)
INPUTS = ("swiglu", "relus", "hidden", "laplace", "squares", "shifted")


@workload(
    version=2,
    ids=(
        *("cats", "chess", "teal", "wina", "scap", "lazy-neuron", "sparsing-law", "polar-sparsity", "relu2"),
        "r-sparse",
    ),
)
def activation(extent):
    """Feed-forward layers whose activations are mostly zero, at decode."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    for op in ("actmm", "actmm_up"):
        yield case(op, Unstructured(0.9), "bfloat16", m=1024, k=1024, n=1)
        yield case(op, Hot(0.9), "bfloat16", m=1024, k=1024, n=8)
        yield case(op, Chosen(0.9), "bfloat16", data="swiglu", m=1024, k=1024, n=1)


def default():
    """One token at every sparsity, and both ways at two; then eight that have more or less in common.

    Rules with one token and with eight, both ways, and on text.
    """
    for sparsity in SPARSITIES:
        yield down(Unstructured(sparsity))
    for sparsity in SPARSITIES[:2]:
        yield up(Unstructured(sparsity))
    for pattern in (Unstructured(0.9), Hot(0.9)):
        yield down(pattern, n=8)
    for n in (1, 8):
        yield down(Chosen(0.9), n=n, data="swiglu")
    yield up(Chosen(0.5), data="swiglu")
    for sparsity in (0.5, 0.8):
        yield down(Chosen(sparsity), n=64, layer=SMALL, data="text")


def full():
    """Every batch, sparsity and dtype, and other layers at one token. Rules on every input."""
    for to, dtype, n, of, sparsity in product(
        (down, up), ("bfloat16", "float32"), BATCHES, (Unstructured, Hot), SPARSITIES
    ):
        yield to(of(sparsity), dtype, n)
    for model, sparsity in product(OTHERS, SPARSITIES):
        yield down(Unstructured(sparsity), layer=LLM[f"{model} down"])
        yield up(Unstructured(sparsity), layer=LLM[f"{model} gate"])
    for to, n, sparsity in product((down, up), BATCHES, SPARSITIES):
        yield to(Chosen(sparsity), n=n, data=INPUTS[0])
    for to, data, n, sparsity in product((down, up), INPUTS[1:], BATCHES[:2], SPARSITIES):
        yield to(Chosen(sparsity), n=n, data=data)
    for n, sparsity in product((64, 1), SPARSITIES):
        yield down(Chosen(sparsity), n=n, layer=SMALL, data="text")
        yield up(Chosen(sparsity), n=n, layer=SMALL[::-1], data="text")


def down(pattern, dtype="bfloat16", n=1, layer=DOWN, data=""):
    """A projection back, of which silent neurons need not be read."""
    m, k = layer
    return case("actmm", pattern, dtype, data=data, m=m, k=k, n=n)


def up(pattern, dtype="bfloat16", n=1, layer=UP, data=""):
    """A projection up, of which only what its gate lets through is wanted."""
    m, k = layer
    return case("actmm_up", pattern, dtype, data=data, m=m, k=k, n=n)
