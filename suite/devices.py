"""Devices: the one a command line names, or the first usable GPU, else the CPU; never another in silence."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from suite.cpu.device import Cpu
from suite.cuda import nvml
from suite.cuda.device import Cuda
from suite.device import Device
from suite.registry import Unusable

ALL, CPU, CUDA = "all", "cpu", "cuda"
SPELLINGS = "cpu, cuda, cuda:N or all"

Drivers = Callable[[], tuple[str, Sequence[str]] | None]


def find(asked: str | None, threads: int | None = None, drivers: Drivers = nvml.drivers) -> list[Device]:
    """The devices that `asked` names: one, or with "all" every usable GPU and the CPU.

    None asks for the first usable GPU, and where there is none, for the CPU. A GPU that its driver shows but
    torch cannot use is an error, unless the CPU was asked for.
    """
    if asked == CPU:
        return [Cpu(threads)]
    if asked is not None and asked not in (ALL, CUDA) and not named(asked):
        raise Unusable(f"--device {asked}: devices are {SPELLINGS}.")
    count = usable(asked, drivers())
    if asked == ALL:
        return [*(Cuda(index, threads) for index in range(count)), Cpu(threads)]
    if asked is None and not count:
        return [Cpu(threads)]
    index = int(asked.partition(":")[2]) if asked and asked != CUDA else 0
    if index >= count:
        raise Unusable(f"--device {asked}: {nothing(count)} `sparsemark devices` lists what is here.")
    return [Cuda(index, threads)]


def find_one(asked: str | None, threads: int | None = None) -> Device:
    """The device of a command that takes one."""
    if asked == ALL:
        raise Unusable("--device all: this takes one device; name it.")
    return find(asked, threads)[0]


def named(asked: str) -> bool:
    """Whether this is "cuda:N"."""
    kind, colon, index = asked.partition(":")
    return kind == CUDA and bool(colon) and index.isdigit()


def usable(asked: str | None, driver: tuple[str, Sequence[str]] | None) -> int:
    """How many GPUs torch can use. Raises where a driver shows some and torch can use none."""
    count = torch.cuda.device_count() if torch.version.cuda and torch.cuda.is_available() else 0
    if count:
        return count
    if torch.version.hip and torch.cuda.is_available() and asked != ALL:
        raise Unusable(
            "this torch is built for ROCm: AMD's GPUs are not supported yet. "
            "Add --device cpu to measure the CPU."
        )
    if driver and driver[1]:
        version, names = driver
        raise Unusable(
            f"the driver ({version}) shows {', '.join(names)}, but torch {torch.__version__} cannot use "
            f"{'it' if len(names) == 1 else 'them'}: {needs()}. Add --device cpu to measure the CPU instead."
        )
    return 0


def needs() -> str:
    """What this torch wants of a driver."""
    if torch.version.cuda is None:
        return "it is a build for CPUs; install one for CUDA"
    return f"it is built for CUDA {torch.version.cuda}, which wants a driver as new as that"


def nothing(count: int) -> str:
    """What there is instead of the device asked for."""
    if count == 1:
        return "there is one GPU here, cuda:0."
    return f"there are {count} GPUs here, from cuda:0." if count else "there is no NVIDIA GPU here."


def of(spec: str, threads: int | None) -> Device:
    """In a child: the device its parent measures on."""
    return Cpu(threads) if spec == CPU else Cuda(int(spec.partition(":")[2]), threads)


def kinds(threads: int | None = None) -> dict[str, Any]:
    """kind -> the first device of that kind here, for whoever takes kernels as they come."""
    try:
        return {each.kind: each for each in reversed(find(ALL, threads))}
    except Unusable:
        return {CPU: Cpu(threads)}
