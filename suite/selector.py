"""Selector: a rule that picks at run time, from the live operands, what a kernel keeps. Its time is part of
the call's.

    @selector(ops=("attention", "attention_causal"), ids=("xattention",))
    def xattention(case):               # untimed: what does not depend on live operands
        def select(q, k, v):            # timed, in every call; returns a Selection
            return by_row(scores(q, k), case)
        return select

Every kernel that takes a selection (`chooses`) runs with every selector of its op, as an entry of its own.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from suite.case import Case
from suite.kernel import KERNELS, Kernel, Prepared, prepared
from suite.op import OPS, Operands, fixed

SELECTORS: dict[str, "Selector"] = {}

Control = Literal["luck", "habit", "knowledge"]

Select = Callable[..., Any]  # live operands -> what is kept of them


@dataclass(frozen=True, eq=False)
class Keeping:
    """A `select` that keeps buffers of its own, made from the fixed operands: flushed before a cold call."""

    select: Select
    holds: tuple[Any, ...]

    def __call__(self, *live: Any) -> Any:
        return self.select(*live)


@dataclass(frozen=True, eq=False)
class Selector:
    """A rule by which what is kept is chosen.

    prepare(case, *fixed operands) -> select(*live operands) -> what is kept, as its ops have it. A `select`
        that keeps buffers is a Keeping.
    control: no method, but what methods are held against: "luck" (blind choice), "habit" (what needs no
        look either) or "knowledge" (as good as can be, at any cost).
    """

    name: str
    about: str
    prepare: Callable[..., Select]
    ops: tuple[str, ...]
    ids: tuple[str, ...]
    control: Control | None

    def __str__(self) -> str:
        return self.name


def selector(
    *, ops: tuple[str, ...], ids: tuple[str, ...] = (), control: Control | None = None
) -> Callable[[Callable[..., Select]], Selector]:
    """Register the decorated function as the selector of its name."""

    def register(prepare: Callable[..., Select]) -> Selector:
        name = prepare.__name__
        if name in SELECTORS:
            raise ValueError(f"two selectors are called {name!r}; rename one of the functions")
        made = Selector(name, inspect.getdoc(prepare) or "", prepare, ops, ids, control)
        SELECTORS[name] = made
        return made

    return register


def entries() -> dict[str, Kernel]:
    """Every kernel by name, and those that take a selection with every selector of their op."""
    return KERNELS | {one.name: one for one in pairs()}


def pairs() -> Iterator[Kernel]:
    """Kernels with selectors: "attention_block+xattention"."""
    for kernel in KERNELS.values():
        for one in SELECTORS.values():
            if kernel.chooses and kernel.op in one.ops:
                yield replace(
                    kernel,
                    name=f"{kernel.name}+{one.name}",
                    about=f"{one.about}\n\nWhat it keeps goes to {kernel.name}.",
                    selector=one,
                    ids=tuple(dict.fromkeys((*one.ids, *kernel.ids))),
                )


def ready(kernel: Kernel, case: Case, operands: Operands) -> Prepared:
    """A kernel ready to be timed; one with a selector chooses anew in each call, which counts as its work."""
    made = prepared(kernel, operands)
    if kernel.selector is None:
        return made
    select, executed = kernel.selector.prepare(case, *fixed(case, operands)), made.executed
    found = operands[OPS[case.op].chosen]

    def all_of_it() -> int:
        return (executed() if callable(executed) else executed or 0) + found.flops

    return replace(
        made,
        run=lambda *live: made.run(*live, select(*live)),
        executed=None if executed is None else all_of_it,
        metadata=None if made.metadata is None else made.metadata + found.read,
        holds=(*made.holds, *(select.holds if isinstance(select, Keeping) else ())),
        select=select,
    )
