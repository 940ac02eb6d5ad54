"""Workload: a named, versioned generator of cases drawn from one real use of sparsity.

    @workload(version=1)
    def transformer(extent):
        \"\"\"Pruned feed-forward layers, at decode and prefill batch sizes.\"\"\"
        yield case("spmm", Unstructured(0.9), m=..., k=..., n=...)

The order of the cases is their importance: the first line of sparsities is the workload's anchor.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.case import Case

if TYPE_CHECKING:
    from suite.check import Question
    from suite.layer import Layer

EXTENTS = ("smoke", "default", "full")

WORKLOADS: dict[str, "Workload"] = {}


@dataclass(frozen=True)
class Workload:
    """A named, versioned generator of cases, at three extents: seconds, minutes, the literature's grids.

    layer(question): what stands around the op of a case in a model; None: this case is not seen there.
    """

    name: str
    about: str
    version: int
    cases: Callable[[str], Iterable[Case]]
    ids: tuple[str, ...] = ()
    layer: "Callable[[Question], Layer | None] | None" = None

    def __str__(self) -> str:
        return self.name


def workload(
    *,
    version: int,
    ids: tuple[str, ...] = (),
    layer: "Callable[[Question], Layer | None] | None" = None,
) -> Callable[[Callable[[str], Iterable[Case]]], Workload]:
    """Register the decorated generator as the workload of its name."""

    def register(cases: Callable[[str], Iterable[Case]]) -> Workload:
        name = cases.__name__
        if name in WORKLOADS:
            raise ValueError(f"two workloads are called {name!r}; rename one of the functions")
        WORKLOADS[name] = Workload(name, inspect.getdoc(cases) or "", version, cases, ids, layer)
        return WORKLOADS[name]

    return register
