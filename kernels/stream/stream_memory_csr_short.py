"""Short compressed rows from memory: values and 16-bit columns are brought over and unpacked, row by row.

Bad at: densities above 1/16, from where on a bitmap of 16-bit weights takes fewer bytes.
"""

import torch

from suite.kernel import kernel
from suite.kernels.stream import rows, streaming
from suite.kernels.stream.media import Memory

MOST = 2**16  # columns that 16 bits count


def keep(band):
    return band.values, band.columns.to(torch.uint16), band.starts


FORM = streaming.unpacked(keep, lambda staged, dense: rows.unpack("short_columns", *staged, into=dense))


def refuse(case, device):
    reasons = streaming.refuse(case, device)
    if case["k"] > MOST:
        reasons.append(f"counts columns in 16 bits, to {MOST}; got {case['k']}")
    return reasons


@kernel(
    op="stream_memory", dtypes=("float32", "bfloat16"), live_order="columns", refuse=refuse, ids=("endor",)
)
def stream_memory_csr_short(a, b):
    """Compressed rows with 16-bit columns, from memory, unpacked."""
    return streaming.streamed(a, b, FORM, Memory)
