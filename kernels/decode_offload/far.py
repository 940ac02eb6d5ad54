"""Far: where a cache lies between calls, and how pages of it are brought near.

Pages are numbered through: those of the first group of the first sequence, then of the second group. They
come with keys and values, or values alone: `most` at a time, unless a call wants more, for which room is
made. The buffers of a place are `held`, as they are now.
"""

import os
import tempfile
from ctypes import c_int64
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite import native
from suite.kernel import Refused
from suite.kernels.stream.media import blocks, direct, room


@cache
def library():
    return native.load(Path(__file__).with_name("reads.cpp"))


@cache
def queue() -> int:
    """Of reads that are under way. One for the process: to close one takes longer than to fill it."""
    found = native.bind(library().open_queue, returns=c_int64)()
    if found < 0:
        raise Refused(f"needs many reads of a disk at a time (io_setup): {os.strerror(-found)}")
    return found


class Disk:
    """A file without a name, read past the system's cache, as weights are that are streamed.

    A page's keys and its values lie side by side, so that both come with one read. Both begin at a block of
    the disk: what has fewer bytes costs one.
    """

    hidden = True  # the file

    def __init__(self, k: Tensor, v: Tensor, page: int, most: int) -> None:
        k, v = (one.reshape(-1, page * one.shape[-1]) for one in (k, v))
        self.page, self.dtype = k.shape[1], k.dtype
        self.size = blocks(self.page * k.itemsize)
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  open as long as the cache is wanted
        direct(self.file.fileno())
        most = max(most, 1)
        self.held = {"staging": room(most * 2 * self.size)}
        for first in range(0, len(k), most):
            self.write(first, k[first : first + most], v[first : first + most])
        live = (native.LIVE,) * 4
        self.read = native.bind(library().read_parts, queue(), self.file.fileno(), *live, returns=c_int64)

    def write(self, first: int, k: Tensor, v: Tensor) -> None:
        """Pages from this number on, by way of the staging buffer."""
        records = self.held["staging"][: len(k) * 2 * self.size].view(len(k), 2, self.size)
        for half, one in enumerate((k, v)):
            records[:, half, : self.page * one.itemsize] = one.contiguous().view(torch.uint8)
        window, at = memoryview(records.flatten().numpy()), first * 2 * self.size
        while len(window):  # a call writes no more than 2 GiB
            written = os.pwrite(self.file.fileno(), window, at)
            window, at = window[written:], at + written

    def bytes_of(self, count: int, keys: bool) -> int:
        """What so many pages take to bring."""
        return count * self.size * (1 + keys)

    def bring(self, pages: Tensor, keys: bool) -> tuple[Tensor | None, Tensor]:
        """Keys, if they are wanted, and values of these pages, [count, numbers of a page] each."""
        halves = 1 + keys
        size = halves * self.size
        if len(self.held["staging"]) < len(pages) * size:
            self.held["staging"] = room(len(pages) * size)
        staging = self.held["staging"]
        starts = pages * (2 * self.size) + (2 - halves) * self.size
        if wrong := self.read(starts, len(pages), size, staging):
            raise OSError(-wrong, f"pages of the cache were not read: {os.strerror(-wrong)}")
        came = staging[: len(pages) * size].view(len(pages), halves, self.size).view(self.dtype)
        came = came[..., : self.page]
        return (came[:, 0] if keys else None), came[:, -1]


class Host:
    """A GPU's host: the cache is in its memory, pinned; what is wanted is put side by side, then copied.

    Which pages those are, the host has to know: a call waits for the device.
    """

    hidden = False

    def __init__(self, k: Tensor, v: Tensor, page: int, most: int) -> None:
        self.cache = tuple(one.reshape(-1, page * one.shape[-1]).cpu().pin_memory() for one in (k, v))
        self.held: dict[str, Any] = {"cache": self.cache}
        self.reserve(k, most)

    def reserve(self, like: Tensor, most: int) -> None:
        """Room for so many pages, on both sides."""
        near = like.new_empty(2, most, self.cache[0].shape[1])
        self.held |= {"near": near, "pinned": torch.empty_like(near, device="cpu").pin_memory()}

    def bytes_of(self, count: int, keys: bool) -> int:
        """What so many pages take to bring."""
        return count * self.cache[0].shape[1] * self.cache[0].itemsize * (1 + keys)

    def bring(self, pages: Tensor, keys: bool) -> tuple[Tensor | None, Tensor]:
        """Keys, if they are wanted, and values of these pages, [count, numbers of a page] each."""
        count, places = len(pages), pages.cpu()
        if self.held["near"].shape[1] < count:
            self.reserve(self.held["near"], count)
        near, pinned = (self.held[one][:, :count] for one in ("near", "pinned"))
        for half in range(0 if keys else 1, 2):
            torch.index_select(self.cache[half], 0, places, out=pinned[half])
            near[half].copy_(pinned[half], non_blocking=True)
        return (near[0] if keys else None), near[1]
