"""Groups of weights of 2 bits in C++ (codes.py): the fewest bytes of all.

Bad at: what spmm_quantized_w4 is; scales, a fifth of all that is read.
"""

from suite.case import QUANTIZED, W2A16
from suite.formats.quantized import quantized
from suite.kernel import kernel
from suite.kernels.spmm.codes import TERMS, library, prepare, refuse


@kernel(**TERMS, dtypes=(W2A16,), refuse=refuse)
def spmm_quantized_w2(a, b):
    """Groups of codes of 2 bits, in C++."""
    return prepare(quantized(a, QUANTIZED[W2A16]), b, library())
