"""Launch: what a kernel in CUDA C++ is started with, apart from starting it.

Whoever plans a product says so in these words alone, and needs no GPU for it: what is launched is then what
tests have looked at, down to the bytes of shared memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.cuda import nvrtc
from suite.native import LIVE

USUAL = 48 << 10  # bytes of shared memory that need not be asked for


@dataclass(frozen=True)
class Launch:
    """One launch of a function: blocks of the grid, threads of a block, bytes of shared memory, arguments.

    Arguments are tensors, whole numbers, and LIVE.
    """

    function: str
    grid: tuple[int, int, int]
    threads: int
    shared: int
    arguments: tuple[Any, ...]


def bind(source: Path, device: torch.device, *launches: Launch) -> Callable[[Tensor], None]:
    """A call that launches all of these in turn on torch's current stream, given the live operand."""
    import cupy  # pyright: ignore[reportMissingImports]  optional, and for GPUs

    module = nvrtc.load(source, nvrtc.closest(*torch.cuda.get_device_capability(device)))
    functions = [module.get_function(one.function) for one in launches]
    for function, one in zip(functions, launches, strict=True):
        if one.shared > USUAL:
            function.max_dynamic_shared_size_bytes = one.shared
    held = [tuple(passed(each) for each in one.arguments) for one in launches]

    def call(live: Tensor) -> None:
        at = live.data_ptr()
        with cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream):
            for function, one, arguments in zip(functions, launches, held, strict=True):
                given = tuple(at if each is LIVE else each for each in arguments)
                function(one.grid, (one.threads,), given, shared_mem=one.shared)

    return call


def passed(one: Any) -> Any:
    """A tensor goes by its address."""
    return one.data_ptr() if isinstance(one, Tensor) else one


def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count
