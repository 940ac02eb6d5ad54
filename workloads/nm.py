"""Weights pruned N:M, as sparse tensor cores take them, and its kin: V:N:M, grouped N:M, constant fan-in."""

from itertools import product

from suite.case import FLOAT8, INT8, case
from suite.patterns.fan_in import FanIn
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.n_of_m import NofM
from suite.patterns.v_n_of_m import VNofM
from suite.workload import workload
from suite.workloads.shapes import ANCHOR, DTYPES, FEW_TOKENS, LLM, PREFILL, TOKENS

GROUPS = (NofM(2, 4), NofM(1, 8), NofM(1, 4), NofM(1, 16), NofM(2, 8))
BANDS = (VNofM(64, 2, 8), VNofM(64, 2, 16), VNofM(128, 2, 32), VNofM(16, 2, 8))
PLACED = ((2, 4, 16), (1, 4, 16), (1, 8, 8), (2, 8, 4), (3, 4, 16), (4, 8, 1))
SORTED = tuple(GroupedNofM(*one) for one in PLACED)
FAN_IN = FanIn(0.9)
EIGHT_BITS = (FLOAT8, INT8)


@workload(version=2, ids=("sr-ste", "pgf-nm", "maskllm", "cast", "bdwp-sat", "sten", "srigl"))
def nm(extent):
    """Layers of language models kept 2:4, sparser N:M, V:N:M and N:M:G, or with equally many inputs a row."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    for pattern in (NofM(2, 4), VNofM(64, 2, 8)):
        yield case("spmm", pattern, m=1024, k=1024, n=64)


def default():
    """The anchor layer: every N:M at a small batch, the two ends of the line in the other regimes."""
    m, k = ANCHOR
    for pattern in GROUPS:
        yield case("spmm", pattern, m=m, k=k, n=64)
    for ((m, k), n), pattern in product(((ANCHOR, 1), (PREFILL, 512)), GROUPS[:2]):
        yield case("spmm", pattern, m=m, k=k, n=n)
    m, k = ANCHOR
    yield case("spmm", NofM(2, 4), "bfloat16", m=m, k=k, n=64)
    for dtype, ((rows, columns), n) in product(EIGHT_BITS, ((ANCHOR, 64), (PREFILL, 512))):
        yield case("spmm", NofM(2, 4), dtype, m=rows, k=columns, n=n)
    for pattern in (*BANDS[:2], SORTED[0]):
        yield case("spmm", pattern, m=m, k=k, n=64)
    yield case("spmm", FAN_IN, m=m, k=k, n=1)


def full():
    """Every pattern on the anchor at every number of tokens, then on every layer of the models."""
    m, k = ANCHOR
    for pattern, dtype, n in product((*GROUPS, *BANDS, *SORTED), DTYPES, TOKENS):
        yield case("spmm", pattern, dtype, m=m, k=k, n=n)
    for pattern, dtype, n in product(GROUPS, EIGHT_BITS, TOKENS):
        yield case("spmm", pattern, dtype, m=m, k=k, n=n)
    for n in TOKENS:
        yield case("spmm", FAN_IN, m=m, k=k, n=n)
    layers = [shape for shape in dict.fromkeys(LLM.values()) if shape != ANCHOR]
    for (m, k), pattern, dtype, n in product(layers, (*GROUPS, *BANDS), DTYPES, FEW_TOKENS):
        yield case("spmm", pattern, dtype, m=m, k=k, n=n)
    for (m, k), dtype, n in product(layers, EIGHT_BITS, FEW_TOKENS):
        yield case("spmm", NofM(2, 4), dtype, m=m, k=k, n=n)
