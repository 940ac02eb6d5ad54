"""Dense: a 1x1 convolution, `b` as an image of one row of n pixels whose channels run fastest.

The weight is reordered by oneDNN before the clock starts, as in a frozen model; an image whose pixels run
fastest, or a weight as it comes, is slower. To the library it is the product of the reordered linear layer,
so it runs at the full extent alone. Bad at: one pixel, which is a vector and not an image; it allocates its
answer.
"""

import torch

from suite.case import multiplied_as
from suite.formats.dense import too_large
from suite.kernel import Buffer, Prepared, kernel


def refuse(case, device):
    reasons = too_large(case)
    mkldnn = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(mkldnn, "_reorder_convolution_weight"):
        return [*reasons, "needs a torch built with oneDNN; this one is not"]
    if multiplied_as(case.dtype) == "bfloat16" and not mkldnn._is_mkldnn_bf16_supported():
        reasons.append("needs a CPU on which oneDNN computes bfloat16 (avx512bw, or avx_ne_convert)")
    if case.dtype == "float16" and not mkldnn._is_mkldnn_fp16_supported():
        reasons.append("needs a CPU on which oneDNN computes float16 (avx512_fp16, or avx_ne_convert)")
    if case["n"] == 1:
        reasons.append("needs n of 2 at least: one pixel is no image")
    return reasons


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=refuse,
    live_order="columns",
    ids=("fast-sparse-convnets",),
    extents=("full",),
)
def spmm_dense_conv(a, b):
    """oneDNN's 1x1 convolution, channels last, weight reordered."""
    (m, k), n = a.shape, b.shape[1]
    once = ([0, 0], [1, 1], [1, 1], 1)  # no padding, every pixel, no gaps, one group
    weight = a.dense.view(m, k, 1, 1)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *once, [1, k, 1, n])
    size = torch.ops.mkldnn._nbytes(packed)

    def run(b):
        image = b.view(1, k, 1, n)
        return torch.ops.mkldnn._convolution_pointwise(image, packed, None, *once, "none", [], "").view(m, n)

    held = Buffer(torch.ops.mkldnn.data_ptr(packed), size)
    values = a.dense.nbytes
    return Prepared(run, 2 * a.dense.numel() * n, values, size - values, (held,))
