"""Isolation: a child process measures; however it ends, its parent knows in which entry and how."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from suite.apart import Child
from suite.child import PULSE, Event, WorkJob
from suite.pulse import NOBODY, STAGES, read
from suite.record import Outcome
from suite.registry import Unusable

WHOLE_CASE = 10  # times the limit for what is no kernel's fault: operands, reference, imports, whole models


@dataclass(frozen=True)
class Ending:
    """How a child ended before its work was done: at which case and in which entry of it. None: in none."""

    outcome: Outcome
    note: str
    case: int | None
    entry: str | None


class Offspring:
    """A running child. Iterate over its events; afterwards `ending` is None if it finished its work."""

    def __init__(self, job: WorkJob, environment: Mapping[str, str], limit: float) -> None:
        self._child = Child("suite.child", job, Event, environment)
        self._pulse = self._child.folder / PULSE
        self._work, self._limit = job.work, limit
        self._seen = 0, monotonic()  # the last count of beats, and since when
        self.ending: Ending | None = None

    def events(self) -> Iterator[Event]:
        """What the child tells, as it comes. Ends with the child, which is killed when it hangs."""
        done = 0
        for event in self._child.messages(self._overdue, self._limit):
            if event.fatal:
                raise Unusable(event.fatal)
            done += event.done is not None
            yield event
        if done < len(self._work):
            outcome, note = self._child.end
            case, entry, stage = self._where()
            self.ending = Ending(outcome, f"{note} ({stage})", case, entry)

    def _where(self) -> tuple[int | None, str | None, str]:
        """At which case it was last, in which entry of it, and at what stage."""
        _, case, entry, stage = read(self._pulse)
        if case == NOBODY:
            return None, None, STAGES[stage]
        work = self._work[case]
        return case, None if entry == NOBODY else work.entries[entry], work.stages[stage]

    def _overdue(self) -> str | None:
        """Why to kill it: its pulse stands still for longer than a step may take."""
        beats, case, entry, stage = read(self._pulse)
        if beats != self._seen[0]:
            self._seen = beats, monotonic()
        of_kernel = 0 <= entry < len(self._work[case].kernels) or stage >= len(STAGES)
        patience = self._limit if of_kernel else WHOLE_CASE * self._limit
        return f"took longer than {patience:g} s" if monotonic() - self._seen[1] > patience else None

    def __enter__(self) -> "Offspring":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()
