"""Kernel: one implementation of one op, and the terms on which it runs.

    @kernel(op="spmm", on="cpu", dtypes=("float32",))
    def spmm_csr_mine(a, b):             # prepare: all operands, in the case's dtype; untimed
        converted = convert(a)
        out = b.new_empty(a.shape[0], b.shape[1])
        def run(b):                      # timed: the live operands, read anew each time
            multiply(converted, b, out)
            return out
        return Prepared(run, holds=(converted, out))

A bare `return run` will do: then nothing is known of its cost, and only operands and answer are flushed.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.case import Case
from suite.pattern import Pattern

if TYPE_CHECKING:
    from suite.device import Device

KERNELS: dict[str, "Kernel"] = {}

SOURCES = (".cpp", ".cu")


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
    holds: every private buffer (tensors, arrays, Buffers): flushed before a cold call, and counted.
    note: what was chosen, such as {"algorithm": "128x64"}.
    """

    run: Callable[..., Any]
    executed: int | Callable[[], int] | None = None
    values: int | None = None
    metadata: int | None = None
    holds: tuple[Any, ...] = ()
    note: dict[str, Any] = field(default_factory=dict)


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
    live_order: str  # memory order of the live operand it wants: "rows" or "columns"
    extents: tuple[str, ...]

    def fits(self, case: Case) -> bool:
        """Whether the kernel is meant for such a case at all; if not, there is nothing to say about it."""
        return (
            case.op == self.op
            and case.dtype in self.dtypes
            and (not self.patterns or isinstance(case.pattern, self.patterns))
            and all(case[size] == value for size, value in self.only.items())
        )

    def refusals(self, case: Case, device: "Device") -> list[str]:
        """Every reason it cannot run this case there; none means it can."""
        reasons = [f"needs {one}, which {device.name} lacks" for one in self.isa if one not in device.isa]
        for size, unit in self.divides.items():
            if case[size] % unit:
                reasons.append(f"needs {size} divisible by {unit}, got {case[size]}")
        if self.refuse:
            reasons += self.refuse(case, device)
        return reasons

    @cached_property
    def hash(self) -> str:
        """Of the file it stands in and the native source beside it: another hash is another kernel."""
        made = hashlib.sha256()
        try:
            file = Path(inspect.getfile(self.prepare))
            sources = [file, *(file.with_suffix(suffix) for suffix in SOURCES)]
            for source in sources:
                if source.is_file():
                    made.update(source.read_bytes())
        except TypeError:  # a function from a notebook's cell has no file
            made.update(self.prepare.__code__.co_code)
        return made.hexdigest()[:12]

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
    live_order: str = "rows",
    extents: tuple[str, ...] = ("smoke", "default", "full"),
    keep: bool = True,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Register the decorated prepare function as a kernel of its name (unless `keep` is False)."""

    def register(prepare: Callable[..., Any]) -> Kernel:
        name, about = prepare.__name__, inspect.getdoc(prepare) or ""
        if keep and name in KERNELS:
            raise ValueError(f"two kernels are called {name!r}; rename one of the functions")
        made = Kernel(
            name,
            about,
            prepare,
            op,
            on,
            dtypes,
            patterns,
            isa,
            only or {},
            divides or {},
            refuse,
            ids,
            dense,
            live_order,
            extents,
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
        return Prepared(made)
    raise TypeError(f"{kernel}: prepare returned {type(made).__name__}; return run, or Prepared(run, ...)")
