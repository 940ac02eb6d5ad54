"""Dense in 2 bits on a GPU, in Triton: what codes_triton.py says, of all groups.

Bad at: what spmm_dense_quantized_triton_w4 is.
"""

from suite.case import QUANTIZED, W2A16
from suite.cuda.terms import in_triton
from suite.formats.quantized import quantized_whole
from suite.kernel import kernel
from suite.kernels.spmm.spmm_dense_quantized_triton_w4 import refuse
from suite.kernels.spmm.spmm_quantized_triton_w4 import TERMS

codes = in_triton("suite.kernels.spmm.codes_triton")


@kernel(**TERMS, dtypes=(W2A16,), dense=True, refuse=refuse)
def spmm_dense_quantized_triton_w2(a, b):
    """Dense: codes of 2 bits for all weights, in Triton."""
    return codes.prepare(quantized_whole(a.to("cpu"), QUANTIZED[W2A16]), b)
