"""Sampled: a callable of a test checked, timed beside the dense kernels, and handed to pytest-benchmark.

Measuring is a visit as in any run: kernels take turns, each answer is checked before and after, and again
with other live operands. There is no isolation: a crash is the test's own.
"""

import hashlib
import inspect
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

from suite import __version__, devices, provenance, registry
from suite.case import DTYPES, Case
from suite.check import Question, question
from suite.clock import Clock
from suite.kernel import KERNELS, Kernel, Prepared, kernel
from suite.measure import Effort
from suite.op import discover_parts
from suite.patterns.given import Given
from suite.plan import Item
from suite.reading.opened import BESIDE, without_samples
from suite.reading.statistics import choosing, reporting
from suite.record import SCHEMA, Result, read
from suite.run import Options, Running
from suite.sparse import Sparse, from_positions
from suite.stated import ledger
from suite.visit import Visit

WORKLOAD = "pytest"
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
        call: Callable[[Tensor], Any],
        a: Any,
        b: Any,
        *,
        holds: Sequence[Any] = (),
        cache: str | None = None,
    ) -> Found:
        """Measure `call(b)`, which is to be `a @ b`, beside the dense kernels of this device.

        a: m x k, a tensor (sparse or dense), SciPy's or NumPy's. b: a dense k x n tensor; `call` gets copies
        of it with other numbers too. holds: the buffers the call keeps, emptied from the caches before a cold
        call; if none are named the caches are emptied whole.
        Fails the test where an answer is wrong.
        """
        discover_parts()
        registry.discover(folders=("kernels",))
        b = torch.as_tensor(b)
        sparse = as_sparse(a, b.dtype)
        case = case_of(sparse, b)
        mine = kernel(op=case.op, on=self.device.kind, dtypes=(case.dtype,), keep=False)(
            as_prepare(call, self.request.node.name, tuple(holds))
        )
        asked = question(case, (sparse, b))
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
            says = f"{line.kernel} on {line.case}: {line.outcome}: {line.note}"
            self.benchmark.pedantic(pytest.fail, (says,), {"pytrace": False})  # it was used, to no end
        found = Found(line, dense)
        self.benchmark.extra_info.update(without_samples(line))
        if line.workload == WORKLOAD:  # those of the registry have benchmarks of their own
            self.benchmark.extra_info[BESIDE] = [msgspec.to_builtins(one) for one in dense if one.seconds]
        self.clock.load(line.seconds)
        self.benchmark.pedantic(
            self.clock.tick, setup=self.clock.reset, rounds=len(line.seconds), iterations=1
        )
        return found


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
            _measured[key] = {one.kernel: one for one in read(file).results}
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


def case_of(a: Sparse, b: Tensor) -> Case:
    """A case whose data is this matrix: the same numbers are the same case."""
    dtype = next((name for name, one in DTYPES.items() if one == b.dtype), None)
    if dtype is None:
        raise TypeError(f"b is {b.dtype}; sparsemark measures {', '.join(DTYPES)}")
    if b.dim() != 2 or b.shape[0] != a.shape[1]:
        raise ValueError(
            f"a is {a.shape[0]} x {a.shape[1]}, so b must be {a.shape[1]} x n, not {tuple(b.shape)}"
        )
    parts = (one.contiguous().view(torch.uint8).numpy().tobytes() for one in (a.starts, a.columns, a.values))
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:8]
    sizes = (("m", a.shape[0]), ("k", a.shape[1]), ("n", b.shape[1]))
    return Case("spmm", sizes, a.pattern, dtype, data=f"operand-{digest}")


def as_sparse(a: Any, dtype: torch.dtype) -> Sparse:
    """Whatever matrix a test has, as compressed rows. A zero that is stored is a nonzero."""
    if isinstance(a, Sparse):
        return replace(a, values=a.values.to(dtype), pattern=Given())
    if isinstance(a, Tensor) and a.layout != torch.strided:
        a = a.to_sparse_csr()
        arrays = (a.values().float().numpy(), a.col_indices().numpy(), a.crow_indices().numpy())
        a = scipy.sparse.csr_array(arrays, shape=tuple(a.shape))
    elif isinstance(a, Tensor):
        a = a.float().numpy()
    rows = scipy.sparse.csr_array(a)
    rows.sort_indices()
    values = torch.from_numpy(np.array(rows.data, np.float32)).to(dtype)
    m, k = (int(side) for side in rows.shape)  # pyright: ignore
    return from_positions(rows.indptr, rows.indices, values, (m, k), Given())


def as_prepare(call: Callable[[Tensor], Any], name: str, holds: tuple[Any, ...]) -> Callable[..., Prepared]:
    """A prepare that has nothing left to do. Its name is the test's, its source, so its hash, the call's."""

    def prepare(a: Any, b: Any) -> Prepared:
        return Prepared(call, holds=holds, hidden=not holds)

    prepare.__name__ = re.sub(r"[^\w.-]+", "-", name).strip("-")  # what a kernel may be called
    if inspect.isfunction(call):
        prepare.__wrapped__ = call  # pyright: ignore[reportFunctionMemberAccess]
    return prepare
