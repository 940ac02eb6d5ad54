"""FlashInfer: its terms, and the memory that its kernels want for what comes of parts of a context."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch

from suite.kernel import Refused

DTYPES = ("bfloat16", "float16")
ISA = ("sm_80",)
SIZES = (64, 128, 256)  # numbers of a head
WORKSPACE = 2**27  # bytes, as it recommends


def refuse(case, device):
    reasons = []
    if not find_spec("flashinfer"):
        reasons.append("needs flashinfer, which is not installed here: pip install flashinfer-python")
    if case["d"] not in SIZES:
        reasons.append(f"needs d to be one of {', '.join(map(str, SIZES))}, got {case['d']}")
    return reasons


@cache
def library():
    """It compiles what it runs when a kernel is first prepared."""
    try:
        return import_module("flashinfer")
    except (ImportError, OSError, RuntimeError) as failed:
        raise Refused(f"needs flashinfer, which does not load here: {failed}") from None


@cache
def workspace(device):
    """One for all of a device's kernels, which run one after the other."""
    return torch.zeros(WORKSPACE, dtype=torch.uint8, device=device)
