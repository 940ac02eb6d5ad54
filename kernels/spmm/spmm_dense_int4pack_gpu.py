"""Dense in codes of 4 bits on a GPU: torch's own packing, and its product on tensor cores, in bfloat16.

What torch calls tinygemm. It takes two codes a byte, the first of them in the upper half. Bad at: many
columns, for every 16 of which it reads and unpacks the weight again; it allocates its answer; sizes that are
not whole tiles of its packing, which it does not take.
"""

import torch

from suite.case import W4A16
from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_int4pack import codes_and_scales, with_zeros
from suite.quantized import GROUP

TOKENS, ROWS, DEEP = 16, 8, 16  # of a tile
TILES = (8, 4, 2)  # along a row that are packed together; of eight a lane loads 16 bytes at once


@kernel(
    op="spmm",
    on="cuda",
    dtypes=(W4A16,),
    isa=("sm_80",),
    dense=True,
    refuse=too_large,
    live_order="columns",
    divides={"m": ROWS, "k": GROUP},
    ids=("gqsa",),
)
def spmm_dense_int4pack_gpu(a, b):
    """torch's int4 weights on tensor cores, a scale for each group."""
    (m, k), n = a.shape, b.shape[1]
    codes, scales = codes_and_scales(a.to("cpu"))
    pairs = (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8)
    tiles = next(one for one in TILES if k % (one * DEEP) == 0)
    weight = torch.ops.aten._convert_weight_to_int4pack(pairs.to(b.device), tiles)
    scales = with_zeros(scales).to(b.device)

    def run(b):
        return torch.ops.aten._weight_int4pack_mm(b.t(), weight, GROUP, scales).t()

    note = {"scales": f"one a group of {GROUP}", "algorithm": f"{tiles} tiles"}
    executed = 2 * m * k * whole(n, TOKENS)
    return Prepared(run, executed, weight.nbytes, scales.nbytes, (weight, scales), note)
