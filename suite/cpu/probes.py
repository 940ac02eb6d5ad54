"""Probes: the native part of the CPU device: windows of reading and arithmetic, the clock, and flushing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL, POINTER, c_double, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

from suite import native

SOURCE = Path(__file__).with_suffix(".cpp")

ARITHMETIC = {
    "float32": ("float32_window",),
    "float16": ("float16_window",),
    "bfloat16": ("bfloat16_window", "bfloat16_tiles"),
    "int8": ("int8_window", "int8_tiles"),
}

SIGNATURES = {
    "reserve": (c_void_p, c_int64),
    "release": (None, c_void_p),
    "fill": (None, c_void_p, c_int64, c_int),
    "read_window": (c_double, c_void_p, c_int64, c_int64, c_int),
    **{name: (c_double, c_int64, c_int) for names in ARITHMETIC.values() for name in names},
    "multiply_chain": (c_double, c_int64),
    "flush": (c_int64, POINTER(c_int64), POINTER(c_int64), c_int64, c_int, c_int),
}

GRAIN = 4096  # what a thread reads is a whole number of these

# A 64-bit multiplication takes three cycles on every x86 core these makers built since 2008. Additions will
# not do: recent cores fold chains of them.
MULTIPLY_CYCLES = 3
MULTIPLY_MAKERS = ("GenuineIntel", "AuthenticAMD", "HygonGenuine")
CHAIN, CHAINS = 16_000, 12


@cache
def load() -> tuple[CDLL | None, str]:
    """The compiled probes, or None and why there are none. Import torch first: then both share one OpenMP."""
    absent = native.missing()
    if absent:
        return None, absent[0]
    try:
        library = native.load(SOURCE)
    except (native.BuildFailed, OSError) as failed:
        return None, str(failed)
    for name, (returns, *takes) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library, ""


def arithmetic(library: CDLL, name: str, steps: int, threads: int) -> float:
    """Operations per second of one window; 0 where the CPU has no such instructions."""
    return getattr(library, name)(steps, threads)


@contextmanager
def buffer(library: CDLL, each: int, threads: int) -> Iterator[int]:
    """Memory for every thread to read `each` bytes of, written by the thread that will read it."""
    address = library.reserve(each * threads)
    if not address:
        raise MemoryError(f"no {each * threads:,} bytes for measuring bandwidth")
    try:
        library.fill(address, each, threads)
        yield address
    finally:
        library.release(address)


def clock_mhz(vendor: str | None) -> float | None:
    """The core's clock right now, from a chain of multiplications; None where their length is unknown."""
    library, _ = load()
    if library is None or vendor not in MULTIPLY_MAKERS:
        return None
    quickest = min(library.multiply_chain(CHAIN) for _ in range(CHAINS))  # the others were interrupted
    return MULTIPLY_CYCLES * CHAIN / quickest / 1e6 if quickest > 0 else None


def flush(library: CDLL, ranges: Sequence[tuple[int, int]], optimised: bool, threads: int) -> int:
    """Drop (address, bytes) ranges from every cache; how many lines that was."""
    numbers = c_int64 * len(ranges)
    starts = numbers(*(start for start, _ in ranges))
    sizes = numbers(*(size for _, size in ranges))
    return library.flush(starts, sizes, len(ranges), 2 if optimised else 1, threads)
