"""Flushing: the memory behind what a kernel holds, and dropping it from every cache."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from numbers import Number
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

Range = tuple[int, int]  # address, bytes

NOTHING = (Number, str, bytes, Enum, np.generic, torch.dtype, torch.device, torch.Size, type(None))

PARTS = {
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_coo: ("_indices", "_values"),
}

SCIPY_ARRAYS = ("data", "indices", "indptr", "row", "col", "offsets")


def ranges(held: Any) -> list[Range]:
    """The memory of all tensors and arrays in whatever is held, each once."""
    return [(start, size) for start, size in dict.fromkeys(walk(held)) if size > 0]


def walk(held: Any) -> Iterator[Range]:
    """One thing's memory, or that of what it is made of."""
    if isinstance(held, Tensor):
        yield from of_tensor(held)
    elif isinstance(held, np.ndarray):
        yield of_array(held)
    elif scipy.sparse.issparse(held):
        yield from walk([getattr(held, name, None) for name in SCIPY_ARRAYS])
    elif hasattr(held, "address") and hasattr(held, "nbytes"):
        yield int(held.address), int(held.nbytes)
    elif isinstance(held, Mapping):
        yield from walk(list(held.values()))
    elif dataclasses.is_dataclass(held) and not isinstance(held, type):
        yield from walk([getattr(held, field.name) for field in dataclasses.fields(held)])
    elif isinstance(held, Iterable) and not isinstance(held, NOTHING):
        for one in held:
            yield from walk(one)
    elif not isinstance(held, NOTHING):
        raise TypeError(
            f"a {type(held).__name__} cannot be flushed. Hold tensors, NumPy or SciPy arrays, "
            "or give it `address` and `nbytes`."
        )


def of_tensor(tensor: Tensor) -> Iterator[Range]:
    """A tensor's memory; of a sparse or composed one, that of its parts. A view's is what it spans."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten:
        names, _ = flatten()
        yield from walk([getattr(tensor, name) for name in names])
    elif tensor.layout in PARTS:
        yield from walk([getattr(tensor, name)() for name in PARTS[tensor.layout]])
    elif tensor.device.type != "cpu":
        return
    elif tensor.layout == torch._mkldnn:  # pyright: ignore[reportAttributeAccessIssue]
        yield torch.ops.mkldnn.data_ptr(tensor), torch.ops.mkldnn._nbytes(tensor)
    else:
        pairs = zip(tensor.shape, tensor.stride(), strict=True)
        spans = sum((size - 1) * stride for size, stride in pairs) + 1 if tensor.numel() else 0
        yield tensor.data_ptr(), spans * tensor.element_size()


def of_array(array: np.ndarray) -> Range:
    """What an array spans; strides may be negative."""
    if not array.size:
        return 0, 0
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = sum(step for step in steps if step < 0)
    high = sum(step for step in steps if step > 0)
    return array.ctypes.data + low, high - low + array.itemsize


class Evictor:
    """Pushes everything out by writing and reading twice the last level; for where lines cannot be named."""

    def __init__(self, last_level: int) -> None:
        self.buffer = torch.zeros(2 * last_level // 8, dtype=torch.int64)

    def __call__(self) -> None:
        self.buffer.add_(1)
        self.buffer.sum()
