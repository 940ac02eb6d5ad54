"""Terms that kernels of several families have in common on a GPU."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from suite.case import FLOAT8, INT8, Case, multiplied_as
from suite.device import Device

FIRST = {"bfloat16": "sm_80", INT8: "sm_80", FLOAT8: "sm_89"}  # architectures that multiply such numbers


def too_old(case: Case, device: Device) -> list[str]:
    """The complaint about a chip that does not multiply numbers of a case's dtype."""
    dtype = multiplied_as(case.dtype)
    first = FIRST.get(dtype)
    if first is None or first in device.isa:
        return []
    return [f"needs {first} for {dtype}, which {device.name} lacks"]


def no_triton(*_: object) -> list[str]:
    """Why Triton cannot be had; empty if it can. It may be all that a kernel refuses."""
    if find_spec("triton"):
        return []
    return ["needs Triton, which comes with torch for CUDA on Linux: pip install triton"]


def in_triton(module: str) -> Any:
    """A module of what is written in Triton, by its name; None where there is no Triton, which is refused."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != "triton":
            raise
        return None
