"""Child: the child process of a study: tasks at seeds, and the methods to try on each.

`python -P -m suite.studying.child JOB` trains each dense model, makes models sparse by each method in turn,
and tells a Score of each by its pipe. A trial is announced before it begins, so that its parent knows which
one ended the process.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from suite.apart import Job, told
from suite.record import Score
from suite.registry import Unusable

if TYPE_CHECKING:
    from suite.studying.experiment import Experiment

DENSE_MODEL = -1  # the trial before the first


class Trial(msgspec.Struct, frozen=True):
    """A method to a pattern, both as they are spelled."""

    method: str
    pattern: str


class Lot(msgspec.Struct, frozen=True):
    """A task at a seed, and what is to be tried on it, the most telling first."""

    task: str
    seed: int
    trials: tuple[Trial, ...]


class Brought(msgspec.Struct, frozen=True):
    """A model of the user's: paths. calibration: a text to calibrate on; None: the corpus's beginning."""

    model: str
    corpus: str
    calibration: str | None = None
    pruned: tuple[str, ...] = ()

    def stated(self) -> dict[str, Any]:
        """As a header has it: names, for a path says something of its machine."""
        return {
            "model": Path(self.model).name,
            "corpus": Path(self.corpus).name,
            "calibration": self.calibration and Path(self.calibration).name,
            "pruned": [Path(one).name for one in self.pruned],
        }


class StudyJob(Job):
    """All a child needs to know. until: seconds after which no trial begins; each lot gets its share."""

    lots: list[Lot]
    device: str
    until: float | None = None
    plugins: list[str] = []
    brought: Brought | None = None
    data: str | None = None


class Told(msgspec.Struct, omit_defaults=True):
    """What a child tells: a trial of a lot begins, its line, or that all is over, done or out of time."""

    lot: int | None = None
    begins: int | None = None
    line: Score | None = None
    over: bool = False
    fatal: str | None = None  # why nothing can be tried


def main(file: str) -> None:
    """Try the methods of this file's job."""
    job = told(file, StudyJob)

    def tell(what: Told) -> None:
        os.write(job.pipe, msgspec.json.encode(what) + b"\n")

    try:
        learn(job, tell)
        tell(Told(over=True))
    except Unusable as mistake:
        tell(Told(fatal=str(mistake)))
    os._exit(0)  # a plug-in's threads and exit hooks are none of ours


def learn(job: StudyJob, tell: Callable[[Told], None]) -> None:
    """Each lot in turn."""
    began = perf_counter()
    import torch

    from suite.op import discover_parts
    from suite.registry import discover, pick
    from suite.studying.experiment import Experiment
    from suite.task import TASKS, with_data

    torch.set_num_threads(1)  # others learn beside it
    discover_parts()
    discover([Path(plugin) for plugin in job.plugins], folders=("workloads",))
    if job.brought:
        from suite.studying.checkpoints import bring

        bring(job.brought)
    if job.data:
        with_data(Path(job.data))
    for at, lot in enumerate(job.lots):
        until = None
        if job.until is not None:
            now = perf_counter()
            if at and now > began + job.until:
                return
            until = now + (began + job.until - now) / (len(job.lots) - at)
        try_all(Experiment(pick("task", lot.task, TASKS), lot.seed, job.device), lot.trials, at, until, tell)


def try_all(
    experiment: "Experiment",
    trials: tuple[Trial, ...],
    lot: int,
    until: float | None,
    tell: Callable[[Told], None],
) -> None:
    """The dense model, then the trials in order. Without a dense model there is nothing to try."""
    tell(Told(lot=lot, begins=DENSE_MODEL))
    dense = experiment.train_dense()
    tell(Told(line=dense))
    for at, trial in enumerate(trials if dense.outcome == "ok" else ()):
        if until is not None and perf_counter() > until:
            return
        tell(Told(lot=lot, begins=at))
        tell(Told(line=experiment.line(trial.method, trial.pattern)))


if __name__ == "__main__":
    main(sys.argv[1])
