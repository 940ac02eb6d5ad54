"""Groups of quantized weights in C++: codes of 4 or 2 bits, made bfloat16 in registers, for the groups kept.

A group that is left out is neither read nor multiplied. The idea is that of GQSA (Zeng et al., arXiv
2412.17560): with few columns a product waits for its weights, so half of all groups at 4 bits should take as
long as all of them at 2. Threads take rows of as many kept groups.

Bad at: many columns, which it takes eight at a time; patterns whose groups would be mostly zeros, which it
refuses; processors without bfloat16 dot products, for which codes become floats one by one.
"""

from ctypes import c_int
from functools import cache
from pathlib import Path

import torch

from suite import native
from suite.case import QUANTIZED, W2A16, W4A16
from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.formats.quantized import WORD, across, hollow, quantized, quantized_whole
from suite.kernel import Prepared, kernel
from suite.quantized import GROUP


def refuse(case, device):
    return [*native.missing(), *hollow(case)]


def refuse_whole(case, device):
    return [*native.missing(), *too_large(case)]


@cache
def library():
    return native.load(Path(__file__).with_suffix(".cpp"))


def prepare(held, b, library):
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


TERMS = {"op": "spmm", "on": "cpu", "live_order": "columns", "ids": ("gqsa",)}


@kernel(**TERMS, dtypes=(W4A16,), refuse=refuse)
def spmm_quantized_w4(a, b):
    """Groups of codes of 4 bits, in C++."""
    return prepare(quantized(a, QUANTIZED[W4A16]), b, library())


@kernel(**TERMS, dtypes=(W2A16,), refuse=refuse)
def spmm_quantized_w2(a, b):
    """Groups of codes of 2 bits, in C++."""
    return prepare(quantized(a, QUANTIZED[W2A16]), b, library())


@kernel(**TERMS, dtypes=(W4A16,), dense=True, refuse=refuse_whole)
def spmm_dense_quantized_w4(a, b):
    """Dense: codes of 4 bits for all weights, in C++."""
    return prepare(quantized_whole(a, QUANTIZED[W4A16]), b, library())


@kernel(**TERMS, dtypes=(W2A16,), dense=True, refuse=refuse_whole)
def spmm_dense_quantized_w2(a, b):
    """Dense: codes of 2 bits for all weights, in C++."""
    return prepare(quantized_whole(a, QUANTIZED[W2A16]), b, library())
