"""Visit: one case measured once: every kernel prepared, checked, timed in turn, and checked again."""

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from suite import clocks
from suite.case import Case
from suite.check import Question, Wrong, check, poison, question
from suite.claims import claims, faults
from suite.device import Device, Noise
from suite.energy import meter_calls
from suite.entry import Entry, failure
from suite.held import size
from suite.intact import Intact
from suite.kernel import Kernel, Prepared, Refused
from suite.layer import Bench, Layer
from suite.measure import Contender, Effort, race
from suite.op import OPS, make_operands
from suite.record import Result, four_digits
from suite.selector import Keeping, Select, ready
from suite.stated import describe, ledger
from suite.workload import WORKLOADS, Workload

STAGES = ("making the operands", "preparing", "checking", "timing", "checking again", "metering")

Beat = Callable[[str, str], None]  # kernel ("" for none), stage: says that this process is alive, and where

NOT_CHOSEN = "not chosen: energy is metered for the best dense and the best sparse kernel of a group"


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
        layered: list[Entry] = []
        for one in entries:
            self.attempt(one, lambda one=one: self.admit(one, case))
        noise, facts = Noise(), {}
        if standing := [one for one in entries if one.outcome == "ok"]:
            try:
                asked, facts = self.ask(case)
                intact = Intact(self.guarded(standing, asked))
            except Exception as failed:
                for one in standing:
                    one.end(*failure(failed))
            else:
                for one in standing:
                    self.attempt(one, lambda one=one: self.fits(one, asked))
                noise, layered = self.measure(standing, asked, intact, WORKLOADS.get(workload))
        for one in layered:  # before those that a resumed run goes by
            if not one.inside or one.inside.outcome == "ok":  # else the line of the kernel itself says why
                yield self.line(one, workload, case, facts, noise)
        for one in entries:
            yield self.line(one, workload, case, facts, noise)

    def admit(self, one: Entry, case: Case) -> None:
        """Ask the kernel's terms, which are a stranger's code too."""
        if reasons := one.kernel.refusals(case, self.device):
            raise Refused("; ".join(reasons))

    def fits(self, one: Entry, asked: Question) -> None:
        """Refuse what the device cannot hold: the operands, and for a dense kernel its zeros too."""
        case, needed = asked.case, size(asked.operands)
        if one.kernel.dense or one.kernel.filled:
            m, k = OPS[case.op].shape(case)
            needed += m * k * case.torch_dtype.itemsize
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

    def measure(
        self, entries: Sequence[Entry], asked: Question, intact: Intact, workload: Workload | None
    ) -> tuple[Noise, list[Entry]]:
        """Everything between having a question and knowing what became of each kernel.

        And of the same ones at work in a layer, where the workload has one around such a case.
        """
        for one in entries:
            self.attempt(one, lambda one=one: self.prepare(one, asked))
            if changed := intact.changed():
                one.end("wrong", f"it writes into its operand {changed[0]}, which is not its own")
            if replaced := clocks.replaced():
                one.end("wrong", f"it replaces {replaced[0]}, by which others take its time")
        surround = workload.layer if workload and not self.metered else None
        layered = self.surrounded(entries, asked, surround) if surround else []
        watched = self.device.noise()
        if self.metered:
            for one in entries:
                self.attempt(one, lambda one=one: self.meter(one, asked))
        else:
            self.race(entries, asked, layered)
        noise = watched()
        if changed := intact.changed():
            for one in entries:
                if one.outcome == "ok":
                    one.end("broken", f"some kernel changed {changed[0]} while this case was timed")
        for one in entries:
            self.attempt(one, lambda one=one: self.recheck(one, asked))
        for one in layered:
            look = self.look_at_model if one.layer and one.layer.versions else self.look_into
            self.attempt(one, lambda one=one, look=look: look(one, asked))
        return noise, layered

    def surrounded(
        self, entries: Sequence[Entry], asked: Question, surround: Callable[[Question], Layer | None]
    ) -> list[Entry]:
        """Those that are prepared, each to be put to work in the layer of the case; none if it has none."""
        made = [Entry(one.kernel, inside=one) for one in entries if one.outcome == "ok"]
        try:
            layer = surround(asked)
        except Exception as failed:
            for one in made:
                one.end(*failure(failed))
            return made
        if layer and layer.versions:
            made = [Entry(version) for version in layer.versions]
        for one in made:
            one.layer = layer
        return made if layer else []

    def guarded(self, entries: Sequence[Entry], asked: Question) -> dict[str, Any]:
        """The fixed operands, those of dense kernels too, that no kernel may change."""
        apart = any(one.kernel.dense for one in entries) and asked.whole is not asked
        whole = shared(asked.whole) if apart else {}
        return shared(asked) | {f"{name} of dense kernels": one for name, one in whole.items()}

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
        kernel, op, whole = one.kernel, OPS[asked.case.op], asked
        self.beat(kernel.name, "making the operands")  # what it alone is asked is worked out now
        asked = asked.of(kernel)
        own = tuple(each.clone() if at in op.live else each for at, each in enumerate(asked.operands))
        operands = kernel.arrange(own, op.live)
        live = tuple(operands[at] for at in op.live)
        self.beat(kernel.name, "preparing")
        first, made = self.clocked(lambda: ready(one.kernel, asked.case, operands))
        self.beat(kernel.name, "checking")
        first_call, answer = self.clocked(lambda: made.run(*live))
        one.error = check(answer, asked)
        if kernel.selector and op.quality:
            one.chosen = ledger(asked.case, asked.operands) | {"quality": quality(asked, whole.whole)}
        poison(answer)
        del made, answer
        self.beat(kernel.name, "preparing")
        peak = self.device.peak()
        one.setup, made = self.clocked(lambda: ready(one.kernel, asked.case, operands))
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
                ready(one.kernel, asked.case, operands),
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

    def race(self, entries: Sequence[Entry], asked: Question, layered: Sequence[Entry]) -> None:
        """Time all that are still standing, round-robin."""
        for one in entries:
            self.attempt(one, lambda one=one: self.enter(one, asked))
        for one in layered:
            if one.layer and one.layer.versions:
                self.attempt(one, lambda one=one: self.enter_model(one, entries))
            else:
                self.attempt(one, lambda one=one: self.enter_inside(one))
        entries = [*entries, *layered]
        contenders = [each for one in entries for each in (one.contender, one.selecting) if each]
        order = random.Random(f"{asked.case} {self.number}")
        race(contenders, self.effort, order, lambda c: self.beat(c.name, "timing"))
        for one in entries:
            for each in (one.contender, one.selecting):
                if each and each.failed:
                    one.end(*failure(each.failed))

    def enter(self, one: Entry, asked: Question) -> None:
        """Into the race, with the timer that its device chooses for it."""
        if one.made is None:
            return
        self.beat(one.kernel.name, "timing")
        contender = self.contend(one, one.made, one.live, asked.of(one.kernel))
        contender.timer = self.device.timer(contender, self.cache)
        one.contender = contender
        if one.made.select:
            one.selecting = self.alone(one, one.made.select)

    def enter_inside(self, one: Entry) -> None:
        """Into the race, at work in its layer."""
        layer, inner = one.layer, one.inside
        if not (layer and inner and inner.made and inner.claims):
            return
        self.beat(one.kernel.name, "timing")
        run, hidden, held = inner.made.run, inner.made.hidden, (inner.made.holds, layer.holds)
        touched = 0 if hidden else size(held)
        one.contender = Contender(one.kernel.name, lambda: layer.run(run), held, hidden, touched)
        one.contender.timer = self.device.timer(one.contender, self.cache)
        executed = None if inner.claims.executed is None else inner.claims.executed + layer.flops
        one.claims = replace(inner.claims, executed=executed, values=None, metadata=None)
        one.chosen = inner.chosen

    def enter_model(self, one: Entry, entries: Sequence[Entry]) -> None:
        """Into the race, a version of a whole model, which chooses among the kernels that stand.

        What is kept between layers no one can name, so the caches are emptied whole before a cold call.
        """
        standing = sorted((each for each in entries if each.made), key=lambda each: each.recent)
        bench = Bench(self.device, self.cache, lambda kernel: self.beat(kernel.name, "preparing"))
        self.beat("", "preparing")
        one.setup, made = self.clocked(lambda: one.kernel.prepare([each.kernel for each in standing], bench))
        one.contender = Contender("", made.run, hidden=True)  # its time is charged to no kernel
        one.contender.recent, _ = self.clocked(made.run)
        one.contender.timer = self.device.timer(one.contender, self.cache)
        one.claims = claims(made)

    def look_at_model(self, one: Entry, asked: Question) -> None:
        """The last timed answer, then that to other inputs: a kept answer shows itself."""
        layer = one.layer
        if layer is None or one.contender is None:
            return
        self.beat("", "checking again")
        one.error = layer.check(one.contender.answer, None)
        layer.turn()
        try:
            one.error = max(one.error, layer.check(one.contender.call(), None))
        finally:
            layer.turn()

    def look_into(self, one: Entry, asked: Question) -> None:
        """What the kernel answered at work in its layer, and what the layer made of it."""
        layer, inner = one.layer, one.inside
        if not (layer and inner and inner.made and one.contender):
            return
        self.beat(one.kernel.name, "checking again")
        run, given = inner.made.run, []

        def attend(*live: Any) -> Any:
            given.append(run(*live))
            return given[-1]

        again = layer.run(attend)
        check(given[0], asked.of(one.kernel))
        one.error = max(layer.check(answer, given[0]) for answer in (one.contender.answer, again))

    def alone(self, one: Entry, select: Select) -> Contender:
        """The selector by itself, timed as the kernel is; what it keeps, only it may know."""
        held = (one.live, select.holds if isinstance(select, Keeping) else ())
        hidden = not isinstance(select, Keeping)
        made = Contender(
            one.kernel.name, lambda: select(*one.live), held, hidden, 0 if hidden else size(held)
        )
        made.timer = self.device.timer(made, self.cache)
        return made

    def meter(self, one: Entry, asked: Question) -> None:
        """An energy window over rotating operands."""
        meter = self.device.meter
        if meter is None or one.made is None:
            return
        self.beat(one.kernel.name, "metering")
        first = self.contend(one, one.made, one.live, asked.of(one.kernel))
        turns = [first]
        for _ in range(self.device.rotation(first) - 1):
            if first.again:
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
        asked = asked.of(one.kernel)
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
        outcome, note = one.outcome, one.note
        if self.metered and outcome == "ok" and not one.energy:
            outcome, note = "refused", one.energy_note or self.device.no_meter
        about = describe(workload, case, one.kernel, self.device, self.number, self.cache_state)
        facts = facts | one.chosen
        return Result(
            **about,
            scope=one.layer.scope if one.layer else "layer" if one.inside else "kernel",
            outcome=outcome,
            note=note,
            energy_note=one.energy_note or (None if one.energy else self.energy_note),
            **(one.layer.stated(facts) if one.layer else facts),
            **one.measured(noise, self.device.meter.source if self.device.meter else None),
        )

    @property
    def cache_state(self) -> str:
        """What a timed call finds."""
        return "rotating" if self.metered else self.cache

    @property
    def energy_note(self) -> str:
        """Why a line has no joules."""
        return NOT_CHOSEN if self.device.meter else self.device.no_meter


def quality(chosen: Question, whole: Question) -> dict[str, float]:
    """What was lost by leaving out what was not chosen."""
    measure = OPS[chosen.case.op].quality
    assert measure
    found = measure(chosen.case, (chosen.operands, chosen.expected), (whole.operands, whole.expected))
    return {name: four_digits(value) for name, value in found.items()}


def shared(asked: Question) -> dict[str, Any]:
    """The fixed operands by name: all kernels of a case work on the same ones."""
    op = OPS[asked.case.op]
    return {name: asked.operands[at] for at, name in enumerate(op.operands) if at not in op.live}


def answers(answer: Any, asked: Question) -> bool:
    """Whether this is the answer to that question."""
    try:
        check(answer, asked)
    except Wrong:
        return False
    return True
