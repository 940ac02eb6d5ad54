"""Kept pages on a GPU: flash decoding over the pages that each head keeps, in Triton. See pages_triton.py.

Bad at: heads of one group that keep different pages, for which all of them are multiplied; pages of single
tokens, which the listing of a selection goes through one program a group; float32, without tensor cores.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.kernel import kernel

pages = in_triton("suite.kernels.decode.pages_triton")

DTYPES = ("float32", "bfloat16", "float16")
ISA = ("sm_80",)
MOST = 256  # numbers of a head
HEADS = 32  # of a group, a bit each


def refuse(case, device):
    reasons = no_triton()
    if case["d"] > MOST:
        reasons.append(f"needs heads of at most {MOST} numbers, got d={case['d']}")
    if case["h"] > HEADS * case["g"]:
        reasons.append(f"needs groups of at most {HEADS} heads, got h={case['h']} by g={case['g']}")
    return reasons


@kernel(op="decode", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def decode_gather_triton(a, k, v, q):
    """Flash decoding over the pages that heads keep, in Triton."""
    return pages.prepare(a, k, v, q)
