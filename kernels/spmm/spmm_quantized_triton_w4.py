"""Groups of weights of 4 bits on a GPU, in Triton: what codes_triton.py says.

Bad at: many columns, for every 64 of which codes are made numbers again; half of all groups left out, with
several columns, beyond what is not read, for tensor cores multiply the zeros too; patterns whose groups would
be mostly zeros, which it refuses.
"""

from suite.case import QUANTIZED, W4A16
from suite.cuda.terms import in_triton, no_triton
from suite.formats.quantized import hollow, quantized
from suite.kernel import kernel

codes = in_triton("suite.kernels.spmm.codes_triton")

MOST = 256  # columns
TERMS = {"op": "spmm", "on": "cuda", "isa": ("sm_80",), "live_order": "columns", "ids": ("gqsa",)}


def refuse(case, device):
    return [*no_triton(), *too_many(case), *hollow(case)]


def too_many(case):
    return [f"takes at most {MOST} columns, got {case['n']}"] if case["n"] > MOST else []


@kernel(**TERMS, dtypes=(W4A16,), refuse=refuse)
def spmm_quantized_triton_w4(a, b):
    """Groups of codes of 4 bits, in Triton."""
    return codes.prepare(quantized(a.to("cpu"), QUANTIZED[W4A16]), b)
