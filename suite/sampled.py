"""Sampled: a callable of a test checked, timed beside the dense kernels, and handed to pytest-benchmark.

Measuring is a visit as in any run: kernels take turns, each answer is checked before and after, and again
with other live operands. There is no isolation: a crash is the test's own.
"""

import inspect
import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import msgspec
import pytest
import torch

from suite import __version__, devices, provenance, registry
from suite.brought import brought
from suite.case import Case
from suite.check import Question, question
from suite.clock import Clock
from suite.kernel import KERNELS, Kernel, Prepared, kernel
from suite.measure import Effort
from suite.op import Operands, discover_parts
from suite.plan import Item
from suite.reading.opened import BESIDE, without_samples
from suite.reading.statistics import choosing, reporting
from suite.record import SCHEMA, Result, read
from suite.run import Options, Running
from suite.stated import ledger
from suite.visit import Visit

WORKLOAD = "pytest"
CACHES = ("cold", "hot")
SECONDS = 0.2  # of sampling a kernel
CHECK = 1e-9  # with --benchmark-disable: as few samples as there can be


@dataclass(frozen=True)
class Found:
    """What came of a test's callable, and of the dense kernels beside it."""

    line: Result
    dense: Sequence[Result]

    @property
    def seconds(self) -> float:
        """The median call."""
        return median(self.line.seconds)

    @property
    def best_dense(self) -> Result | None:
        """The fastest, by its odd samples."""
        return min(
            (one for one in self.dense if one.seconds), key=lambda one: choosing(one.seconds), default=None
        )

    @property
    def speed_up(self) -> float:
        """The best dense time over this one, by even samples. Not a number where no dense kernel ran."""
        best = self.best_dense
        return reporting(best.seconds) / reporting(self.line.seconds) if best else float("nan")


class SparseBenchmark:
    """The fixture: call it with a callable and operands, or measure a case of the registry."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any, clock: Clock) -> None:
        self.request, self.benchmark, self.clock = request, benchmark, clock

    def __call__(
        self,
        call: Callable[..., Any],
        *operands: Any,
        op: str = "spmm",
        holds: Sequence[Any] = (),
        cache: str | None = None,
    ) -> Found:
        """Measure `call`, which is to answer as the op does, beside the dense kernels of this device.

        operands: all that the op has, in its order: of spmm a (m x k) and b (k x n). Sparse ones are tensors,
            sparse or dense, SciPy's or NumPy's; dense ones are tensors or NumPy's, of the dtype to measure.
        call: takes the live operands alone, of spmm b, and gets copies of them with other numbers too. A live
            one that is sparse reaches it as `starts`, `columns` and `values`.
        holds: the buffers the call keeps, emptied from the caches before a cold call; if none are named the
            caches are emptied whole.
        Fails the test where an answer is wrong, or operands are not the op's.
        """
        discover_parts()
        registry.discover(folders=("kernels",))
        if cache not in (None, *CACHES):
            self._fail(f"cache={cache!r} is not one of {', '.join(CACHES)}.")
        case, own = self._bring(op, operands)
        mine = kernel(op=case.op, on=self.device.kind, dtypes=(case.dtype,), keep=False)(
            as_prepare(call, self.request.node.name, tuple(holds))
        )
        asked = question(case, own)
        if not finite(asked.expected):
            self._fail(f"{case}: the answer is not finite; the operands must be.")
        lines = self._visit(asked, [mine, *dense_for(case, self.device)], cache)
        return self._hand(lines[mine.name], [one for one in lines.values() if one.dense])

    def registered(self, item: Item, name: str) -> Found:
        """Measure a kernel of the registry on a case: in a child process, all kernels asked for in turn."""
        lines = measured(self.request, item, self.device, self._seconds)
        return self._hand(lines[name], [one for one in lines.values() if one.dense and one.kernel != name])

    @property
    def device(self) -> Any:
        return device_of(self.request.config)

    @property
    def _seconds(self) -> float:
        return SECONDS if self.benchmark.enabled else CHECK

    def _visit(self, asked: Question, kernels: Sequence[Kernel], cache: str | None) -> dict[str, Result]:
        """In this process, on the threads that the lines state."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.device.threads)
        try:
            visit = Asked(
                self.device,
                1,
                cache or option(self.request.config, "cache"),
                Effort(cap=self._seconds),
                asked=asked,
            )
            order = random.Random(str(asked.case)).sample(list(kernels), len(kernels))
            return {one.kernel: one for one in visit.results(WORKLOAD, asked.case, order)}
        finally:
            torch.set_num_threads(before)

    def _hand(self, line: Result, dense: Sequence[Result]) -> Found:
        """To pytest-benchmark, as the clock will tell it; a wrong or broken kernel fails its test."""
        if line.outcome == "refused":
            pytest.skip(line.note)
        if line.outcome != "ok":
            self._fail(f"{line.kernel} on {line.case}: {line.outcome}: {line.note}")
        found = Found(line, dense)
        self.benchmark.extra_info.update(without_samples(line))
        if line.workload == WORKLOAD:  # those of the registry have benchmarks of their own
            self.benchmark.extra_info[BESIDE] = [msgspec.to_builtins(one) for one in dense if one.seconds]
        self.clock.load(line.seconds)
        self.benchmark.pedantic(
            self.clock.tick, setup=self.clock.reset, rounds=len(line.seconds), iterations=1
        )
        return found

    def _bring(self, op: str, operands: Sequence[Any]) -> tuple[Case, Operands]:
        try:
            return brought(op, operands)
        except registry.Unusable as unusable:
            why = str(unusable)
        return self._fail(why)  # out of the handler: a report would show both

    def _fail(self, says: str) -> NoReturn:
        """Fail the test. pytest-benchmark is told by an error that there are no samples to write."""
        with suppress(Sampleless):
            self.benchmark.pedantic(raising)
        pytest.fail(says, pytrace=False)


class Sampleless(Exception):
    """What a benchmark ends with whose call is not to be timed."""


def raising() -> NoReturn:
    raise Sampleless


@dataclass
class Asked(Visit):
    """A visit on operands that are there already."""

    asked: Question | None = None

    def ask(self, case: Case) -> tuple[Question, dict[str, Any]]:
        assert self.asked is not None
        self.beat("", "making the operands")
        placed = replace(self.asked, operands=self.device.place(self.asked.operands))
        return placed, ledger(case, self.asked.operands)


_measured: dict[tuple[str, str], dict[str, Result]] = {}


def measured(request: pytest.FixtureRequest, item: Item, device: Any, seconds: float) -> dict[str, Result]:
    """The lines of a case by kernel; measured once, for all tests of it that were selected."""
    key = item.workload, str(item.case)
    if key not in _measured:
        config = request.config
        wanted = {
            given["kernel"]
            for given in (
                getattr(getattr(one, "callspec", None), "params", {}) for one in request.session.items
            )
            if given.get("item") == item
        }
        chosen = replace(item, kernels=tuple(name for name in item.kernels if name in wanted))
        options = Options(
            visits=1,
            cap=seconds,
            cache=option(config, "cache"),
            energy="off",
            plugins=tuple(str(Path(one).resolve()) for one in option(config, "plugin")),
        )
        with TemporaryDirectory(prefix="sparsemark-") as folder:
            file = Path(folder) / "run.jsonl"
            Running([chosen], device, options, file).go()
            lines = read(file).results
        _measured[key] = {one.kernel: one for one in lines if one.scope == "kernel"}
    return _measured[key]


_devices: dict[tuple[str | None, int | None], Any] = {}


def option(config: pytest.Config, name: str) -> Any:
    """One of those that the plug-in adds."""
    return config.getoption(f"sparsemark_{name}")


def device_of(config: pytest.Config) -> Any:
    """The device that the options name."""
    asked = option(config, "device"), option(config, "threads")
    if asked not in _devices:
        _devices[asked] = devices.find_one(*asked)
    return _devices[asked]


def about(config: pytest.Config) -> dict[str, Any]:
    """The header of a run, without its start: what pytest-benchmark compares between machines."""
    device = device_of(config)
    told = {"kind": device.kind, "name": device.name, **device.fingerprint()}
    return {
        "schema": SCHEMA,
        "version": __version__,
        "commit": provenance.commit(),
        "devices": {device.key: msgspec.to_builtins(told)},
        "libraries": provenance.libraries(),
        "plugins": list(registry.PLUGINS),
        "options": {"flush": device.flush_how, "cap": SECONDS},
    }


def dense_for(case: Case, device: Any) -> list[Kernel]:
    """The baselines of a case at extent smoke: none that compiles for long."""
    able = (one for one in KERNELS.values() if one.dense and one.on == device.kind and "smoke" in one.extents)
    return [one for one in able if one.fits(case)]


def finite(expected: Any) -> bool:
    """Whether all of an answer is."""
    return all(
        bool(part.isfinite().all()) for part in (expected if isinstance(expected, tuple) else (expected,))
    )


def as_prepare(call: Callable[..., Any], name: str, holds: tuple[Any, ...]) -> Callable[..., Prepared]:
    """A prepare that has nothing left to do. Its name is the test's, its source, so its hash, the call's."""

    def prepare(*operands: Any) -> Prepared:
        return Prepared(call, holds=holds, hidden=not holds)

    prepare.__name__ = re.sub(r"[^\w.-]+", "-", name).strip("-")  # what a kernel may be called
    if inspect.isfunction(call):
        prepare.__wrapped__ = call  # pyright: ignore[reportFunctionMemberAccess]
    return prepare
