"""Streaming: a weight is kept in bands of rows, which each call brings over, unpacks and multiplies in turn.

A band is small enough to stay in a cache between its arrival and its last use. Nothing overlaps: a call takes
the sum of its stages, and the note says what they were in an untimed call. `multiply_ms` of the dense form is
what a call would take if everything were resident: a bound for all of them, and nobody's rival.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from suite import native
from suite.formats.dense import too_large
from suite.kernel import Prepared
from suite.kernels.stream import rows
from suite.sparse import Sparse

BAND = 2**22  # bytes of a band with its zeros in place
ALIGNED = 64  # bytes: where the tensors of a band begin
ROWS = 32  # bands are of multiples of it, which is a strip of any bitmap
FEW = 16  # columns


@dataclass(frozen=True)
class Ready:
    """What is done with a band that is in the staging buffer; FLOPs of that for a column; scratch memory."""

    unpack: Callable[[], None] | None
    multiply: Callable[[Tensor], Any]
    executed: int
    holds: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Form:
    """How a band of rows is kept.

    keep(band): its tensors, values first: what else there is, is metadata.
    ready(staged, dense, out): for the same tensors in the staging buffer, a buffer for the band with zeros in
    place, and the band of the answer, in that order.
    """

    keep: Callable[[Sparse], tuple[Tensor, ...]]
    ready: Callable[[tuple[Tensor, ...], Tensor, Tensor], Ready]
    order: str = "columns"  # of the answer, and of the other operand


def unpacked(
    keep: Callable[[Sparse], tuple[Tensor, ...]], unpack: Callable[[tuple[Tensor, ...], Tensor], Any]
) -> Form:
    """A form that is unpacked into the dense buffer and multiplied there."""
    return Form(keep, lambda staged, dense, out: multiplied(dense, out, unpack(staged, dense)))


def multiplied(weight: Tensor, out: Tensor, unpack: Callable[[], None] | None = None) -> Ready:
    """A dense product: by the C++ beside for a few columns, where libraries are slow, else by torch."""
    right, answer = weight.t(), out.t()
    if out.shape[1] <= FEW:
        return Ready(unpack, rows.multiply(weight, out), 2 * weight.numel())
    return Ready(unpack, lambda b: torch.mm(b.t(), right, out=answer), 2 * weight.numel())


def refuse(case, device):
    return [*native.missing(), *too_large(case)]


def streamed(a: Sparse, b: Tensor, form: Form, medium: Callable[[list[Tensor]], Any]) -> Prepared:
    """The kernel of a form and a medium."""
    (m, k), n = a.shape, b.shape[1]
    height = min(m, max(1, BAND // (ROWS * k * a.dtype.itemsize)) * ROWS)
    firsts = range(0, m, height)
    kept = [form.keep(band(a, first, min(m, first + height))) for first in firsts]
    there = medium([joined(one) for one in kept])
    dense = torch.empty(height, k, dtype=a.dtype)
    out = b.new_empty(m, n) if form.order == "rows" else b.new_empty(n, m).t()
    bands = [
        form.ready(parted(there.staging, one), dense[: min(m - first, height)], out[first : first + height])
        for first, one in zip(firsts, kept, strict=True)
    ]

    def run(b):
        for at, one in enumerate(bands):
            there.bring(at)
            if one.unpack:
                one.unpack()
            one.multiply(b)
        return out

    return Prepared(
        run,
        executed=sum(one.executed for one in bands) * n,
        values=sum(one[0].nbytes for one in kept),
        metadata=sum(other.nbytes for one in kept for other in one[1:]),
        holds=(*there.holds, *(one.holds for one in bands), dense, out),
        note=stages(there.bring, bands, b, dense),
        hidden=there.hidden,
    )


def band(a: Sparse, first: int, last: int) -> Sparse:
    """Rows first to last (exclusive)."""
    low, high = int(a.starts[first]), int(a.starts[last])
    starts = a.starts[first : last + 1] - low
    return Sparse(starts, a.columns[low:high], a.values[low:high], (last - first, a.shape[1]), a.pattern)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of tensors one after the other, each aligned."""
    made = torch.zeros(places(tensors)[-1], dtype=torch.uint8)
    for view, one in zip(parted(made, tensors), tensors, strict=True):
        view.copy_(one)
    return made


def parted(buffer: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Views of the buffer where such tensors are after they were joined."""
    starts = places(tensors)
    return tuple(
        buffer[start : start + one.nbytes].view(one.dtype).view(one.shape)
        for start, one in zip(starts, tensors, strict=False)
    )


def places(tensors: Sequence[Tensor]) -> list[int]:
    """Where each tensor begins, and the end."""
    starts = [0]
    for one in tensors:
        starts.append(starts[-1] + -(-one.nbytes // ALIGNED) * ALIGNED)
    return starts


def stages(bring: Callable[[int], None], bands: Sequence[Ready], b: Tensor, dense: Tensor) -> dict[str, str]:
    """Milliseconds of each stage of a call; and what unpacking writes a second, beside what copying does."""
    transfer = unpack = multiply = copy = 0.0
    other = torch.empty_like(dense)
    for at, one in enumerate(bands):
        transfer += seconds(lambda at=at: bring(at))
        if one.unpack:
            unpack += seconds(one.unpack)
        multiply += seconds(lambda one=one: one.multiply(b))
        copy += seconds(lambda: other.copy_(dense))
    said = {"transfer_ms": transfer * 1e3, "unpack_ms": unpack * 1e3, "multiply_ms": multiply * 1e3}
    if unpack:
        written = len(bands) * dense.nbytes * 1e-9
        said |= {"unpack_gbs": written / unpack, "copy_gbs": written / copy}
    return {name: f"{value:.3g}" for name, value in said.items()}


def seconds(call: Callable[[], Any]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began
