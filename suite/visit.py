"""Visit: one case measured once: every kernel prepared, checked, timed in turn, and checked again.

Where the case is seen in a layer, or is of a whole model, its kernels race there too, in the same rounds.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from suite import clocks
from suite.alone import Alone, shared
from suite.case import Case
from suite.check import Question, question
from suite.device import Device, Noise
from suite.end_to_end import racing
from suite.entry import Bench, Entry, failure
from suite.intact import Intact
from suite.kernel import Kernel
from suite.layer import at_work
from suite.measure import Effort, race
from suite.metered import Metered
from suite.op import make_operands
from suite.record import Result
from suite.stated import describe, ledger
from suite.version import Version
from suite.workload import WORKLOADS

Beat = Callable[[str, str], None]  # entry ("" for none), stage: says that this process is alive, and where


@dataclass
class Visit:
    """The setting of a visit: everything that is not the case itself."""

    device: Device
    number: int
    cache: str = "cold"
    effort: Effort = field(default_factory=Effort)
    metered: bool = False  # energy windows instead of a race
    beat: Beat = lambda entry, stage: None

    def results(
        self, workload: str, case: Case, kernels: Sequence[Kernel], versions: Sequence[Version] = ()
    ) -> Iterator[Result]:
        """A line for each entry. Whatever one does short of killing the process is an outcome.

        versions: of the model that the case is of.
        """
        alone = [(Metered if self.metered else Alone)(one, self.bench(one.name)) for one in kernels]
        for one in alone:
            one.attempt(one.admit, case)
        around, facts, noise = self.measure([one for one in alone if one.stands], workload, case, versions)
        ended = {one.of.name for one in alone if not one.stands}
        around = [one for one in around if one.of.name not in ended]  # the kernel's own line says why
        for one in (*around, *alone):  # last those that a resumed run goes by
            about = describe(workload, case, one.of, self.device, self.number, self.cache_state)
            yield Result(**about | one.told(facts, noise))

    def measure(
        self, alone: Sequence[Alone], workload: str, case: Case, versions: Sequence[Version]
    ) -> tuple[list[Entry], dict[str, Any], Noise]:
        """Entries around the kernels, what every line states, and what disturbed their race."""
        facts: dict[str, Any] = {}
        if not alone:
            return [], facts, Noise()
        try:
            asked, facts = self.ask(case)
            intact = Intact(guarded(alone, asked))
        except Exception as failed:
            for one in alone:
                one.end(*failure(failed))
            return [], facts, Noise()
        self.prepare(alone, asked, intact)
        around = [] if self.metered else self.around(alone, asked, workload, versions)
        noise = self.race(alone, around, asked, intact)
        for one in (*alone, *around):
            one.attempt(one.check_again)
        return around, facts, noise

    def bench(self, name: str) -> Bench:
        """Where the entry of this name is prepared and timed."""
        return Bench(self.device, self.cache, partial(self.beat, name))

    @property
    def cache_state(self) -> str:
        """What a timed call finds."""
        return "rotating" if self.metered else self.cache

    def ask(self, case: Case) -> tuple[Question, dict[str, Any]]:
        """The operands, on the device, with their answer; and what every line of the case states."""
        self.beat("", "making the operands")
        operands = make_operands(case)
        asked = question(case, operands)
        return replace(asked, operands=self.device.place(operands)), ledger(case, operands)

    def prepare(self, alone: Sequence[Alone], asked: Question, intact: Intact) -> None:
        """One kernel after another, and whoever harms the others by it is told."""
        for one in alone:
            one.attempt(one.prepare, asked)
            if changed := intact.changed():
                one.end("wrong", f"it writes into its operand {changed[0]}, which is not its own")
            if replaced := clocks.replaced():
                one.end("wrong", f"it replaces {replaced[0]}, by which others take its time")

    def around(
        self, alone: Sequence[Alone], asked: Question, workload: str, versions: Sequence[Version]
    ) -> list[Entry]:
        """The kernels that are prepared, at work in the layer of the case; versions of its model."""
        self.beat("", "making the operands")
        standing = [one for one in alone if one.stands]
        layer = WORKLOADS[workload].layer if workload in WORKLOADS else None
        inside = at_work(layer, asked, standing) if layer else []
        return [*inside, *racing(versions, asked, standing, self.bench)]

    def race(self, alone: Sequence[Alone], around: Sequence[Entry], asked: Question, intact: Intact) -> Noise:
        """Time all that are still standing, round-robin."""
        watched = self.device.noise()
        entries = [*alone, *around]
        for one in entries:
            one.attempt(one.enter)
        contenders = [each for one in entries for each in one.contenders]
        order = random.Random(f"{asked.case} {self.number}")
        race(contenders, self.effort, order, lambda one: self.beat(one.name, "timing"))
        for one in entries:
            for failed in [each.failed for each in one.contenders if each.failed]:
                one.end(*failure(failed))
        noise = watched()
        if changed := intact.changed():
            for one in alone:
                if one.stands:
                    one.end("broken", f"some kernel changed {changed[0]} while this case was timed")
        return noise


def guarded(alone: Sequence[Alone], asked: Question) -> dict[str, Any]:
    """The fixed operands, those of dense kernels too, that no kernel may change."""
    apart = any(one.of.dense for one in alone) and asked.whole is not asked
    whole = shared(asked.whole) if apart else {}
    return shared(asked) | {f"{name} of dense kernels": one for name, one in whole.items()}
