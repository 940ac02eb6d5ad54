"""Child: the child process of a study: tasks at seeds, and the methods to try on each.

`python -P -m suite.studying.child JOB` trains each dense model, makes models sparse by each method in turn,
and tells a Score of each by its pipe. A trial is announced before it begins, so that its parent knows which
one ended the process.
"""

import math
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
    """A method to a pattern, both as they are spelled. unfit: why it cannot be tried, which its line says."""

    method: str
    pattern: str
    unfit: str = ""


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
    """All a child needs to know. until: seconds after which no trial begins."""

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
    """Each lot in turn. Each gets the same share of the time; what is left of it goes to those cut short."""
    end = math.inf if job.until is None else perf_counter() + job.until
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
    begun = dict.fromkeys(range(len(job.lots)), 0)  # of lots that are not over, how many trials
    experiment = None
    while begun:
        for turn, (at, after) in enumerate(list(begun.items())):
            if experiment and perf_counter() > end:
                return
            lot, share = job.lots[at], (end - perf_counter()) / (len(begun) - turn)
            experiment = Experiment(pick("task", lot.task, TASKS), lot.seed, job.device)
            begun[at] = try_all(experiment, lot.trials, at, after, perf_counter() + share, tell)
        begun = {at: after for at, after in begun.items() if after < len(job.lots[at].trials)}


def try_all(
    experiment: "Experiment",
    trials: tuple[Trial, ...],
    lot: int,
    after: int,
    until: float,
    tell: Callable[[Told], None],
) -> int:
    """The dense model, then the trials in order after so many; how many have begun when the time is over.

    Without a dense model there is nothing to try.
    """
    tell(Told(lot=lot, begins=DENSE_MODEL))
    dense = experiment.train_dense()
    tell(Told(line=dense))
    if dense.outcome != "ok":
        return len(trials)
    for at, trial in enumerate(trials[after:], after):
        if perf_counter() > until:
            return at
        tell(Told(lot=lot, begins=at))
        tell(Told(line=experiment.line(trial.method, trial.pattern, trial.unfit)))
    return len(trials)


if __name__ == "__main__":
    main(sys.argv[1])
