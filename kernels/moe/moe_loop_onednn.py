"""The loop of `moe_loop_torch`, its products by oneDNN as a linear layer computes them.

Where torch.mm is MKL's and the processor is of another maker, this takes half the time. It allocates what
its products answer. Bad at: what the loop is bad at.
"""

import torch

from suite.kernel import kernel
from suite.kernels.moe import moe_loop_torch as loop


def refuse(case, device):
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return [] if there else ["needs a torch built with oneDNN; this one is not"]


def product(rows, weight, out):
    return torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")


@kernel(op="moe", on="cpu", dtypes=("float32",), refuse=refuse)
def moe_loop_onednn(route, up, down, x, logits):
    """A loop over the experts that have tokens, with oneDNN's products."""
    return loop.prepare(route, up, down, x, product)
