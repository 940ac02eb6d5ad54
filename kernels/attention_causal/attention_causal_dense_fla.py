"""Dense on a GPU: causal attention in Triton, as flash-linear-attention has it beside its linear kinds.

Tokens come first in its operands, heads after them: it copies what is laid out otherwise, within the call.
Its native sparse attention takes sixteen query heads or more to a head of keys, which no case here has.

Bad at: every sparsity.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from suite.kernel import Prepared, Refused, kernel

DTYPES = ("bfloat16", "float16")
ISA = ("sm_80",)
MOST = 256  # numbers of a head


def refuse(case, device):
    reasons = []
    if not find_spec("fla"):
        reasons.append("needs fla, which is not installed here: pip install flash-linear-attention[cuda]")
    if case["d"] > MOST:
        reasons.append(f"needs heads of at most {MOST} numbers, got d={case['d']}")
    return reasons


@cache
def attend():
    try:
        return import_module("fla.ops.attn").parallel_attn
    except (ImportError, OSError, AttributeError) as failed:
        raise Refused(f"needs fla, whose attention does not load here: {failed}") from None


@kernel(op="attention_causal", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, dense=True)
def attention_causal_dense_fla(a, q, k, v):
    """flash-linear-attention's parallel_attn: softmax attention in full."""
    call = attend()

    def run(q, k, v):
        return call(*(one.transpose(0, 1)[None] for one in (q, k, v)))[0].transpose(0, 1)

    return Prepared(run, values=0, metadata=0)
