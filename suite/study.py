"""Study: accuracy against sparsity: every method on every task, several seeds of each.

Lots, a task at a seed each, are dealt to as many child processes (suite/studying/child.py) as the device has
threads. Whatever ends a child costs the trial that was running its line; a fresh child trains the same dense
model again and goes on.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec.structs import replace

from suite.apart import Child
from suite.device import Device
from suite.method import DENSE, Method, methods, named
from suite.pattern import Pattern
from suite.record import Any_Line, Outcome, Run, Score, Writer
from suite.registry import Unusable, pick
from suite.stated import heading
from suite.studying import checkpoints
from suite.studying.child import DENSE_MODEL, Brought, Lot, StudyJob, Told, Trial
from suite.studying.experiment import described, lost
from suite.studying.masks import at_sparsity
from suite.task import TASKS, Task, with_data

SEEDS = {"smoke": 1, "default": 3, "full": 10}
GLOB = set("*?[")  # what makes a pattern of a name
STARTING = 10  # times the limit for imports, data and the dense model, which are no method's fault

# One thread each, which does not spin while it waits: others learn beside it.
ALONE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class StudyOptions:
    """How to study; the header of the file states it, and a resumed study must have the same."""

    extent: str = "default"
    seeds: int | None = None
    methods: tuple[str, ...] = ()  # globs; none: all
    tasks: tuple[str, ...] = ()
    budget: float | None = None  # seconds
    limit: float = 60.0  # seconds one trial may take
    plugins: tuple[str, ...] = ()
    brought: Brought | None = None
    data: str | None = None  # the folder of a task's

    def stated(self, device: Device) -> dict[str, Any]:
        """As the header has it."""
        return {
            "study": list(self.tasks),
            "extent": self.extent,
            "seeds": self.seeds or SEEDS[self.extent],
            "methods": list(self.methods),
            "threads": device.threads,
            "budget": self.budget,
            "limit": self.limit,
            "data": self.data and Path(self.data).name,
            **(self.brought.stated() if self.brought else {}),
        }


def plan(options: StudyOptions) -> list[Lot]:
    """Each task at each seed, all tasks at their first seed first.

    With a model or data of the user's, these alone where no task is named; a model's pruned checkpoints
    and their controls before any method, and alone where no method is named. What has nothing to try is left
    out, unless named. A method that is named and cannot be tried is there all the same: its line says why.
    """
    brought = options.brought
    own = [checkpoints.bring(brought)] if brought else []
    read = with_data(Path(options.data)) if options.data else []
    asked = [pick("task", name, TASKS) for name in options.tasks]
    if not read and (lacking := [one.name for one in asked if one.folder]):
        raise Unusable(f"{lacking[0]} reads its data out of a folder. Name it with --data.")
    tasks = [*own, *(asked or read)] or [one for one in TASKS.values() if not one.folder]
    chosen = list({one.name: one for one in chosen_methods(options.methods)}.values())
    tried = {task.name: (*trials(task, options, chosen),) for task in tasks}
    due = [one for one in tasks if tried[one.name] or one in asked or one in own]
    for one in due:
        tried[one.name] += tuple(refusals(one, options, tried[one.name]))
    if brought and brought.pruned:
        more = tried[own[0].name] if options.methods else ()
        tried[own[0].name] = (*checkpoints.trials(brought), *more)
    seeds = range(options.seeds or SEEDS[options.extent])
    return [Lot(task.name, seed, tried[task.name]) for seed in seeds for task in due]


def chosen_methods(globs: Sequence[str]) -> Iterator[Method]:
    """The default methods that match; a name that is none of them is put together of its parts."""
    known = [one for one in methods() if one is not DENSE]
    for glob in globs or ("*",):
        found = [one for one in known if fnmatchcase(one.name, glob)]
        yield from found or [named(glob)]


def by_default(task: Task, method: Method, extent: str) -> bool:
    """Whether a task has this method unless others are asked for."""

    def among(globs: Sequence[str]) -> bool:
        return any(fnmatchcase(method.name, glob) for glob in globs)

    return method.belongs(extent) and among(task.methods) and (extent == "full" or not among(task.later))


def trials(task: Task, options: StudyOptions, chosen: Sequence[Method]) -> Iterator[Trial]:
    """A task's patterns, each with all methods that are meant for it.

    Where methods are asked for and this extent trains none, those that train are tried as in full studies.
    """
    asked, extent = bool(options.methods), options.extent
    trained = {str(one) for one in trained_to(task, extent, asked)}
    suited = [one for one in chosen if asked or by_default(task, one, extent)]
    suited = [one for one in suited if not one.unsuited(task)]
    over: set[Method] = set()  # those that leave no weight out, which are tried without zeros, once
    for pattern in task.patterns(extent, False):
        for method in suited:
            due = method.training == "none" or str(pattern) in trained
            once = method.once and not pattern.at_run_time
            if due and method.fits(pattern) and not (once and method in over):
                yield Trial(method.name, str(at_sparsity(pattern, 0.0) if once else pattern))
                over.add(method)


def trained_to(task: Task, extent: str, asked: bool) -> Iterable[Pattern]:
    """The patterns to which models are trained."""
    return task.patterns(extent, True) or (task.patterns("full", True) if asked else ())


def refusals(task: Task, options: StudyOptions, tried: Sequence[Trial]) -> Iterator[Trial]:
    """The methods that are named and that nothing is tried of."""
    for name in dict.fromkeys(options.methods):
        if not GLOB.intersection(name) and name not in {one.method for one in tried}:
            yield Trial(name, *unfit(task, named(name), options.extent))


def unfit(task: Task, method: Method, extent: str) -> tuple[str, str]:
    """A pattern, and why a method cannot be tried on a task."""
    here, every = list(task.patterns(extent, False)), list(task.patterns("full", False))
    fitting = [one for one in (*here, *every) if method.fits(one)]
    first = str((fitting or here or every)[0])
    if why := method.unsuited(task):
        return first, why
    if not fitting:
        return first, f"{method} is for none of the patterns that {task} has"
    if method.training == "none" or set(fitting).intersection(trained_to(task, extent, True)):
        return first, f"{task} has patterns for {method} in studies of another extent: add --extent full"
    return first, f"{task} has no patterns of {method}'s that models are trained to"


def unheard(options: StudyOptions, lots: Sequence[Lot]) -> Iterator[str]:
    """A sentence on the tasks that have nothing of what --methods asks for, for a notice."""
    named = options.tasks or options.brought or options.data
    tasks = dict.fromkeys(
        [one.task for one in lots] + [name for name in TASKS if not named and not TASKS[name].folder]
    )
    for glob in dict.fromkeys(options.methods):
        having = {lot.task for lot in lots for one in lot.trials if fnmatchcase(one.method, glob)}
        if without := [name for name in tasks if name not in having]:
            yield f"--methods {glob}: nothing of that name is meant for {', '.join(without)}."


@dataclass
class Progress:
    """Where a study is, for whoever shows it."""

    done: int
    total: int
    trial: str
    left: float  # seconds


class Studying:
    """A study: lots, one file."""

    def __init__(
        self,
        lots: Sequence[Lot],
        device: Device,
        options: StudyOptions,
        file: Path,
        show: Callable[[Progress], None] = lambda _: None,
        earlier: Sequence[Any_Line] = (),
    ) -> None:
        self.lots, self.device, self.options, self.show = lots, device, options, show
        self._done = {line.key for line in earlier if isinstance(line, Score)}
        self._lock, self._stop = threading.Lock(), threading.Event()
        header = None if earlier else self.header()  # before there is a file, so that no file lacks it
        self._writer = Writer(file)
        if header:
            self._writer.write(header)
        self._began, self._measured = monotonic(), 0

    def go(self) -> None:
        """Try everything that the file does not hold yet, or as much as the budget allows.

        Stopping (Ctrl-C) ends the children within a second; what they told is in the file.
        """
        due = list(self._left(self.lots))
        hands = [due[at :: self.device.threads] for at in range(min(len(due), self.device.threads))]
        with ThreadPoolExecutor(max(1, len(hands))) as pool:
            try:
                for one in as_completed([pool.submit(self._hand, lots) for lots in hands]):
                    one.result()  # raises what went wrong in it
            finally:
                self._stop.set()
                pool.shutdown()
                self._writer.close()

    @property
    def total(self) -> int:
        """Models, the dense ones included."""
        return sum(1 + len(one.trials) for one in self.lots)

    def header(self) -> Run:
        """The first line of the file."""
        tasks = [TASKS[name] for name in dict.fromkeys(one.task for one in self.lots)]
        return heading(
            self.device,
            workloads={task.name: task.version for task in tasks},
            planned=self.total,
            options=self.options.stated(self.device),
        )

    def _left(self, lots: Iterable[Lot]) -> Iterator[Lot]:
        """What the file does not hold yet."""
        for lot in lots:
            left = [trial for trial in lot.trials if self._key(lot, trial) not in self._done]
            if left or self._key(lot, Trial(DENSE.name, DENSE.name)) not in self._done:
                yield replace(lot, trials=tuple(left))

    @staticmethod
    def _key(lot: Lot, trial: Trial) -> tuple:
        """That of the line which a trial will have."""
        return lot.task, trial.method, trial.pattern, lot.seed

    def _hand(self, lots: Sequence[Lot]) -> None:
        """One child after another until all of these lots are over."""
        while lots and not self._stop.is_set():
            lots = self._child(lots)

    def _child(self, lots: Sequence[Lot]) -> list[Lot]:
        """Run one child; what is left to try when it has ended."""
        budget = self.options.budget
        job = StudyJob(
            lots=list(lots),
            device=self.device.key,
            until=None if budget is None else max(0.0, self._began + budget - monotonic()),
            plugins=list(self.options.plugins),
            brought=self.options.brought,
            data=self.options.data,
        )
        lot, trial, running = 0, DENSE_MODEL, False
        with Child("suite.studying.child", job, Told, self.device.environment() | ALONE) as child:

            def overdue() -> str | None:
                if self._stop.is_set():
                    return "stopped"
                patience = self.options.limit * (STARTING if trial == DENSE_MODEL else 1)
                return f"took longer than {patience:g} s" if child.silence > patience else None

            for told in child.messages(overdue, self.options.limit):
                if told.fatal:
                    raise Unusable(told.fatal)
                if told.over or self._stop.is_set():
                    return []
                if told.lot is not None and told.begins is not None:
                    lot, trial, running = told.lot, told.begins, True
                if told.line is not None:
                    running = False
                    self._add(told.line)
        if self._stop.is_set():
            return []
        if not running:
            raise Unusable(f"the process that tries methods ended, and in none of them: {child.end[1]}.")
        self._lost(lots[lot], trial, *child.end)
        hopeless = lots[lot] if trial == DENSE_MODEL else None
        return list(self._left(one for one in lots if one is not hopeless))

    def _lost(self, lot: Lot, at: int, outcome: Outcome, note: str) -> None:
        """The line of the trial that ended its process."""
        trial = Trial(DENSE.name, DENSE.name) if at == DENSE_MODEL else lot.trials[at]
        task, method = TASKS[lot.task], named(trial.method)
        self._add(lost(described(task, lot.seed, self.device.key, method, trial.pattern), outcome, note))

    def _add(self, line: Score) -> None:
        """A line, on disk before this returns; a dense model that was trained again is not told again."""
        with self._lock:
            if line.key in self._done:
                return
            self._done.add(line.key)
            self._writer.write(line)
            self._measured += 1
            done = len(self._done)
            elapsed = monotonic() - self._began
            left = elapsed / self._measured * (self.total - done)
            if self.options.budget is not None:
                left = min(left, self.options.budget - elapsed)
            what = f"{line.task} {line.method} {line.pattern}"
            self.show(Progress(done, self.total, what, max(0.0, left)))
