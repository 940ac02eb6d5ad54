"""Rows: with their zeros again, out of packed values and what says where they stood; and their product."""

from ctypes import c_int
from functools import cache
from pathlib import Path

import torch

from suite import native


@cache
def library():
    return native.load(Path(__file__).with_suffix(".cpp"))


def unpack(how, *packed, into, made=None):
    """A call that fills the rows `into` by the function of that name, from where `packed` is at that time.

    The packed tensors are the values, then for `bits` 64-bit words and int64 starts of the rows; for `pairs`
    bytes of four places each; for `columns` and `short_columns` int32 or uint16 columns, and int32 starts.
    """
    function = (made or library())[f"{how}_{into.itemsize * 8}"]
    return native.bind(function, *packed, *into.shape, into, c_int(torch.get_num_threads()))


def multiply(weight, out, made=None):
    """A call that fills `out` with the rows times the `b` it is given; both are column by column."""
    function = (made or library())[f"multiply_{str(out.dtype).removeprefix('torch.')}"]
    after = (*weight.shape, out.shape[1], out, out.stride(1), c_int(torch.get_num_threads()))
    return native.bind(function, weight, native.LIVE, *after)
