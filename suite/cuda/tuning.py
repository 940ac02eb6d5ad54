"""Tuning: of several ways to launch a kernel, the quickest here; and what a launch asks of the device."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from suite.cuda import launch

WARM, TIMED = 2, 5  # calls before the clock starts, and calls under it
FEW = 4  # processors that are assumed where there is no device to ask

T = TypeVar("T")

_CHOSEN: dict[Hashable, int] = {}  # numbers of ways


@dataclass(frozen=True)
class Way:
    """One way to launch a kernel in Triton.

    tile: the sizes that are the kernel's own, in the order that its table says; warps of a program; stages:
    steps of a pipeline that are on their way at a time.
    """

    tile: tuple[int, ...]
    warps: int
    stages: int = 3  # Triton's own choice

    @property
    def options(self) -> dict[str, int]:
        """As a launch takes them."""
        return {"num_warps": self.warps, "num_stages": self.stages}

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.tile))}/{self.warps}/{self.stages}"


def processors(tensor: Tensor) -> int:
    """Multiprocessors of the device a tensor is on."""
    return launch.processors(tensor.device) if tensor.is_cuda else FEW


def quickest(key: Hashable, ways: Sequence[T], call: Callable[[T], object], on: Tensor) -> T:
    """The way whose call takes the least time, caches warm; asked once a process for each key.

    Every copy of a kernel must run in the same way, so what was chosen stays. A way that the device lacks
    registers or shared memory for is passed over. Off the device there is no time to tell: the first way.
    """
    if not on.is_cuda:
        return ways[0]
    key = (key, on.device)
    if key not in _CHOSEN:
        _CHOSEN[key] = min((took(call, way), at) for at, way in enumerate(ways))[1]
    return ways[_CHOSEN[key]]


def took(call: Callable[[T], object], way: T) -> float:
    """Milliseconds of several calls; infinite where the device cannot run it."""
    from triton.runtime.errors import OutOfResources

    try:
        for _ in range(WARM):
            call(way)
    except OutOfResources:
        return float("inf")
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(TIMED):
        call(way)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
