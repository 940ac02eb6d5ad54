"""Races: what kernels for CPUs are to reach against the libraries, and against the best dense product."""

from itertools import product

from suite.case import case
from suite.patterns.block import Block
from suite.patterns.given import Given
from suite.patterns.planted import Planted
from suite.patterns.unstructured import Unstructured
from suite.race import Heat, race
from suite.workloads.shapes import ANCHOR, PREFILL

M, K = ANCHOR
LIBRARIES = ("spmm_*_torch", "spmm_*_scipy")
OURS = ("spmm_*", "!spmm_*_torch", "!spmm_*_scipy")
DENSE = ("spmm_dense_*",)


@race(workload="unstructured", own=("spmm_csr_tiled",), rivals=("spmm_csr_torch",), mean=2.0)
def csr():
    """Compressed rows against MKL's: never slower, three times as fast at many columns."""
    for sparsity, n in product((0.5, 0.9, 0.7, 0.95, 0.8, 0.98, 0.99), (512, 64, 8, 128)):
        asked = 3.0 if n == 512 and sparsity <= 0.9 else 1.0
        yield Heat(case("spmm", Unstructured(sparsity), m=M, k=K, n=n), asked)


@race(workload="unstructured", own=OURS, rivals=LIBRARIES)
def gemv():
    """A sparse matrix times one vector, against MKL and SciPy."""
    asked = {0.5: 1.5, 0.9: 1.3, 0.7: 1.5, 0.6: 1.5, 0.95: 1.0, 0.8: 1.0, 0.99: 1.0}
    for sparsity, ratio in asked.items():
        yield Heat(case("spmm", Unstructured(sparsity), m=M, k=K, n=1), ratio)


@race(workload="unstructured", own=OURS, rivals=DENSE)
def crossover():
    """A uniform mask against the best dense product: faster from 30 % on, from 40 % at many columns."""
    for sparsity, (n, since) in product((0.4, 0.3, 0.5, 0.2), ((512, 0.4), (64, 0.3))):
        asked = 1.0 if sparsity >= since else None
        yield Heat(case("spmm", Unstructured(sparsity), m=M, k=K, n=n), asked)


@race(workload="block", own=("spmm_block_*",), rivals=DENSE)
def block():
    """Blocks in bfloat16 against the best dense product: most of what the zeros could give."""
    for (sparsity, kept), n in product(
        ((0.5, 0.8), (0.9, 0.7), (0.8, 0.8), (0.95, 0.5), (0.2, 0.8)), (512, 128, 2048)
    ):
        asked = kept / (1 - sparsity)
        yield Heat(case("spmm", Block(32, 32, sparsity), "bfloat16", m=M, k=K, n=n), asked)


@race(workload="unstructured", own=OURS, rivals=LIBRARIES, mean=1.3)
def matrices():
    """Real matrices against MKL and SciPy."""
    for n in (64, 8, 512):
        yield Heat(case("spmm", Given(), m=0, k=0, n=n), 0.95)


@race(workload="unstructured", own=("spmm_smat*",), rivals=("spmm_csr_torch",))
def permutation():
    """A million rows in which blocks were hidden: found again, and within seconds."""
    yield Heat(case("spmm", Planted(16, 16, 0.99998), m=10**6, k=10**6, n=8), setup=10.0, padding=1.02)


@race(
    workload="unstructured",
    own=("sparse_step_*",),
    rivals=("sparse_step_dense_*", "sparse_step_masked_*", "sparse_step_*_torch"),
)
def backward():
    """A training step on a fixed mask against dense products, masked ones, and torch's sparse ones."""
    m, k = PREFILL
    for sparsity, asked in ((0.9, 1.0), (0.8, None), (0.95, None)):
        yield Heat(case("sparse_step", Unstructured(sparsity), m=m, k=k, n=512), asked)
