"""Kernel: one implementation of one op, and the terms on which it runs.

    @kernel(op="spmm", on="cpu", dtypes=("float32",))
    def spmm_csr_mine(a, b):             # prepare: all operands, in the case's dtype; untimed
        converted = convert(a)
        out = b.new_empty(a.shape[0], b.shape[1])
        def run(b):                      # timed: the live operands, read anew each time
            multiply(converted, b, out)
            return out
        return Prepared(run, holds=(converted, out))

A bare `return run` will do: then nothing is known of its cost, nor of what it keeps, and the caches are
emptied whole before a cold call.
"""

import hashlib
import inspect
import marshal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from suite import native
from suite.case import QUANTIZED, UNPACKED, Case
from suite.cuda import nvrtc
from suite.pattern import Pattern

if TYPE_CHECKING:
    from suite.device import Device
    from suite.selector import Selector

KERNELS: dict[str, "Kernel"] = {}

SOURCES = {".cpp": native.parts, ".cu": nvrtc.parts}  # native ones, and the files each is made of
SHARED = (  # layouts, and what kernels and selectors are made of
    "suite.formats",
    "suite.kernels",
    "suite.cuda",
    "suite.selection",
    "suite.activations",
)


@dataclass(frozen=True)
class Buffer:
    """Memory that only a library can name, such as a packed weight: held like a tensor, by where it is."""

    address: int
    nbytes: int


class Refused(Exception):
    """What a prepare raises when only the operand itself shows that the kernel cannot take it."""


@dataclass(frozen=True)
class Prepared:
    """A kernel ready to be timed.

    run(*live) -> answer: the timed call.
    executed: the FLOPs it really issues, zeros included; a callable if known after a run; None if closed.
    values, metadata: bytes of the converted operand's values, and of indices, masks, padding; None if closed.
        Of values a call may read a part: a callable, if which is known only after a run.
    holds: every private buffer (tensors, arrays, Buffers): flushed before a cold call, and counted.
    note: what was chosen, such as {"algorithm": "128x64"}.
    select: what picks, from the live operands and in every call, what `run` keeps of them.
    executed_pattern: what the hardware runs it as, where that is not the case's: a 1:8 mask runs as "2:4".
    hidden: it keeps buffers it cannot show (a compiler's packed weights): the caches are then emptied whole
        before a cold call.
    """

    run: Callable[..., Any]
    executed: int | Callable[[], int] | None = None
    values: int | Callable[[], int] | None = None
    metadata: int | None = None
    holds: tuple[Any, ...] = ()
    note: dict[str, Any] = field(default_factory=dict)
    hidden: bool = False
    executed_pattern: str | None = None
    select: Callable[..., Any] | None = None


@dataclass(frozen=True, eq=False)
class Kernel:
    """One implementation of one op, and the terms on which it runs."""

    name: str
    about: str
    prepare: Callable[..., Any]
    op: str
    on: str
    dtypes: tuple[str, ...]
    patterns: tuple[type[Pattern], ...]  # empty: any
    isa: tuple[str, ...]  # features the device must have, such as avx512f
    only: dict[str, int]  # size -> the one value it is meant for, such as n = 1
    divides: dict[str, int]  # size -> what it must be a multiple of
    refuse: Callable[[Case, "Device"], Sequence[str]] | None
    ids: tuple[str, ...]  # papers it serves
    dense: bool  # a baseline: it multiplies the zeros too
    execution: str  # "sparse", "masked" (dense, and the zeros put back in place), or "dense"
    live_order: str  # memory order of the live operand it wants: "rows" or "columns"
    extents: tuple[str, ...]
    chooses: bool  # its run takes a Selection after the live operands, where there is one
    selector: "Selector | None" = None  # which picks what it keeps, in every call
    scope: ClassVar[str] = "kernel"

    def fits(self, case: Case) -> bool:
        """Whether the kernel is meant for such a case at all; if not, there is nothing to say about it."""
        return (
            case.op == self.op
            and (self.dense or bool(self.selector) == case.pattern.at_run_time)
            and self.takes(case.dtype)
            and (not self.patterns or isinstance(case.pattern, self.patterns))
            and all(case[size] == value for size, value in self.only.items())
        )

    def takes(self, dtype: str) -> bool:
        """Whether it multiplies such numbers; weights of few bits are bfloat16 to a dense kernel of those."""
        return dtype in self.dtypes or (self.dense and dtype in QUANTIZED and UNPACKED in self.dtypes)

    def refusals(self, case: Case, device: "Device") -> list[str]:
        """Every reason it cannot run this case there; none means it can."""
        reasons = [f"needs {one}, which {device.name} lacks" for one in self.isa if one not in device.isa]
        for size, unit in self.divides.items():
            if case[size] % unit:
                reasons.append(f"needs {size} divisible by {unit}, got {case[size]}")
        if self.refuse:
            reasons += self.refuse(case, device)
        return reasons

    def arrange(self, operands: tuple[Any, ...], live: tuple[int, ...]) -> tuple[Any, ...]:
        """The operands with the live ones in the memory order the kernel asked for."""
        if self.live_order != "columns":
            return operands
        return tuple(
            one.mT.contiguous().mT if at in live and isinstance(one, Tensor) and one.dim() > 1 else one
            for at, one in enumerate(operands)
        )

    @cached_property
    def hash(self) -> str:
        """Of its source, the native one beside it and the headers of that, and what of its own it imports.

        Its own are its package and SHARED. Another hash is another kernel: what was measured of the old one
        is not this one's.
        """
        return hashed(self.prepare, *((self.selector.prepare,) if self.selector else ()))

    @property
    def stated(self) -> dict[str, Any]:
        """What a line says of it, whatever became of it."""
        return {
            "kernel": self.alone,
            "selector": self.selector and self.selector.name,
            "control": self.selector and self.selector.control,
            "kernel_hash": self.hash,
            "dense": self.dense,
            "ids": list(self.ids),
            "execution": self.execution,
            "scope": self.scope,
        }

    @property
    def filled(self) -> bool:
        """It is given random numbers where the zeros are: dense, yet no baseline, which multiplies the zeros.

        Zeros toggle fewer bits: without them a product draws more power, and under a power limit is slower.
        """
        return self.execution == "dense" and not self.dense

    @property
    def alone(self) -> str:
        """Its name without that of its selector."""
        return self.name.removesuffix(f"+{self.selector}") if self.selector else self.name

    def __str__(self) -> str:
        return self.name


def kernel(
    *,
    op: str,
    on: str = "cpu",
    dtypes: tuple[str, ...] = ("float32",),
    patterns: tuple[type[Pattern], ...] = (),
    isa: tuple[str, ...] = (),
    only: dict[str, int] | None = None,
    divides: dict[str, int] | None = None,
    refuse: Callable[[Case, "Device"], Sequence[str]] | None = None,
    ids: tuple[str, ...] = (),
    dense: bool = False,
    execution: str = "",
    live_order: str = "rows",
    extents: tuple[str, ...] = ("smoke", "default", "full"),
    chooses: bool = False,
    keep: bool = True,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Register the decorated prepare function as a kernel of its name (unless `keep` is False)."""

    def register(prepare: Callable[..., Any]) -> Kernel:
        name, about = prepare.__name__, inspect.getdoc(prepare) or ""
        if keep and name in KERNELS:
            raise ValueError(f"two kernels are called {name!r}; rename one of the functions")
        made = Kernel(
            name=name,
            about=about,
            prepare=prepare,
            op=op,
            on=on,
            dtypes=dtypes,
            patterns=patterns,
            isa=isa,
            only=only or {},
            divides=divides or {},
            refuse=refuse,
            ids=ids,
            dense=dense,
            execution=execution or ("dense" if dense else "sparse"),
            live_order=live_order,
            extents=extents,
            chooses=chooses,
        )
        if keep:
            KERNELS[name] = made
        return made

    return register


def prepared(kernel: Kernel, operands: tuple[Any, ...]) -> Prepared:
    """What the kernel's prepare returns; a bare `run` is a Prepared of which nothing is known."""
    made = kernel.prepare(*operands)
    if isinstance(made, Prepared):
        return made
    if callable(made):
        return Prepared(made, hidden=True)
    raise TypeError(f"{kernel}: prepare returned {type(made).__name__}; return run, or Prepared(run, ...)")


def hashed(*functions: Callable[..., Any]) -> str:
    """Short, of what these are made of."""
    made = hashlib.sha256()
    for function in functions:
        for part in source(function):
            made.update(part)
    return made.hexdigest()[:12]


def source(function: Callable[..., Any]) -> Iterator[bytes]:
    """What a prepare function is made of, as bytes: files where there are any, else its own text or code."""
    function = inspect.unwrap(function)
    file = file_of(function)
    if file:
        yield from beside(file)
    else:  # a cell of a notebook, or a string that was executed
        yield text_of(function)
    for name, module in sorted(imported(getattr(function, "__globals__", {}), package(function)).items()):
        other = file_of(module)
        if other and other != file:
            yield name.encode()
            yield from beside(other)


def file_of(thing: Any) -> Path | None:
    """The file something stands in; None for the pseudo files of notebooks, and for built-in modules."""
    try:
        file = Path(inspect.getfile(thing))
    except TypeError:
        return None
    return file if file.is_file() else None


def beside(file: Path) -> Iterator[bytes]:
    """A file, and the native source of the same stem with its headers."""
    yield file.read_bytes()
    for suffix, parts in SOURCES.items():
        if (one := file.with_suffix(suffix)).is_file():
            yield from (part.read_bytes() for part in parts(one))


def text_of(function: Any) -> bytes:
    """The source as Python remembers it, else the compiled code, constants and all."""
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        return marshal.dumps(function.__code__, 2)  # the last version without references, which vary


def package(function: Any) -> str:
    """The package a function's module is in; empty for a module of its own."""
    return (getattr(function, "__module__", None) or "").rpartition(".")[0]


def imported(names: dict[str, Any], own: str) -> dict[str, ModuleType]:
    """The modules of SHARED and of a package that these names come from, and in turn theirs."""
    found: dict[str, ModuleType] = {}
    waiting = [names]
    while waiting:
        for value in list(waiting.pop().values()):
            at = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if not isinstance(at, str) or at in found or not within(at, own):
                continue
            if module := sys.modules.get(at):
                found[at] = module
                waiting.append(vars(module))
    return found


def within(module: str, own: str) -> bool:
    return any(folder and f"{module}.".startswith(f"{folder}.") for folder in (*SHARED, own))
