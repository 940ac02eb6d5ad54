"""Rows: with their zeros again, out of packed values and what says where they stood; and their product."""

import ctypes
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
    function.restype = None
    given = [
        *(ctypes.c_void_p(one.data_ptr()) for one in packed),
        *map(ctypes.c_int64, into.shape),
        ctypes.c_void_p(into.data_ptr()),
        ctypes.c_int(torch.get_num_threads()),
    ]
    return lambda: function(*given)


def multiply(weight, out, made=None):
    """A call that fills `out` with the rows times the `b` it is given; both are column by column."""
    function = (made or library())[f"multiply_{str(out.dtype).removeprefix('torch.')}"]
    function.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    after = [
        *map(number, (*weight.shape, out.shape[1])),
        pointer(out.data_ptr()),
        number(out.stride(1)),
        ctypes.c_int(torch.get_num_threads()),
    ]
    return lambda b: function(pointer(weight.data_ptr()), pointer(b.data_ptr()), *after)
