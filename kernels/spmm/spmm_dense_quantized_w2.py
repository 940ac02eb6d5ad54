"""Dense in 2 bits, in C++ (codes.py): as many bytes of codes as half of all groups at 4 bits.

Bad at: what spmm_dense_quantized_w4 is; codes of 2 bits cost as much to make numbers of.
"""

from suite.case import QUANTIZED, W2A16
from suite.formats.quantized import quantized_whole
from suite.kernel import kernel
from suite.kernels.spmm.codes import TERMS, library, prepare, refuse_whole


@kernel(**TERMS, dtypes=(W2A16,), dense=True, refuse=refuse_whole)
def spmm_dense_quantized_w2(a, b):
    """Dense: codes of 2 bits for all weights, in C++."""
    return prepare(quantized_whole(a, QUANTIZED[W2A16]), b, library())
