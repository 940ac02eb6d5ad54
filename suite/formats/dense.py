"""Dense: the whole matrix with zeros in place, which some kernels multiply too: how large it may be."""

from suite.case import Case
from suite.device import Device

MOST = 2**30  # bytes of a dense form: beyond, the zeros alone would crowd a small machine's memory


def too_large(case: Case, _: Device | None = None) -> list[str]:
    """The complaint about a matrix whose dense form is over the limit."""
    size = case["m"] * case["k"] * case.torch_dtype.itemsize
    if size <= MOST:
        return []
    return [f"needs the dense form, which takes {gib(size)}; the limit is {gib(MOST)}"]


def gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
