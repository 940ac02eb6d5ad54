"""Bitmap in C++: a bit for each number of the cache and those that stay packed, spread near the registers.

A number of b bits takes density + 1/b of its dense size to read, and what is read is what decode costs. A
chunk of tokens is spread into memory that stays near: heads of a group share that work too.
The idea is that of Mustafar (arXiv 2505.22913).

Bad at: processors that cannot spread 16-bit numbers by a mask (AVX-512 VBMI2), where numbers go one by one;
many heads to a group, which are bound by multiplications; caches that the last level holds, where bytes are
cheap.
"""

from ctypes import byref
from pathlib import Path

import torch

from suite import native
from suite.formats.padded_bitmap import padded_bitmap
from suite.kernel import Prepared, kernel
from suite.kernels.decode.decode_gather import DTYPES, Plan, refuse, work

SOURCE = Path(__file__).with_suffix(".cpp")


def prepare(library, a, k, q):
    (n, h, d), (groups, there) = q.shape, k.shape[1:3]
    plan = Plan(n=n, h=h, groups=groups, there=there, d=d, threads=torch.get_num_threads())
    parts = work(plan, there, library)
    held, out = padded_bitmap(a), torch.empty_like(q)
    attend = native.bind(
        library[f"decode_{str(q.dtype).removeprefix('torch.')}"],
        *(byref(plan), held.bits, held.starts, held.values, native.LIVE, out),
    )

    def run(q):
        attend(q)
        return out

    return Prepared(
        run,
        executed=4 * n * h * there * d,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.bits, held.starts, held.values, parts, out),
    )


@kernel(op="decode_pruned", on="cpu", dtypes=DTYPES, refuse=refuse, ids=("mustafar",))
def decode_pruned_bitmap(a, k, v, q):
    """A padded bitmap, spread chunk by chunk, in C++."""
    return prepare(native.load(SOURCE), a, k, q)
