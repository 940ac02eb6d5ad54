"""Media: where a weight is kept in parts between calls, and how a part is brought over into a buffer."""

import os
import tempfile
from functools import cache
from itertools import accumulate
from pathlib import Path

import torch

BLOCK = 4096  # bytes: what a disk is read in past the system's cache, and a buffer for that begins at
PAST = 64  # bytes behind a part, so that a whole register may be read from its last number

DIRECT = getattr(os, "O_DIRECT", None)
IN_MEMORY = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/self/mountinfo")


def room(size: int) -> torch.Tensor:
    """So many bytes, from the beginning of a block on."""
    made = torch.empty(size + BLOCK, dtype=torch.uint8)
    first = -made.data_ptr() % BLOCK
    return made[first : first + size]


def blocks(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


class Memory:
    """Ordinary memory: a part is copied from there. Whether it is in a cache is for who flushes `holds`."""

    def __init__(self, parts: list[torch.Tensor]) -> None:
        self.parts = parts
        self.staging = room(max(len(one) for one in parts) + PAST)
        self.holds = (*parts, self.staging)
        self.hidden = False

    def bring(self, part: int) -> None:
        """Fill the staging buffer with a part."""
        kept = self.parts[part]
        self.staging[: len(kept)].copy_(kept)


class Disk:
    """A file that has no name, so that nothing is left of it however the process ends.

    It is read past the system's cache (O_DIRECT), for what is found there was not read from a disk. What the
    disk keeps in memory of its own, or the host of a virtual one in its, cannot be told from here.
    """

    def __init__(self, parts: list[torch.Tensor]) -> None:
        sizes = [blocks(len(one)) for one in parts]
        self.starts = [0, *accumulate(sizes)]
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the weight is wanted
        for start, one in zip(self.starts, parts, strict=False):
            self.file.seek(start)
            self.file.write(one.numpy())
        self.file.truncate(self.starts[-1])
        self.file.flush()
        os.fsync(self.file.fileno())
        direct(self.file.fileno())
        self.staging = room(max(sizes) + PAST)
        self.windows = [memoryview(self.staging.numpy())[:size] for size in sizes]
        self.holds = (self.staging,)
        self.hidden = True  # the file

    def bring(self, part: int) -> None:
        """Fill the staging buffer with a part."""
        window = self.windows[part]
        if os.preadv(self.file.fileno(), [window], self.starts[part]) != len(window):
            raise OSError(f"part {part} of the weight was not read whole")


def direct(descriptor: int) -> None:
    """Let an open file be read past the system's cache from now on."""
    import fcntl  # Windows has none, nor O_DIRECT: what asks for a disk is refused there before

    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | DIRECT)


def no_disk() -> list[str]:
    """Why temporary files are not on a disk that can be read past the system's cache; empty if they are."""
    return list(_no_disk(tempfile.gettempdir()))


@cache
def _no_disk(folder: str) -> tuple[str, ...]:
    remedy = "set TMPDIR to a folder on a disk"
    if DIRECT is None:
        return ("needs to read past the system's cache as Linux does (O_DIRECT)",)
    if (kind := filesystem(folder)) in IN_MEMORY:
        return (f"needs a disk, and temporary files are in memory here ({kind}): {remedy}",)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(bytes(BLOCK))
            direct(probe.fileno())
            os.preadv(probe.fileno(), [memoryview(room(BLOCK).numpy())], 0)
    except OSError as failed:
        return (
            f"needs to read past the system's cache, which temporary files do not allow ({failed}): {remedy}",
        )
    return ()


def filesystem(folder: str) -> str:
    """The type of the file system a folder is in, as the system lists its mounts; empty if it does not."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    return next((one[one.index("-") + 1] for one in mounts if one[2] == number), "")
