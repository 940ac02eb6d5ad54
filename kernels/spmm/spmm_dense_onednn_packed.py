"""Dense: a linear layer whose weight oneDNN has reordered for its own blocking, before the clock starts.

Bad at: float32 vectors, which it treats as narrow matrices; it allocates its answer, and the reordered form
is chosen for one batch size.
"""

import torch

from suite.case import multiplied_as
from suite.formats.dense import too_large
from suite.kernel import Buffer, Prepared, kernel


def refuse(case, device):
    reasons = too_large(case)
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return [*reasons, "needs a torch built with oneDNN; this one is not"]
    if multiplied_as(case.dtype) == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        reasons.append("needs a CPU on which oneDNN computes bfloat16 (avx512bw, or avx_ne_convert)")
    if case.dtype == "float16" and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
        reasons.append("needs a CPU on which oneDNN computes float16 (avx512_fp16, or avx_ne_convert)")
    return reasons


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=refuse,
    live_order="columns",
)
def spmm_dense_onednn_packed(a, b):
    """oneDNN's reordered product, as frozen models use it."""
    weight, n = a.dense, b.shape[1]
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, n)
    size = torch.ops.mkldnn._nbytes(packed)

    def run(b):
        return torch.ops.mkldnn._linear_pointwise(b.t(), packed, None, "none", [], "").t()

    held = Buffer(torch.ops.mkldnn.data_ptr(packed), size)
    return Prepared(run, 2 * weight.numel() * n, weight.nbytes, size - weight.nbytes, (held,))
