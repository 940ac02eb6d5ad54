"""Dense in 4 bits, in C++ (codes.py): how much of what groups gain few bits do alone.

Bad at: many columns, which it takes eight at a time: bfloat16 unpacked is as quick then.
"""

from suite.case import QUANTIZED, W4A16
from suite.formats.quantized import quantized_whole
from suite.kernel import kernel
from suite.kernels.spmm.codes import TERMS, library, prepare, refuse_whole


@kernel(**TERMS, dtypes=(W4A16,), dense=True, refuse=refuse_whole)
def spmm_dense_quantized_w4(a, b):
    """Dense: codes of 4 bits for all weights, in C++."""
    return prepare(quantized_whole(a, QUANTIZED[W4A16]), b, library())
