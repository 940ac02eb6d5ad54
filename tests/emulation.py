"""Emulation: kernels in CUDA C++ compiled for the host and run there, block after block, under watch.

`emulated/cuda_on_host.h` says what it catches. It knows nothing of time, nor of what two blocks do to each
other.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from suite.cache import folder
from suite.cuda import launch, nvrtc

HERE = Path(__file__).with_name("emulated")
DEVICE = Path(nvrtc.__file__).parent
FLAGS = (
    *("-std=c++20", "-O1", "-shared", "-fPIC", "-x", "c++", "-w", "-U_FORTIFY_SOURCE"),
    *("-fsanitize=undefined", "-fno-sanitize=vptr", "-fsanitize-undefined-trap-on-error"),
)
ARGUMENTS = 16
SHARED = 99 << 10  # bytes a block can have on the least of the chips: sm_89
MORE = 227 << 10  # and on sm_90, where a kernel is for it alone


class Failed(AssertionError):
    """What an emulated kernel did wrong."""


class Report(ctypes.Structure):
    """The header's struct of this name."""

    _fields_ = [("flops", ctypes.c_longlong), ("said", ctypes.c_char * 512)]


def unavailable() -> list[str]:
    """Why nothing can be emulated here; empty if it can."""
    there = sys.platform.startswith("linux") and shutil.which("g++")
    return [] if there else ["needs g++ on Linux to emulate a GPU"]


@cache
def library(source: Path) -> ctypes.CDLL:
    """A kernel's source for the host; includes of CUDA's own are empty."""
    inputs = b"".join(one.read_bytes() for one in (*nvrtc.parts(source), *sorted(HERE.iterdir())))
    digest = hashlib.sha256(repr((FLAGS, platform.machine())).encode() + inputs).hexdigest()[:16]
    made = folder("emulated") / f"{source.stem}-{digest}.so"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        new = made.with_suffix(f".{os.getpid()}.new")
        where = (f"-I{HERE}", f"-I{DEVICE}", "-include", str(HERE / "cuda_on_host.h"))
        done = subprocess.run(
            ["g++", *FLAGS, *where, str(source), "-o", str(new)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"{source.name} does not compile for the host:\n{done.stderr[-3000:]}")
        new.replace(made)
    loaded = ctypes.CDLL(str(made))
    loaded.guarded.restype = ctypes.c_void_p
    loaded.guarded.argtypes = [ctypes.c_size_t]
    loaded.unguard.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    loaded.trespassed.argtypes = [ctypes.c_void_p]
    loaded.trespassed.restype = ctypes.c_size_t
    return loaded


class Emulator:
    """Stands in for `launch.bind`.

    order: of the threads, first ones first (0), last ones first (1), or as a seed has it. change: what is
    compiled instead of a source. flops: what tensor cores did in all.
    """

    def __init__(self, order: int = 0, change: Callable[[Path], Path] = lambda source: source) -> None:
        self.order, self.change, self.flops, self.shared = order, change, 0, SHARED
        self.launches: tuple[launch.Launch, ...] = ()

    def bind(self, source: Path, device: torch.device, *launches: launch.Launch) -> Callable[[Tensor], None]:
        """A call that runs these launches on the host."""
        source = self.change(source)
        loaded, parts = library(source), {part.name for part in nvrtc.parts(source)}
        self.shared = MORE if "warpgroup.cuh" in parts else SHARED
        self.launches = launches

        def call(live: Tensor) -> None:
            with guarded(loaded, tensors(launches, live)) as at:
                for one in launches:
                    passed = [at[id(each)] if isinstance(each, Tensor) else each for each in given(one, live)]
                    self.run(loaded, one, passed)

        return call

    def run(self, loaded: ctypes.CDLL, one: launch.Launch, arguments: list[int]) -> None:
        """One launch; raises what went wrong in it."""
        assert len(arguments) <= ARGUMENTS and one.shared <= self.shared and one.threads <= 1024
        assert one.grid[0] < 2**31 and max(one.grid[1:]) < 2**16, "no GPU takes such a grid"
        padded = (ctypes.c_longlong * ARGUMENTS)(*arguments, *[0] * (ARGUMENTS - len(arguments)))
        report = loaded.guarded(ctypes.sizeof(Report))
        try:
            told = Report.from_address(report)
            status = loaded.emulate(
                ctypes.cast(loaded[one.function], ctypes.c_void_p),
                *(padded, (ctypes.c_uint * 3)(*one.grid), ctypes.c_uint(one.threads)),
                *(ctypes.c_size_t(one.shared), ctypes.c_uint(self.order), ctypes.c_void_p(report)),
            )
            if status:
                raise Failed(f"{one.function}: {told.said.decode() or f'ended with status {status}'}")
            self.flops += told.flops
        finally:
            loaded.unguard(report, ctypes.sizeof(Report))


def given(one: launch.Launch, live: Tensor) -> list[Tensor | int]:
    """A launch's arguments with the live operand in its place."""
    return [live if each is launch.LIVE else each for each in one.arguments]


def tensors(launches: tuple[launch.Launch, ...], live: Tensor) -> dict[int, Tensor]:
    return {id(each): each for one in launches for each in given(one, live) if isinstance(each, Tensor)}


@contextmanager
def guarded(loaded: ctypes.CDLL, those: dict[int, Tensor]):
    """The tensors where a byte too far is a fault; afterwards they are as the kernels left them."""
    at = {key: loaded.guarded(max(1, one.nbytes)) for key, one in those.items()}
    try:
        for key, one in those.items():
            assert one.is_contiguous()
            ctypes.memmove(at[key], one.data_ptr(), one.nbytes)
        yield at
        for key, one in those.items():
            if far := loaded.trespassed(at[key]):
                raise Failed(f"somebody wrote {far} bytes before a buffer of {one.nbytes}")
            ctypes.memmove(one.data_ptr(), at[key], one.nbytes)
    finally:
        for key, one in those.items():
            loaded.unguard(at[key], max(1, one.nbytes))


class Host:
    """A device that kernels for GPUs run on by emulation."""

    kind, spec, key, name = "cuda", "cpu", "emulated", "an emulated GPU"
    isa = frozenset({"sm_80", "sm_90a"})
    memory = 2**30

    def place(self, operands):
        """Where they are."""
        return tuple(operands)
