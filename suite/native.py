"""Native: the C++ beside a kernel, compiled for this machine at first use and kept.

A source is one file and the headers it includes, from beside it or from HEADERS: what is kept goes by a hash
of their content, the flags, the compiler's version and the processor's features, so a cache folder shared by
unlike machines serves each of them.
The name of a kept library ends in a hash of itself: one that was cut short is seen before it is loaded.
"""

import atexit
import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor  # also, its OpenMP runtime must be in the process first, for ours to be the same

from suite.cache import folder as cache_folder

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
HEADERS = Path(__file__).parent / "cpp"  # what sources share
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
SAID = 12  # lines of the compiler's last words that an error repeats

PROBE = '#include <omp.h>\nextern "C" int threads() { return omp_get_max_threads(); }\n'

LIVE = object()  # stands where a bound function takes an argument of each call


class BuildFailed(RuntimeError):
    """A source that does not compile; says what the compiler said last."""


def load(source: Path, *flags: str) -> ctypes.CDLL:
    """The library made from a C++ source, built now unless it is kept from before."""
    if reasons := _compiler_faults():
        raise BuildFailed(f"{source.name}: {'; '.join(reasons)}")
    for kept in _kept(source, flags):
        try:
            return ctypes.CDLL(str(kept))
        except OSError:  # whole, yet not loadable: made against another C library
            kept.unlink(missing_ok=True)
    return ctypes.CDLL(str(_build(source, flags)))


def bind(function: Any, *arguments: Any, returns: Any = None) -> Callable[..., Any]:
    """A C function with its arguments, but for those that are LIVE: these are given in each call, in order.

        add = native.bind(library.add, native.LIVE, held.values, len(held.values), out, c_int(threads))
        add(b)

    Tensors and arrays go by address, numbers in 64 bits, truth as an int, anything else as ctypes takes it.
    What is live is a tensor or a number. What is not is kept, and stays where it is: a tensor that will be
    resized must be live. One call at a time. `returns` is a type of ctypes; a wrong count is a TypeError.
    """
    function.restype = returns
    passed = tuple(_passed(one) for one in arguments)
    slots = tuple(enumerate(slot for slot, one in zip(passed, arguments, strict=True) if one is LIVE))

    def call(*live: Any) -> Any:
        if len(live) != len(slots):  # naming all arguments keeps them: a pointer does not
            raise TypeError(
                f"{function.__name__}: {len(slots)} of {len(arguments)} arguments are live, got {len(live)}"
            )
        for at, slot in slots:
            one = live[at]
            slot.value = one if type(one) is int else one.data_ptr()
        return function(*passed)

    return call


def _passed(one: Any) -> Any:
    if one is LIVE:
        return ctypes.c_void_p()  # as wide as a number
    if isinstance(one, Tensor):
        return ctypes.c_void_p(one.data_ptr())
    if isinstance(one, np.ndarray):
        return ctypes.c_void_p(one.ctypes.data)
    if isinstance(one, bool):
        return ctypes.c_int(one)
    return ctypes.c_int64(one) if isinstance(one, int) else one


def parts(source: Path, shared: Path | None = None) -> list[Path]:
    """The source and the headers of the project in it, at any depth: what is included in quotes and found,
    beside what includes it or in the folder that sources share (HEADERS).

    Whether one that is not found is missed is for the compiler to say.
    """
    found = [source]
    for one in found:
        for name in INCLUDE.findall(one.read_text("utf-8", "replace")):
            places = ((folder / name).resolve() for folder in (one.parent, shared or HEADERS))
            header = next((at for at in places if at.is_file()), None)
            if header and header not in found:
                found.append(header)
    return found


def missing() -> list[str]:
    """Why nothing can be compiled here; empty if it can. Meant for a kernel's `refuse`."""
    return list(_missing(os.environ.get("CXX"), os.environ.get("PATH")))


def _compiler_faults() -> list[str]:
    return [] if _compiler() else [_wanted()]


def _wanted() -> str:
    asked = os.environ.get("CXX")
    looked = f"$CXX, which is {asked!r}" if asked else f"{', '.join(COMPILERS)} in $PATH, and $CXX is not set"
    return (
        f"needs a C++ compiler that works: looked for {looked}; "
        "install one (Debian, Ubuntu: apt install g++; macOS: brew install gcc) or set CXX"
    )


@cache
def _missing(cxx: str | None, path: str | None) -> tuple[str, ...]:
    if faults := _compiler_faults():
        return tuple(faults)
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.cpp")
        probe.write_text(PROBE)
        try:
            load(probe)
        except (BuildFailed, OSError) as failed:
            last = str(failed).strip().splitlines()[-1]
            command = shlex.join((_compiler() or ("c++", ""))[:-1])
            return (f"needs a C++ compiler with OpenMP; {command} cannot: {last}; set CXX to one that can",)
    return ()


def _compiler() -> tuple[str, ...] | None:
    """The command, and as its last part what it says its version is."""
    return _compiler_in(os.environ.get("CXX"), os.environ.get("PATH"))


@cache
def _compiler_in(cxx: str | None, path: str | None) -> tuple[str, ...] | None:
    for words in [shlex.split(cxx)] if cxx else [[name] for name in COMPILERS]:
        if words and (found := shutil.which(words[0], path=path)):
            command = (found, *words[1:])
            version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
            if version.returncode == 0:  # macOS has a c++ that only says what to install
                return *command, version.stdout
    return None


def _machine_flags() -> tuple[str, ...]:
    return ("-mcpu=native",) if platform.machine().lower() in ("arm64", "aarch64") else ("-march=native",)


@cache
def _processor() -> str:
    """Its features: code for this processor may be illegal on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.platform()}"
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    model = next((line for line in lines if line.startswith(("model name", "CPU part"))), "")
    return f"{platform.machine()} {model} {' '.join(sorted(flags.split()))}"


def _stem(source: Path, flags: tuple[str, ...]) -> str:
    """What the name of a kept library begins with: another stem is another library."""
    made = hashlib.sha256()
    for file in parts(source):
        made.update(file.read_bytes() + b"\0")
    for part in (*FLAGS, *_machine_flags(), *flags, *(_compiler() or ()), _processor()):
        made.update(b"\0" + part.encode())
    return f"{source.stem}-{made.hexdigest()[:16]}"


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _kept(source: Path, flags: tuple[str, ...]) -> Iterator[Path]:
    for file in sorted(folder().glob(f"{_stem(source, flags)}-*.so")):
        if file.stem.endswith(_digest(file)):
            yield file
        else:
            file.unlink(missing_ok=True)


def _build(source: Path, flags: tuple[str, ...]) -> Path:
    """Compile into a file of this process's own, then rename: others see all of it or nothing."""
    *command, _ = _compiler() or ("c++", "")
    with tempfile.TemporaryDirectory(dir=folder(), prefix=".build-") as own:
        made = Path(own, "made.so")
        call = [*command, *FLAGS, *_machine_flags(), *flags, f"-I{HEADERS}", str(source), "-o", str(made)]
        done = subprocess.run(call, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not made.is_file():
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-SAID:])
            raise BuildFailed(f"{source.name} does not compile ({shlex.join(call)}):\n{said}")
        library = folder() / f"{_stem(source, flags)}-{_digest(made)}.so"
        os.replace(made, library)
    return library


def folder() -> Path:
    """Where libraries are kept: with what is cached, or, where nothing can be written, for this process."""
    asked = cache_folder("native")
    return asked if _writable(asked) else _temporary()


def _writable(asked: Path) -> bool:
    try:
        asked.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=asked):
            return True
    except OSError:
        return False


@cache
def _temporary() -> Path:
    """A folder of this process alone, gone at its end: a shared one could hold another user's code."""
    made = tempfile.mkdtemp(prefix="sparsemark-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def runtimes() -> list[str]:
    """The OpenMP runtimes in this process; two would each start a thread for every core. Linux only."""
    if not sys.platform.startswith("linux"):
        return []
    maps = Path("/proc/self/maps").read_text().splitlines()
    names = {line.split(maxsplit=5)[5] for line in maps if "/" in line}  # a path may have spaces
    return sorted(n for n in names if Path(n).name.startswith(("libgomp", "libomp", "libiomp")))
