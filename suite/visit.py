"""Visit: one case measured once: every kernel prepared, checked, timed in turn, and checked again."""

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import torch

from suite.case import Case
from suite.check import Question, Wrong, check, poison, question
from suite.device import Device, Noise
from suite.energy import Energy, meter_calls
from suite.kernel import Kernel, Prepared, Refused, prepared
from suite.measure import Contender, Effort, race
from suite.op import OPS, make_operands
from suite.record import Outcome, Result, four_digits
from suite.resident import Peak
from suite.sparse import Sparse, structure

STAGES = ("making the operands", "preparing", "checking", "timing", "checking again", "metering")

Beat = Callable[[str, str], None]  # kernel ("" for none), stage: says that this process is alive, and where

NOT_CHOSEN = "not chosen: energy is metered for the best dense and the best sparse kernel of a group"


@dataclass
class Entry:
    """A kernel in this visit, and what became of it."""

    kernel: Kernel
    made: Prepared | None = None
    live: tuple[Any, ...] = ()
    contender: Contender | None = None
    outcome: Outcome = "ok"
    note: str = ""
    error: float | None = None
    setup: float | None = None
    compile: float | None = None
    peak: int | None = None
    recent: float = 0.0
    energy: Energy | None = None
    energy_note: str = ""

    def end(self, outcome: Outcome, note: str) -> None:
        """Let go of everything it holds; what is left is a line."""
        self.outcome, self.note = outcome, note[:500]
        self.made = self.contender = None
        self.live = ()


@dataclass
class Visit:
    """The setting of a visit: everything that is not the case itself."""

    device: Device
    number: int
    cache: str = "cold"
    effort: Effort = field(default_factory=Effort)
    metered: bool = False  # an energy window instead of a race
    beat: Beat = lambda kernel, stage: None

    def results(self, workload: str, case: Case, kernels: Sequence[Kernel]) -> Iterator[Result]:
        """One line per kernel. Whatever a kernel does short of killing the process is an outcome."""
        entries = [Entry(kernel) for kernel in kernels]
        for one in entries:
            if reasons := one.kernel.refusals(case, self.device):
                one.end("refused", "; ".join(reasons))
        noise, facts = Noise(), {}
        if any(one.outcome == "ok" for one in entries):
            self.beat("", "making the operands")
            operands = make_operands(case)
            facts = ledger(case, operands)
            asked = replace(question(case, operands), operands=self.device.place(operands))
            for one in entries:
                self.attempt(one, lambda one=one: self.prepare(one, asked))
            watched = self.device.noise()
            if self.metered:
                for one in entries:
                    self.attempt(one, lambda one=one: self.meter(one, asked))
            else:
                self.race(entries, case)
            noise = watched()
            for one in entries:
                self.attempt(one, lambda one=one: self.recheck(one, asked))
        for one in entries:
            yield self.line(one, workload, case, facts, noise)

    def attempt(self, one: Entry, step: Callable[[], None]) -> None:
        """One step of one kernel; any way it can fail becomes its outcome."""
        if one.outcome != "ok":
            return
        try:
            step()
        except KeyboardInterrupt:
            raise
        except BaseException as failed:  # SystemExit too: a kernel may fail in any way at all
            one.end(*failure(failed))
            gc.collect()

    def prepare(self, one: Entry, asked: Question) -> None:
        """Prepare twice: the first time compiles and pages in, the second is what conversion costs."""
        kernel, op = one.kernel, OPS[asked.case.op]
        operands = ordered(asked.operands, kernel, op.live)
        live = tuple(operands[at] for at in op.live)
        self.beat(kernel.name, "preparing")
        first, made = clocked(lambda: prepared(kernel, operands))
        self.beat(kernel.name, "checking")
        answer = made.run(*live)
        one.error = check(answer, asked)
        poison(answer)
        del made, answer
        self.beat(kernel.name, "preparing")
        peak = Peak()
        one.setup, made = clocked(lambda: prepared(kernel, operands))
        one.compile = max(0.0, first - one.setup)
        one.recent, answer = clocked(lambda: made.run(*live))
        poison(answer)
        one.peak = peak.bytes()
        honest(made, asked)
        one.made, one.live = made, live

    def race(self, entries: Sequence[Entry], case: Case) -> None:
        """Time all that are still standing, round-robin."""
        for one in entries:
            if one.made:
                run, live = one.made.run, one.live
                one.contender = Contender(
                    one.kernel.name,
                    lambda run=run, live=live: run(*live),
                    (one.made.holds, live),
                    recent=one.recent,
                )
        standing = {one.kernel.name: one for one in entries if one.contender}
        contenders = [one.contender for one in standing.values() if one.contender]
        order = random.Random(f"{case} {self.number}")
        race(contenders, self.device, self.effort, self.cache, order, lambda c: self.beat(c.name, "timing"))
        for contender in contenders:
            if contender.failed:
                standing[contender.name].end(*failure(contender.failed))

    def meter(self, one: Entry, asked: Question) -> None:
        """An energy window over rotating live operands."""
        meter = self.device.meter
        if meter is None or one.made is None:
            return
        run, op = one.made.run, OPS[asked.case.op]
        twins = ordered(asked.twin.operands, one.kernel, op.live)
        lives = (one.live, tuple(twins[at] for at in op.live))
        calls = [lambda live=live: run(*live) for live in lives]
        try:
            one.energy = meter_calls(calls, meter, beat=lambda: self.beat(one.kernel.name, "metering"))
        except OSError as silent:
            one.energy_note = str(silent)

    def recheck(self, one: Entry, asked: Question) -> None:
        """The last timed answer, then other live operands: a kept, aliased or lazy answer shows itself."""
        if one.made is None:
            return
        self.beat(one.kernel.name, "checking again")
        if one.contender:
            check(one.contender.answer, asked)
            poison(one.contender.answer)
        op, other = OPS[asked.case.op], asked.twin
        operands = ordered(other.operands, one.kernel, op.live)
        answer = one.made.run(*(operands[at] for at in op.live))
        try:
            check(answer, other)
        except Wrong as wrong:
            stale = "with other live operands, "
            if same_answer(answer, asked):
                stale += "the answer is still that of the first ones: "
            raise Wrong(stale + str(wrong)) from None

    def line(self, one: Entry, workload: str, case: Case, facts: dict[str, Any], noise: Noise) -> Result:
        """What became of a kernel, as a line."""
        made, contender = one.made, one.contender
        measured: dict[str, Any] = {}
        if one.outcome == "ok" and made:
            executed = made.executed() if callable(made.executed) else made.executed
            measured = {
                "error": four_digits(one.error or 0.0),
                "setup_seconds": one.setup and four_digits(one.setup),
                "compile_seconds": four_digits(one.compile or 0.0),
                "peak_bytes": one.peak,
                "flops_executed": executed,
                "bytes_values": made.values,
                "bytes_metadata": made.metadata,
                "algorithm": " ".join(f"{name}={value}" for name, value in made.note.items()) or None,
                "foreign": noise.foreign,
                "steal": noise.steal,
                "clock_mhz": noise.clock_mhz,
                "throttle": noise.throttle,
            }
        if contender:
            measured |= {
                "seconds": [four_digits(second) for second in contender.seconds],
                "calls": len(contender.seconds),
                "timer": self.device.timer,
                "stopped": contender.stopped,
            }
        if energy := one.energy:
            measured |= {
                "seconds": [four_digits(energy.seconds)],
                "calls": energy.calls,
                "timer": "window",
                "joules_counter": four_digits(energy.joules),
                "idle_watts": four_digits(energy.idle_watts),
                "energy_source": self.device.meter and self.device.meter.source,
            }
        outcome, note = one.outcome, one.note
        if self.metered and outcome == "ok" and not one.energy:
            outcome, note = "refused", one.energy_note or self.device.no_meter
        return Result(
            device=self.device.key,
            workload=workload,
            op=case.op,
            case=str(case),
            sizes=dict(case.sizes),
            pattern=str(case.pattern),
            dtype=case.dtype,
            seed=case.seed,
            data=case.data,
            phase=case.regime,
            kernel=one.kernel.name,
            kernel_hash=one.kernel.hash,
            dense=one.kernel.dense,
            ids=list(one.kernel.ids),
            execution="dense" if one.kernel.dense else "sparse",
            outcome=outcome,
            note=note,
            visit=self.number,
            cache="rotating" if self.metered else self.cache,  # pyright: ignore[reportArgumentType]
            threads=self.device.threads,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            energy_note=None if one.energy else one.energy_note or self.energy_note(),
            **facts,
            **measured,
        )

    def energy_note(self) -> str:
        """Why a line has no joules."""
        return NOT_CHOSEN if self.device.meter else self.device.no_meter


def ledger(case: Case, operands: tuple[Any, ...]) -> dict[str, Any]:
    """What every line of a case states: sparsity counted on the operand, its structure, FLOPs and bytes."""
    op = OPS[case.op]
    sparse = next((one for one in operands if isinstance(one, Sparse)), None)
    rounded = (
        {name: value and four_digits(value) for name, value in structure(sparse).items()} if sparse else {}
    )
    return {
        "sparsity": sparse and float(f"{sparse.sparsity:.8g}"),
        "structure": rounded,
        "executed_pattern": None,
        "flops_nominal": op.nominal(case, operands),
        "flops_useful": op.useful(case, operands),
        "bytes_live": op.live_bytes(case, operands),
    }


def ordered(operands: tuple[Any, ...], kernel: Kernel, live: tuple[int, ...]) -> tuple[Any, ...]:
    """The operands with the live ones in the memory order the kernel asked for."""
    if kernel.live_order != "columns":
        return operands
    return tuple(
        one.t().contiguous().t() if at in live and isinstance(one, torch.Tensor) else one
        for at, one in enumerate(operands)
    )


def clocked(make: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds it takes to make something, and the thing."""
    began = perf_counter()
    made = make()
    return perf_counter() - began, made


def honest(made: Prepared, asked: Question) -> None:
    """No kernel may claim less work than the nonzeros are, or fewer bytes than they fill."""
    op = OPS[asked.case.op]
    useful = op.useful(asked.case, asked.operands)
    least = op.least_values(asked.case, asked.operands)
    executed = made.executed() if callable(made.executed) else made.executed
    if executed is not None and executed < useful:
        raise ValueError(f"it states {executed} FLOPs executed, fewer than the {useful} useful ones")
    if made.values is not None and made.values + (made.metadata or 0) < least:
        raise ValueError(f"it states {made.values} bytes of values, but the nonzeros alone are {least}")


def same_answer(answer: Any, asked: Question) -> bool:
    """Whether this is the answer to that question."""
    try:
        check(answer, asked)
    except Wrong:
        return False
    return True


def failure(failed: BaseException) -> tuple[Outcome, str]:
    """The outcome that an exception means, and the sentence for the line."""
    says = f"{type(failed).__name__}: {failed}".strip().partition("\n")[0]
    if isinstance(failed, Wrong):
        return "wrong", str(failed)
    if isinstance(failed, Refused):
        return "refused", str(failed)
    starved = isinstance(failed, MemoryError | torch.OutOfMemoryError)
    if starved or "not enough memory" in says or "can't allocate memory" in says:
        return "memory", says
    return "broken", says
