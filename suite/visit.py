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
from suite.claims import Claims, claims, faults
from suite.device import Device, Noise
from suite.energy import Energy, meter_calls
from suite.held import size
from suite.intact import Intact
from suite.kernel import Kernel, Prepared, Refused, prepared
from suite.measure import Contender, Effort, race
from suite.op import OPS, make_operands
from suite.record import Outcome, Result, four_digits
from suite.registry import Unusable
from suite.sparse import Sparse, structure

STAGES = ("making the operands", "preparing", "checking", "timing", "checking again", "metering")

Beat = Callable[[str, str], None]  # kernel ("" for none), stage: says that this process is alive, and where

NOT_CHOSEN = "not chosen: energy is metered for the best dense and the best sparse kernel of a group"

STARVED = ("not enough memory", "can't allocate memory", "alloc_cpu", "bad allocation")  # as torch words it


@dataclass
class Entry:
    """A kernel in this visit, and what became of it."""

    kernel: Kernel
    made: Prepared | None = None
    live: tuple[Any, ...] = ()  # its own copies: what it does to them is its own loss
    contender: Contender | None = None
    claims: Claims | None = None
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
            self.attempt(one, lambda one=one: self.admit(one, case))
        noise, facts = Noise(), {}
        if standing := [one for one in entries if one.outcome == "ok"]:
            try:
                asked, facts = self.ask(case)
                intact = Intact(shared(asked))
            except Exception as failed:
                for one in standing:
                    one.end(*failure(failed))
            else:
                for one in standing:
                    self.attempt(one, lambda one=one: self.fits(one, asked))
                noise = self.measure(standing, asked, intact)
        for one in entries:
            yield self.line(one, workload, case, facts, noise)

    def admit(self, one: Entry, case: Case) -> None:
        """Ask the kernel's terms, which are a stranger's code too."""
        if reasons := one.kernel.refusals(case, self.device):
            raise Refused("; ".join(reasons))

    def fits(self, one: Entry, asked: Question) -> None:
        """Refuse what the device cannot hold: the operands, and for a dense kernel its zeros too."""
        case, needed = asked.case, size(asked.operands)
        if one.kernel.dense:
            needed += case["m"] * case["k"] * case.torch_dtype.itemsize
        if needed > self.device.memory:
            raise Refused(
                f"needs {needed / 2**30:.1f} GiB for its operands; "
                f"{self.device.name} has {self.device.memory / 2**30:.1f} GiB"
            )

    def ask(self, case: Case) -> tuple[Question, dict[str, Any]]:
        """The operands, on the device, with their answer; and what every line of the case states."""
        self.beat("", "making the operands")
        operands = make_operands(case)
        asked = question(case, operands)
        return replace(asked, operands=self.device.place(operands)), ledger(case, operands)

    def measure(self, entries: Sequence[Entry], asked: Question, intact: Intact) -> Noise:
        """Everything between having a question and knowing what became of each kernel."""
        for one in entries:
            self.attempt(one, lambda one=one: self.prepare(one, asked))
            if changed := intact.changed():
                one.end("wrong", f"it writes into its operand {changed[0]}, which is not its own")
        watched = self.device.noise()
        if self.metered:
            for one in entries:
                self.attempt(one, lambda one=one: self.meter(one, asked))
        else:
            self.race(entries, asked)
        noise = watched()
        if changed := intact.changed():
            for one in entries:
                if one.outcome == "ok":
                    one.end("broken", f"some kernel changed {changed[0]} while this case was timed")
        for one in entries:
            self.attempt(one, lambda one=one: self.recheck(one, asked))
        return noise

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
        """Prepare and call twice: the first compiles and pages in, the second is what conversion costs."""
        kernel, op = one.kernel, OPS[asked.case.op]
        own = tuple(each.clone() if at in op.live else each for at, each in enumerate(asked.operands))
        operands = kernel.arrange(own, op.live)
        live = tuple(operands[at] for at in op.live)
        self.beat(kernel.name, "preparing")
        first, made = self.clocked(lambda: prepared(kernel, operands))
        self.beat(kernel.name, "checking")
        first_call, answer = self.clocked(lambda: made.run(*live))
        one.error = check(answer, asked)
        poison(answer)
        del made, answer
        self.beat(kernel.name, "preparing")
        peak = self.device.peak()
        one.setup, made = self.clocked(lambda: prepared(kernel, operands))
        one.recent, answer = self.clocked(lambda: made.run(*live))
        poison(answer)
        one.compile = max(0.0, first + first_call - one.setup - one.recent)
        one.peak = peak()
        one.claims = claims(made)
        if wrong := faults(one.claims, made, asked):
            raise ValueError("; ".join(wrong))
        one.made, one.live = made, live

    def clocked(self, make: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds it takes to make something, the device's work included, and the thing."""
        began = perf_counter()
        made = make()
        self.device.wait()
        return perf_counter() - began, made

    def contend(self, one: Entry, made: Prepared, live: tuple[Any, ...], asked: Question) -> Contender:
        """A prepared kernel on these live operands, and how to make another on copies of everything."""

        def again() -> Contender:
            op = OPS[asked.case.op]
            own = tuple(each.clone() for each in asked.operands)
            operands = one.kernel.arrange(own, op.live)
            return self.contend(
                one,
                prepared(one.kernel, operands),
                tuple(operands[at] for at in op.live),
                replace(asked, operands=own),
            )

        return Contender(
            one.kernel.name,
            lambda: made.run(*live),
            (made.holds, live, tuple(shared(asked).values())),
            made.hidden,
            0 if made.hidden else size((made.holds, live)),
            again,
            recent=one.recent,
        )

    def race(self, entries: Sequence[Entry], asked: Question) -> None:
        """Time all that are still standing, round-robin."""
        for one in entries:
            self.attempt(one, lambda one=one: self.enter(one, asked))
        contenders = [one.contender for one in entries if one.contender]
        order = random.Random(f"{asked.case} {self.number}")
        race(contenders, self.effort, order, lambda c: self.beat(c.name, "timing"))
        for one in entries:
            if one.contender and one.contender.failed:
                one.end(*failure(one.contender.failed))

    def enter(self, one: Entry, asked: Question) -> None:
        """Into the race, with the timer that its device chooses for it."""
        if one.made is None:
            return
        self.beat(one.kernel.name, "timing")
        contender = self.contend(one, one.made, one.live, asked)
        contender.timer = self.device.timer(contender, self.cache)
        one.contender = contender

    def meter(self, one: Entry, asked: Question) -> None:
        """An energy window over rotating operands."""
        meter = self.device.meter
        if meter is None or one.made is None:
            return
        self.beat(one.kernel.name, "metering")
        first = self.contend(one, one.made, one.live, asked)
        turns = [first]
        while first.again and len(turns) < self.device.rotation(first):
            turns.append(first.again())
        try:
            one.energy = meter_calls(
                self.device.bursts([each.call for each in turns]),
                meter,
                beat=lambda: self.beat(one.kernel.name, "metering"),
                wait=self.device.wait,
            )
            one.energy_note = one.energy.note
        except OSError as silent:
            one.energy_note = str(silent)

    def recheck(self, one: Entry, asked: Question) -> None:
        """The last timed answer, then other numbers in the same memory: a kept answer shows itself."""
        if one.made is None:
            return
        self.beat(one.kernel.name, "checking again")
        if one.contender:
            check(one.contender.answer, asked)
            poison(one.contender.answer)
        op = OPS[asked.case.op]
        for mine, at in zip(one.live, op.live, strict=True):
            mine.copy_(asked.twin.operands[at])
        answer = one.made.run(*one.live)
        try:
            check(answer, asked.twin)
        except Wrong as wrong:
            kept = "the answer is still that of the first ones: " if answers(answer, asked) else ""
            raise Wrong(f"with other live operands, {kept}{wrong}") from None

    def line(self, one: Entry, workload: str, case: Case, facts: dict[str, Any], noise: Noise) -> Result:
        """What became of a kernel, as a line."""
        measured: dict[str, Any] = {}
        if one.outcome == "ok" and one.claims:
            measured = {
                "error": four_digits(one.error or 0.0),
                "setup_seconds": one.setup and four_digits(one.setup),
                "compile_seconds": four_digits(one.compile or 0.0),
                "peak_bytes": one.peak,
                "flops_executed": one.claims.executed,
                "bytes_values": one.claims.values,
                "bytes_metadata": one.claims.metadata,
                "algorithm": one.claims.algorithm,
                "executed_pattern": one.claims.executed_pattern,
                "foreign": noise.foreign,
                "steal": noise.steal,
                "clock_mhz": noise.clock_mhz,
                "throttle": noise.throttle,
            }
        if contender := one.contender:
            measured |= {
                "seconds": [four_digits(second) for second in contender.seconds],
                "calls": len(contender.seconds),
                "discarded": contender.discarded,
                "timer": contender.timer and contender.timer.name,
                "stopped": contender.stopped,
            }
        if energy := one.energy:
            measured |= {
                "seconds": [four_digits(energy.seconds)],
                "calls": energy.calls,
                "timer": "window",
                "joules_counter": energy.counter and four_digits(energy.counter),
                "joules_integral": energy.integral and four_digits(energy.integral),
                "idle_watts": energy.idle_watts and four_digits(energy.idle_watts),
                "energy_source": self.device.meter and self.device.meter.source,
            }
        outcome, note = one.outcome, one.note
        if self.metered and outcome == "ok" and not one.energy:
            outcome, note = "refused", one.energy_note or self.device.no_meter
        about = describe(workload, case, one.kernel, self.device, self.number, self.cache_state)
        return Result(
            **about,
            outcome=outcome,
            note=note,
            energy_note=one.energy_note or (None if one.energy else self.energy_note),
            **facts,
            **measured,
        )

    @property
    def cache_state(self) -> str:
        """What a timed call finds."""
        return "rotating" if self.metered else self.cache

    @property
    def energy_note(self) -> str:
        """Why a line has no joules."""
        return NOT_CHOSEN if self.device.meter else self.device.no_meter


def describe(
    workload: str, case: Case, kernel: Kernel, device: Device, visit: int, cache: str
) -> dict[str, Any]:
    """What a line says whatever became of the kernel."""
    return {
        "device": device.key,
        "workload": workload,
        "op": case.op,
        "case": str(case),
        "sizes": dict(case.sizes),
        "pattern": str(case.pattern),
        "dtype": case.dtype,
        "seed": case.seed,
        "data": case.data,
        "phase": case.regime,
        "kernel": kernel.name,
        "kernel_hash": kernel.hash,
        "dense": kernel.dense,
        "ids": list(kernel.ids),
        "execution": kernel.execution,
        "visit": visit,
        "cache": cache,
        "threads": device.threads,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def shared(asked: Question) -> dict[str, Any]:
    """The fixed operands by name: all kernels of a case work on the same ones."""
    op = OPS[asked.case.op]
    return {name: asked.operands[at] for at, name in enumerate(op.operands) if at not in op.live}


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
        "flops_nominal": op.nominal(case, operands),
        "flops_useful": op.useful(case, operands),
        "bytes_live": op.live_bytes(case, operands),
    }


def answers(answer: Any, asked: Question) -> bool:
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
    if isinstance(failed, Refused | Unusable):
        return "refused", str(failed)
    starved = isinstance(failed, MemoryError | torch.OutOfMemoryError)
    if starved or any(words in says for words in STARVED):
        return "memory", says
    return "broken", says
