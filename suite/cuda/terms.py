"""Terms that kernels of several families have in common on a GPU."""

from importlib.util import find_spec

from suite.case import Case
from suite.device import Device


def too_old(case: Case, device: Device) -> list[str]:
    """The complaint about a chip that does not multiply bfloat16."""
    if case.dtype != "bfloat16" or "sm_80" in device.isa:
        return []
    return [f"needs sm_80 for bfloat16, which {device.name} lacks"]


def no_triton() -> list[str]:
    """Why Triton cannot be had; empty if it can."""
    if find_spec("triton"):
        return []
    return ["needs Triton, which comes with torch for CUDA on Linux: pip install triton"]
