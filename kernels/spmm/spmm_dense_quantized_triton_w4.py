"""Dense in 4 bits on a GPU, in Triton: what codes_triton.py says, of all groups.

Bad at: many columns, for every 64 of which codes are made numbers again.
"""

from suite.case import QUANTIZED, W4A16
from suite.cuda.terms import in_triton, no_triton
from suite.formats.dense import too_large
from suite.formats.quantized import quantized_whole
from suite.kernel import kernel
from suite.kernels.spmm.spmm_quantized_triton_w4 import TERMS, too_many

codes = in_triton("suite.kernels.spmm.codes_triton")


def refuse(case, device):
    return [*no_triton(), *too_many(case), *too_large(case)]


@kernel(**TERMS, dtypes=(W4A16,), dense=True, refuse=refuse)
def spmm_dense_quantized_triton_w4(a, b):
    """Dense: codes of 4 bits for all weights, in Triton."""
    return codes.prepare(quantized_whole(a.to("cpu"), QUANTIZED[W4A16]), b)
