"""Held: the memory behind what a kernel holds, whatever library's buffers it is made of."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from numbers import Number
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

Range = tuple[int, int, str]  # address, bytes, kind of device

NOTHING = (Number, str, bytes, Enum, np.generic, torch.dtype, torch.device, torch.Size, type(None))

PARTS = {
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_coo: ("_indices", "_values"),
}

SCIPY_ARRAYS = ("data", "indices", "indptr", "row", "col", "offsets")


def ranges(held: Any, on: str = "cpu") -> list[tuple[int, int]]:
    """The memory of all tensors and arrays in whatever is held, each once, on one kind of device."""
    return [(start, size) for start, size, where in dict.fromkeys(walk(held)) if size > 0 and where == on]


def size(held: Any) -> int:
    """Bytes of all of it, wherever it is; a view counts as what it spans, memory held twice counts once."""
    return sum(size for _, size, _ in dict.fromkeys(walk(held)))


def walk(held: Any) -> Iterator[Range]:
    """One thing's memory, or that of what it is made of."""
    if isinstance(held, Tensor):
        yield from of_tensor(held)
    elif hasattr(held, "__cuda_array_interface__"):  # CuPy's
        yield int(held.data.ptr), int(held.nbytes), "cuda"
    elif isinstance(held, np.ndarray):
        yield of_array(held)
    elif scipy.sparse.issparse(held):
        yield from walk([getattr(held, name, None) for name in SCIPY_ARRAYS])
    elif hasattr(held, "address") and hasattr(held, "nbytes"):
        yield int(held.address), int(held.nbytes), "cpu"
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
    elif tensor.layout == torch._mkldnn:  # pyright: ignore[reportAttributeAccessIssue]
        yield torch.ops.mkldnn.data_ptr(tensor), torch.ops.mkldnn._nbytes(tensor), "cpu"
    else:
        pairs = zip(tensor.shape, tensor.stride(), strict=True)
        spans = sum((size - 1) * stride for size, stride in pairs) + 1 if tensor.numel() else 0
        yield tensor.data_ptr(), spans * tensor.element_size(), tensor.device.type


def of_array(array: np.ndarray) -> Range:
    """What an array spans; strides may be negative."""
    if not array.size:
        return 0, 0, "cpu"
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = sum(step for step in steps if step < 0)
    high = sum(step for step in steps if step > 0)
    return array.ctypes.data + low, high - low + array.itemsize, "cpu"
