"""Groups of weights of 4 bits in C++ (codes.py): one that is left out is neither read nor multiplied.

Bad at: many columns, which it takes eight at a time; patterns whose groups would be mostly zeros, which it
refuses; processors without bfloat16 dot products, for which codes become floats one by one.
"""

from suite.case import QUANTIZED, W4A16
from suite.formats.quantized import quantized
from suite.kernel import kernel
from suite.kernels.spmm.codes import TERMS, library, prepare, refuse


@kernel(**TERMS, dtypes=(W4A16,), refuse=refuse)
def spmm_quantized_w4(a, b):
    """Groups of codes of 4 bits, in C++."""
    return prepare(quantized(a, QUANTIZED[W4A16]), b, library())
