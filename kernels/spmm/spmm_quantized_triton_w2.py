"""Groups of weights of 2 bits on a GPU, in Triton: what codes_triton.py says.

Bad at: what spmm_quantized_triton_w4 is; scales, a fifth of all that is read.
"""

from suite.case import QUANTIZED, W2A16
from suite.cuda.terms import in_triton
from suite.formats.quantized import quantized
from suite.kernel import kernel
from suite.kernels.spmm.spmm_quantized_triton_w4 import TERMS, refuse

codes = in_triton("suite.kernels.spmm.codes_triton")


@kernel(**TERMS, dtypes=(W2A16,), refuse=refuse)
def spmm_quantized_triton_w2(a, b):
    """Groups of codes of 2 bits, in Triton."""
    return codes.prepare(quantized(a.to("cpu"), QUANTIZED[W2A16]), b)
