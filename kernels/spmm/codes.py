"""Codes in C++: groups of weights of 4 or 2 bits, made bfloat16 in registers, times a few columns.

The idea is that of GQSA (Zeng et al., arXiv 2412.17560): with few columns a product waits for its weights, so
half of all groups at 4 bits should take as long as all of them at 2. Threads take rows of as many groups.
"""

from ctypes import c_int
from functools import cache
from pathlib import Path

import torch

from suite import native
from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.formats.quantized import WORD, across, hollow
from suite.kernel import Prepared
from suite.quantized import GROUP

MOST = 2**16 * GROUP  # numbers of a row, whose groups are numbered in 16 bits
TERMS = {"op": "spmm", "on": "cpu", "live_order": "columns", "ids": ("gqsa",)}


def refuse(case, device):
    return [*native.missing(), *too_long(case), *hollow(case)]


def refuse_whole(case, device):
    return [*native.missing(), *too_long(case), *too_large(case)]


def too_long(case):
    return [f"takes at most {MOST} numbers in a row, got k={case['k']}"] if case["k"] > MOST else []


@cache
def library():
    return native.load(Path(__file__).with_suffix(".cpp"))


def prepare(held, b, library):
    """For groups in the form of suite/formats/quantized.py."""
    (m, k), n = held.shape, b.shape[1]
    threads, ragged = torch.get_num_threads(), k % GROUP > 0
    padded = torch.zeros(n, whole(k, GROUP), dtype=b.dtype) if ragged else torch.empty(0)
    groups = torch.arange(whole(across(held.shape), WORD) + WORD).to(torch.uint16).repeat(threads)
    out = torch.empty(m, n, dtype=b.dtype)
    multiply = native.bind(
        library[f"spmm_{held.bits}"],
        *(None if held.kept is None else held.kept, held.codes, held.scales, held.starts, native.LIVE, out),
        *(m, across(held.shape), n, whole(k, GROUP), groups, c_int(threads)),
    )

    def run(b):
        columns = b.t()
        if ragged:
            padded[:, :k] = columns
            columns = padded
        multiply(columns)
        return out

    return Prepared(
        run,
        executed=2 * GROUP * len(held.codes) * n,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.codes, held.scales, held.starts, held.kept, padded, groups, out),
        note={"algorithm": f"1x{GROUP}", "scales": f"one a group of {GROUP}"},
    )
