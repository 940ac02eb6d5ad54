"""End to end: a version of a whole model in a visit, raced beside the kernels that it chooses among."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from suite.alone import Alone
from suite.check import Question
from suite.claims import claims
from suite.entry import Bench, Entry, lost
from suite.kernel import Kernel
from suite.measure import Contender
from suite.version import Version
from suite.whole import Model, whole


@dataclass(kw_only=True)
class EndToEnd(Entry[Version]):
    """A version of the model of a case. able: the kernels of the case that stand, the quickest first."""

    scope: str = Version.scope
    model: Model
    able: Sequence[Kernel]

    def stated(self, facts: dict[str, Any]) -> dict[str, Any]:
        return self.model.stated(facts)

    def enter(self) -> None:
        """Into the race, with the kernels that it chose.

        What is kept between layers no one can name, so the caches are emptied whole before a cold call.
        """
        self.bench.beat("preparing")
        self.setup, made = self.bench.clocked(lambda: self.of.prepare(self.model, self.able, self.bench))
        self.bench.beat("preparing")
        recent, _ = self.bench.clocked(made.run)
        self.contenders = [self.bench.timed(Contender(self.of.name, made.run, hidden=True, recent=recent))]
        self.claims = claims(made)

    def check_again(self) -> None:
        """The last timed answer, then that to other inputs: a kept answer shows itself."""
        self.bench.beat("checking again")
        call, model = self.contenders[0], self.model
        self.error = model.check(call.answer)
        model.turn()
        try:
            self.error = max(self.error, model.check(call.call()))
        finally:
            model.turn()


def racing(
    versions: Sequence[Version], asked: Question, alone: Sequence[Alone], bench: Callable[[str], Bench]
) -> list[Entry]:
    """Versions of the model of a case, to choose among these kernels. bench(name): of an entry so called."""
    if not versions:
        return []
    bench(versions[0].name).beat("making the operands")  # should that end the process, the next one goes on
    try:
        model = whole(asked)
    except Exception as failed:
        return [lost(one, bench(one.name), one.scope, failed) for one in versions]
    able = [one.of for one in sorted(alone, key=lambda one: one.recent)]
    return [EndToEnd(one, bench(one.name), model=model, able=able) for one in versions]
