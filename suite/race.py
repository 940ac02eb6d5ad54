"""Race: how much faster than its rivals a kernel of ours is to be, case by case.

    @race(workload="unstructured", own=("spmm_csr_mine",), rivals=("spmm_csr_torch",), mean=2.0)
    def csr():
        \"\"\"Compressed rows against MKL's.\"\"\"
        for n in (8, 64):
            yield Heat(case("spmm", Unstructured(0.9), m=4096, k=4096, n=n), ratio=1.0)

A race is a goal, never a test: nothing fails on speed. On each side the best kernel counts. The order of the
heats is their importance.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import zip_longest

from suite import sources
from suite.case import Case
from suite.kernel import Kernel
from suite.op import OPS
from suite.patterns.given import Given
from suite.plan import Item, fitting

EXTENT = "default"  # kernels too slow to prepare for this extent do not run

RACES: dict[str, "Race"] = {}

Shapes = Mapping[str, tuple[int, int]]
"""Rows and columns of matrices from files, by their ids."""


@dataclass(frozen=True)
class Heat:
    """A case, and what is asked of our best kernel there. None: it is shown, and nothing is asked.

    A case of the pattern `given` that names no data stands for every matrix there is.

    ratio: the rival's time over ours, at least.
    setup: seconds that conversion takes, at most.
    padding: FLOPs executed over those that are useful, at most.
    """

    case: Case
    ratio: float | None = None
    setup: float | None = None
    padding: float | None = None


@dataclass(frozen=True)
class Race:
    """Heats, and who runs: globs of kernels' names, of which `!glob` takes some away again."""

    name: str
    about: str
    heats: Callable[[], Iterable[Heat]]
    workload: str  # whose cases these are: their lines belong to it
    own: tuple[str, ...]  # never dense ones
    rivals: tuple[str, ...]
    mean: float | None  # what the geometric mean of the ratios is to be, at least

    def is_own(self, kernel: str, dense: bool) -> bool:
        return not dense and matches(kernel, self.own) and not self.is_rival(kernel)

    def is_rival(self, kernel: str) -> bool:
        return matches(kernel, self.rivals)

    def on(self, matrices: Shapes) -> Iterator[Heat]:
        """Its heats, on these matrices where it wants any."""
        for heat in self.heats():
            if heat.case.pattern != Given() or heat.case.data:
                yield heat
                continue
            for data, (m, k) in matrices.items():
                yield replace(heat, case=replace(heat.case.with_sizes(m=m, k=k), data=data))

    def __str__(self) -> str:
        return self.name


def matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch(name, one) for one in globs) and not any(
        fnmatch(name, one[1:]) for one in globs if one.startswith("!")
    )


def race(
    *, workload: str, own: tuple[str, ...], rivals: tuple[str, ...], mean: float | None = None
) -> Callable[[Callable[[], Iterable[Heat]]], Race]:
    """Register the decorated generator of heats as the race of its name."""

    def register(heats: Callable[[], Iterable[Heat]]) -> Race:
        name = heats.__name__
        if name in RACES:
            raise ValueError(f"two races are called {name!r}; rename one of the functions")
        RACES[name] = Race(name, inspect.getdoc(heats) or "", heats, workload, own, rivals, mean)
        return RACES[name]

    return register


def entries(races: Sequence[Race], kernels: Iterable[Kernel]) -> list[Item]:
    """What to measure, races in turn: each case once, with the kernels of all races that have it."""
    matrices = {data: sources.shape(data) for data in sources.known()}
    able = [one for one in kernels if EXTENT in one.extents]
    entered: dict[Case, tuple[str, dict[str, None]]] = {}
    turns = zip_longest(*([(one, heat.case) for heat in one.on(matrices)] for one in races))
    for one, case in (entry for turn in turns for entry in turn if entry):
        running = [each for each in able if one.is_own(each.name, each.dense) or one.is_rival(each.name)]
        if case.op in OPS and (names := fitting(case, running)):
            entered.setdefault(case, (one.workload, {}))[1].update(dict.fromkeys(names))
    return [Item(workload, case, tuple(names)) for case, (workload, names) in entered.items()]
