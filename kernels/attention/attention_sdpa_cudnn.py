"""Dense on a GPU: torch's attention, all blocks, by cuDNN. Bad at: every sparsity, that is the point.

torch has three such routines and picks one by rules of its own; each is a rival here, and what it does not
take it says itself. They allocate their answer.
"""

import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from suite.kernel import Prepared, Refused, kernel

HALVES = ("bfloat16", "float16")
ISA = ("sm_80",)
ASKED = {
    SDPBackend.CUDNN_ATTENTION: "can_use_cudnn_attention",
    SDPBackend.FLASH_ATTENTION: "can_use_flash_attention",
    SDPBackend.EFFICIENT_ATTENTION: "can_use_efficient_attention",
}


def laid(q, k, v, apart):
    """[batch, heads, n, d]. Apart: heads that share keys are a batch, for a routine that knows of none."""
    if not apart:
        return q[None], k[None], v[None]
    many = len(q) // len(k)
    return q.unflatten(0, (-1, many)), *(one[:, None].expand(-1, many, -1, -1) for one in (k, v))


def objections(routine, operands, causal, shared):
    """What torch says against a routine for these operands; empty if it takes them."""
    asked = torch.backends.cuda.SDPAParams(*operands, None, 0.0, causal, shared)
    with warnings.catch_warnings(record=True) as said, sdpa_kernel(routine):
        warnings.simplefilter("always")
        if getattr(torch.backends.cuda, ASKED[routine])(asked, True):
            return []
    told = [str(one.message).partition(" (Triggered internally")[0] for one in said]
    return told or ["torch does not take it, and does not say why"]


def prepare(routine, q, k, v, causal):
    """Attention of q to all of k and v by one of torch's routines."""
    apart = len(q) != len(k) and routine == SDPBackend.EFFICIENT_ATTENTION
    shared = len(q) != len(k) and not apart
    if told := objections(routine, laid(q, k, v, apart), causal, shared):
        raise Refused(" ".join(told))

    def run(q, k, v):
        with sdpa_kernel(routine):
            return torch.nn.functional.scaled_dot_product_attention(
                *laid(q, k, v, apart), is_causal=causal, enable_gqa=shared
            ).flatten(0, 1)

    return Prepared(run, values=0, metadata=0)


@kernel(op="attention", on="cuda", dtypes=HALVES, isa=ISA, dense=True)
def attention_sdpa_cudnn(a, q, k, v):
    """torch's scaled_dot_product_attention by cuDNN."""
    return prepare(SDPBackend.CUDNN_ATTENTION, q, k, v, causal=False)
