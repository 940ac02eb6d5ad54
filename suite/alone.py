"""Alone: a kernel by itself in a visit: its terms, its answers and its times."""

from dataclasses import dataclass, field, replace
from typing import Any

from suite.case import Case
from suite.check import Question, Wrong, check, poison
from suite.claims import claims, faults
from suite.entry import Entry
from suite.held import size
from suite.kernel import Kernel, Prepared, Refused
from suite.measure import Contender
from suite.op import OPS
from suite.record import Outcome, four_digits
from suite.selector import Keeping, Select, ready
from suite.stated import ledger

UNPREPARED = Prepared(lambda *live: None)


@dataclass
class Alone(Entry[Kernel]):
    """A kernel by itself.

    asked, made, live: once it is prepared, what such a kernel is asked, what its prepare returned, and copies
        of the live operands of its own: what it does to them is its own loss.
    recent: seconds of the last call of its preparing. chosen: what its line states of what it chose.
    """

    scope: str = Kernel.scope
    asked: Question = field(init=False)
    made: Prepared = UNPREPARED
    live: tuple[Any, ...] = ()
    recent: float = 0.0
    chosen: dict[str, Any] = field(default_factory=dict)

    def end(self, outcome: Outcome, note: str) -> None:
        super().end(outcome, note)
        self.made, self.live = UNPREPARED, ()

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        return facts | self.chosen

    def admit(self, case: Case) -> None:
        """Ask the kernel's terms, which are a stranger's code too."""
        if reasons := self.of.refusals(case, self.bench.device):
            raise Refused("; ".join(reasons))

    def fit(self, asked: Question) -> None:
        """Refuse what the device cannot hold: the operands, and for a dense kernel its zeros too."""
        case, device, needed = asked.case, self.bench.device, size(asked.operands)
        if self.of.dense or self.of.filled:
            m, k = OPS[case.op].shape(case)
            needed += m * k * case.torch_dtype.itemsize
        if needed > device.memory:
            raise Refused(
                f"needs {needed / 2**30:.1f} GiB for its operands; "
                f"{device.name} has {device.memory / 2**30:.1f} GiB"
            )

    def prepare(self, asked: Question) -> None:
        """Prepare and call twice: the first compiles and pages in, the second is what conversion costs."""
        self.fit(asked)
        op, bench, whole = OPS[asked.case.op], self.bench, asked
        bench.beat("making the operands")  # what it alone is asked is worked out now
        asked = self.asked = asked.of(self.of)
        own = tuple(each.clone() if at in op.live else each for at, each in enumerate(asked.operands))
        operands = self.of.arrange(own, op.live)
        live = tuple(operands[at] for at in op.live)
        bench.beat("preparing")
        first, made = bench.clocked(lambda: ready(self.of, asked.case, operands))
        bench.beat("checking")
        first_call, answer = bench.clocked(lambda: made.run(*live))
        self.error = check(answer, asked)
        if self.of.selector and op.quality:
            self.chosen = ledger(asked.case, asked.operands) | {"quality": quality(asked, whole.whole)}
        poison(answer)
        del made, answer
        bench.beat("preparing")
        peak = bench.device.peak()
        self.setup, made = bench.clocked(lambda: ready(self.of, asked.case, operands))
        self.recent, answer = bench.clocked(lambda: made.run(*live))
        poison(answer)
        self.compile = max(0.0, first + first_call - self.setup - self.recent)
        self.peak = peak()
        self.claims = claims(made)
        if wrong := faults(self.claims, made, asked):
            raise ValueError("; ".join(wrong))
        self.made, self.live = made, live

    def enter(self) -> None:
        """Into the race, and its selector by itself beside it."""
        self.bench.beat("timing")
        self.contenders = [self.bench.timed(self.contend(self.made, self.live, self.asked))]
        if self.made.select:
            self.contenders.append(self.bench.timed(self.selecting(self.made.select)))

    def contend(self, made: Prepared, live: tuple[Any, ...], asked: Question) -> Contender:
        """The kernel as it was prepared, on these live operands."""
        return Contender(
            self.of.name,
            lambda: made.run(*live),
            (made.holds, live, tuple(shared(asked).values())),
            made.hidden,
            0 if made.hidden else size((made.holds, live)),
            self.another,
            recent=self.recent,
        )

    def another(self) -> Contender:
        """The kernel prepared anew, on copies of everything."""
        live, own = OPS[self.asked.case.op].live, tuple(each.clone() for each in self.asked.operands)
        operands = self.of.arrange(own, live)
        made = ready(self.of, self.asked.case, operands)
        return self.contend(made, tuple(operands[at] for at in live), replace(self.asked, operands=own))

    def selecting(self, select: Select) -> Contender:
        """The selector by itself, timed as the kernel is; what it keeps, only it may know."""
        live, held = self.live, (self.live, select.holds if isinstance(select, Keeping) else ())
        hidden = not isinstance(select, Keeping)
        return Contender(self.of.name, lambda: select(*live), held, hidden, 0 if hidden else size(held))

    def check_again(self) -> None:
        """The last timed answer, then one to other numbers."""
        self.bench.beat("checking again")
        timed = self.contenders[0].answer
        check(timed, self.asked)
        poison(timed)
        self.check_other()

    def check_other(self) -> None:
        """The answer to other numbers in the same memory: a kept answer shows itself."""
        asked = self.asked
        for mine, at in zip(self.live, OPS[asked.case.op].live, strict=True):
            mine.copy_(asked.twin.operands[at])
        answer = self.made.run(*self.live)
        try:
            check(answer, asked.twin)
        except Wrong as wrong:
            kept = "the answer is still that of the first ones: " if answers(answer, asked) else ""
            raise Wrong(f"with other live operands, {kept}{wrong}") from None


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
