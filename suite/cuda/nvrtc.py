"""NVRTC: CUDA C++ beside a kernel, compiled without a driver and kept; CuPy loads it.

A cubin is made for one architecture. It goes by a hash of the source, of the headers beside it or from
HEADERS, the options and the compiler's version, so that it is made once, on whatever machine, and a changed
source is another.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from ctypes import CDLL, byref, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from suite import native
from suite.cache import folder as cache_folder
from suite.cache import keep

OPTIONS = ("--std=c++17",)
HEADERS = Path(__file__).parent  # what sources share
OWN = (90, 100, 103, 110, 120, 121)  # chips with instructions that no later one has: "sm_90a"
SAID = 12  # lines of the compiler's last words that an error repeats


class BuildFailed(RuntimeError):
    """A source that does not compile; says what the compiler said last."""


def missing() -> list[str]:
    """Why no CUDA C++ can be compiled and loaded here; empty if it can. Meant for a kernel's `refuse`."""
    reasons = uncompilable()
    if find_spec("cupy") is None:
        reasons.append("needs CuPy: pip install cupy-cuda12x or cupy-cuda13x, as torch.version.cuda says")
    return reasons


def uncompilable() -> list[str]:
    """Why no CUDA C++ can be compiled here; empty if it can."""
    if _library():
        return []
    return ["needs NVRTC: pip install nvidia-cuda-nvrtc (nvidia-cuda-nvrtc-cu12 for CUDA 12), or CUDA itself"]


def closest(major: int, minor: int) -> str:
    """The architecture of just such a chip, with the instructions that are its own: "sm_90a"."""
    number = 10 * major + minor
    return f"sm_{number}{'a' if number in OWN else ''}"


def load(source: Path, architecture: str, *options: str) -> Any:
    """A cupy.RawModule of a source, for this architecture ("sm_90a"); `get_function` has its kernels."""
    import cupy  # pyright: ignore[reportMissingImports]  optional, and for GPUs

    return cupy.RawModule(path=str(cubin(source, architecture, *options)))


def cubin(source: Path, architecture: str, *options: str) -> Path:
    """The compiled file, made now unless it is kept from before. Needs no GPU and no driver."""
    if reasons := uncompilable():
        raise BuildFailed(f"{source.name}: {'; '.join(reasons)}")
    flags = (*OPTIONS, f"--gpu-architecture={architecture}", *options)
    made = hashlib.sha256(repr((flags, version())).encode())
    for part in parts(source):
        made.update(b"\0" + part.read_bytes())
    kept = cache_folder("cuda") / f"{source.stem}-{architecture}-{made.hexdigest()[:16]}.cubin"
    if not kept.is_file():
        keep(kept, compiled(source, flags)[0])
    return kept


def compiled(source: Path, flags: Sequence[str]) -> tuple[bytes, str]:
    """What the compiler makes of a source and its headers, and what it says of that: mostly nothing."""
    nvrtc, program = library(), c_void_p()
    headers = [each for each in parts(source) if each != source]
    nvrtc.nvrtcCreateProgram(
        byref(program),
        source.read_bytes(),
        source.name.encode(),
        len(headers),
        strings(each.read_text() for each in headers),
        strings(each.name for each in headers),
    )
    try:
        given = [*flags, *(f"-I{each}" for each in includes())]
        failed = nvrtc.nvrtcCompileProgram(program, len(given), strings(given))
        said = "\n".join(told(program, "ProgramLog").decode().strip("\0\n").splitlines()[-SAID:])
        if failed:
            raise BuildFailed(f"{source.name} does not compile ({' '.join(flags)}):\n{said}")
        return told(program, "CUBIN"), said
    finally:
        nvrtc.nvrtcDestroyProgram(byref(program))


def told(program: c_void_p, what: str) -> bytes:
    """What a program has of "ProgramLog" or "CUBIN"."""
    nvrtc, size = library(), c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, byref(size))
    room = create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, room)
    return room.raw


def strings(some: Iterable[str]) -> Any:
    """As C takes them."""
    encoded = [one.encode() for one in some]
    return (c_char_p * len(encoded))(*encoded)


def version() -> tuple[int, int]:
    """The compiler's."""
    major, minor = c_int(), c_int()
    library().nvrtcVersion(byref(major), byref(minor))
    return major.value, minor.value


def library() -> CDLL:
    """NVRTC, which `uncompilable` has found."""
    found = _library()
    assert found is not None
    return found


@cache
def _library() -> CDLL | None:
    """The one of torch's own CUDA first: a driver may refuse what a newer compiler makes."""
    wanted = (torch.version.cuda or "").partition(".")[0]
    places = [folder.parent for folder in candidates()]
    files = [
        file for place in places for kind in ("lib", "lib64") for file in place.glob(f"{kind}/libnvrtc.so.*")
    ]
    files = [file for file in files if re.fullmatch(r"libnvrtc\.so\.\d+", file.name)]
    for file in sorted(files, key=lambda one: (one.name.endswith(f".{wanted}"), one.name), reverse=True):
        try:
            return CDLL(str(file))
        except OSError:  # for another system, or half of one
            continue
    return None


def parts(source: Path) -> list[Path]:
    """The source and, at any depth, the headers that it includes, from beside it or from HEADERS."""
    return native.parts(source, HEADERS)


@cache
def includes() -> tuple[Path, ...]:
    """Folders of CUDA's own headers, those that came with the compiler first."""
    found = [each.resolve() for each in candidates() if (each / "cuda_fp16.h").is_file()]
    home = Path(library()._name).resolve().parent.parent
    return tuple(sorted(dict.fromkeys(found), key=lambda each: each.parent != home))


def candidates() -> Iterator[Path]:
    """Where CUDA's headers may be."""
    spec = find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(place).glob("*/include"))
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if root := os.environ.get(variable):
            yield Path(root, "include")
    yield Path("/usr/local/cuda/include")
