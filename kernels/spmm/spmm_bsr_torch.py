"""Block rows in torch: MKL's product of dense blocks, as large as the pattern's own where they are square.

Ragged sizes are padded; `b` is then copied into a padded buffer in each call. Bad at: patterns without
blocks, whose few nonzeros fill many of them. MKL takes square blocks only, so others are covered by 16 x 16.
"""

import warnings

import torch

from suite.formats.bsr import block_of, bsr, unfit
from suite.kernel import Prepared, kernel


def refuse(case, device):
    reasons = unfit(case, square=True)
    if not torch.backends.mkl.is_available():
        reasons.append("needs a torch built with MKL, which is what x86 Linux and Windows wheels are")
    return reasons


@kernel(op="spmm", on="cpu", dtypes=("float32",), refuse=refuse)
def spmm_bsr_torch(a, b):
    """torch BSR on MKL."""
    (m, k), n = a.shape, b.shape[1]
    height, width = block_of(a.pattern, square=True)
    made = bsr(a, height, width)
    rows, columns = made.padded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta
        held = torch.sparse_bsr_tensor(
            made.starts, made.columns, made.values, size=made.padded, check_invariants=False
        )
    out = b.new_empty(rows, n)
    wide = b.new_zeros(columns if columns > k else 0, n)

    def run(b):
        if columns > k:
            wide[:k] = b
            b = wide
        return torch.mm(held, b, out=out)[:m]

    return Prepared(
        run,
        executed=2 * made.values.numel() * n,
        values=made.value_bytes,
        metadata=made.metadata_bytes,
        holds=(made.starts, made.columns, made.values, wide, out),
        note={"algorithm": f"{height}x{width}", "indices": "int32"},
    )
