"""A plug-in of kernels that misbehave, each in its own way; `outcomes.py` says what becomes of each.

Loaded by `--plugin`, never imported by a test: the registry of the tests' own process stays as it is.
"""

import ctypes
import os
import sys
import threading
import time

import numpy as np
import torch

from sparsemark import Prepared, kernel


def honest(a, b):
    return torch.from_numpy(a.scipy() @ b.numpy())


@kernel(op="spmm")
def rogue_none(a, b):
    """Well behaved: what the others pretend to be."""
    return lambda b: honest(a, b)


@kernel(op="spmm")
def rogue_segfault(a, b):
    """Writes to address zero."""
    return lambda b: ctypes.memset(0, 1, 1)


@kernel(op="spmm")
def rogue_hang(a, b):
    """Never returns."""

    def run(b):
        while True:
            time.sleep(1)

    return run


@kernel(op="spmm")
def rogue_hang_in_prepare(a, b):
    """Never even starts."""
    threading.Event().wait()


@kernel(op="spmm")
def rogue_terabyte(a, b):
    """Allocates 1 TB."""
    return lambda b: torch.ones(2**38)


@kernel(op="spmm")
def rogue_terabyte_numpy(a, b):
    """Allocates 1 TB elsewhere."""
    return lambda b: np.ones(2**37)


@kernel(op="spmm")
def rogue_garbage(a, b):
    """Prints, on every stream there is."""

    def run(b):
        print("}{ garbage \x00")
        sys.stderr.write("garbage\n" * 100)
        os.write(1, b"\xff\xfe" * 1000)
        return honest(a, b)

    return run


@kernel(op="spmm")
def rogue_wrong(a, b):
    """Off by a thousandth."""
    return lambda b: honest(a, b) + 1e-3


@kernel(op="spmm")
def rogue_zero(a, b):
    """The fastest answer there is."""
    return lambda b: torch.zeros(a.shape[0], b.shape[1])


@kernel(op="spmm")
def rogue_nan(a, b):
    """Not a number."""
    return lambda b: honest(a, b) * torch.nan


@kernel(op="spmm")
def rogue_shape(a, b):
    """Transposed."""
    return lambda b: honest(a, b).t()


@kernel(op="spmm")
def rogue_cached(a, b):
    """Keeps the answer it gave first."""
    kept = {}
    return lambda b: kept.setdefault("answer", honest(a, b)).clone()


@kernel(op="spmm")
def rogue_prepared_answer(a, b):
    """Works the answer out in prepare."""
    answer = honest(a, b)
    return lambda b: answer.clone()


@kernel(op="spmm")
def rogue_lazy(a, b):
    """Writes its answer once and then never again."""
    out, written = torch.empty(a.shape[0], b.shape[1]), []

    def run(b):
        if not written:
            out.copy_(honest(a, b))
            written.append(True)
        return out

    return run


@kernel(op="spmm")
def rogue_clock(a, b):
    """Stops every clock that others might time it by."""

    def run(b):
        time.perf_counter = lambda: 0.0
        torch.cuda.Event.elapsed_time = lambda *events: 0.0
        return honest(a, b)

    return run


@kernel(op="spmm")
def rogue_exit(a, b):
    """Leaves politely."""
    return lambda b: sys.exit(0)


@kernel(op="spmm")
def rogue_exit_hard(a, b):
    """Leaves at once, saying all is well."""
    return lambda b: os._exit(0)


@kernel(op="spmm")
def rogue_raises(a, b):
    """Has a bug."""
    return lambda b: 1 / 0


@kernel(op="spmm")
def rogue_boast(a, b):
    """Claims half the work."""
    return Prepared(lambda b: honest(a, b), executed=a.nonzeros * b.shape[1])


@kernel(op="spmm")
def rogue_picky(a, b):
    """Returns nothing that can be called."""
    return 42


def confused(case, device):
    raise KeyError("terms that fail")


@kernel(op="spmm", refuse=confused)
def rogue_terms(a, b):
    """Does not know its own terms."""
    return lambda b: honest(a, b)


@kernel(op="spmm", isa=("quantum",))
def rogue_refused(a, b):
    """Wants what no machine has."""
    raise AssertionError("a refused kernel was prepared")


@kernel(op="spmm")
def rogue_pointer_cache(a, b):
    """Keeps the answer it gave for this memory."""
    kept = {}
    return lambda b: kept.setdefault(b.data_ptr(), honest(a, b)).clone()


@kernel(op="spmm")
def rogue_vandal_live(a, b):
    """Writes into the live operand."""

    def run(b):
        answer = honest(a, b)
        b.mul_(0)
        return answer

    return run


@kernel(op="spmm")
def rogue_vandal_fixed(a, b):
    """Writes into the operand that all kernels share."""

    def run(b):
        answer = honest(a, b)
        a.values.mul_(0)
        return answer

    return run


@kernel(op="spmm")
def rogue_claims_numpy(a, b):
    """States its work as no record can hold it."""
    return Prepared(lambda b: honest(a, b), executed=np.int64(2 * a.nonzeros * b.shape[1]))


@kernel(op="spmm")
def rogue_claims_raises(a, b):
    """Cannot say what it does."""
    return Prepared(lambda b: honest(a, b), executed=lambda: 1 // 0)
