"""Dense in codes of 4 bits: torch's own packing and product of them, the answer in bfloat16.

Bad at: it allocates its answer; shapes that are not whole tiles of its packing, which it does not take.
"""

import torch

from suite.case import QUANTIZED, W4A16
from suite.formats.dense import too_large
from suite.formats.quantized import across, codes_of
from suite.kernel import Prepared, kernel
from suite.quantized import GROUP, reach

BITS = QUANTIZED[W4A16]
TILE = 16  # rows, of which its packing takes whole ones


def codes_and_scales(a):
    """Codes of all weights, int32[m, k] from 0 on, and scales [m, k / 32]."""
    (m, k), groups = a.shape, across(a.shape)
    codes, scales = codes_of(a.dense.view(-1, GROUP), BITS)
    return (codes + reach(BITS)).int().view(m, k), scales.bfloat16().view(m, groups)


def with_zeros(scales):
    """Scales and what is added to each weight, [groups, m, 2]: a code of 8 stands for 0 as it is."""
    return torch.stack((scales.t(), torch.zeros_like(scales.t())), 2).contiguous()


@kernel(
    op="spmm",
    on="cpu",
    dtypes=(W4A16,),
    dense=True,
    refuse=too_large,
    live_order="columns",
    divides={"m": TILE, "k": GROUP},
    ids=("gqsa",),
)
def spmm_dense_int4pack(a, b):
    """torch's int4 weights, a scale for each group."""
    codes, scales = codes_and_scales(a)
    weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = with_zeros(scales)

    def run(b):
        return torch.ops.aten._weight_int4pack_mm_for_cpu(b.t(), weight, GROUP, scales).t()

    note = {"scales": f"one a group of {GROUP}"}
    return Prepared(
        run, 2 * a.shape[0] * a.shape[1] * b.shape[1], weight.nbytes, scales.nbytes, (weight, scales), note
    )
