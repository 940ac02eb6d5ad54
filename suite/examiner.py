"""Examiner: kernels examined in a child process; one that ends it or hangs is named, the others go on.

`python -P -m suite.examiner PAPER` tells words by its pipe. A trial is announced before it begins, so that
the last word of a process that died names what killed it.
"""

import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec

from suite.apart import Child, Job, told
from suite.registry import Unusable

STARTING = 120.0  # seconds it may take to import everything, which is no kernel's fault


class Paper(Job):
    """What is to be examined: kernels by name, and the files that hold strangers' ones."""

    kernels: list[str]
    plugins: list[str]


class Word(msgspec.Struct, omit_defaults=True):
    """A trial begins, or with an outcome: has ended; a kernel is done."""

    kernel: str
    trial: str = ""
    outcome: str = ""
    note: str = ""
    done: bool = False


def examined(
    kernels: Sequence[str], plugins: Sequence[str], limit: float
) -> Generator[tuple[str, list[Word]]]:
    """Each kernel with the words on its trials, as soon as it is done.

    One that dies or takes longer than `limit` seconds over a trial has that as its last word: its other
    trials are left out, and a fresh child examines the kernels after it.
    """
    left = list(kernels)
    while left:
        paper = Paper(kernels=left, plugins=list(plugins))
        # Threads that spin while they wait are for timing.
        with Child("suite.examiner", paper, Word, {"OMP_WAIT_POLICY": "passive"}) as child:
            for name, words in verdicts(child, limit):
                left = left[left.index(name) + 1 :]
                yield name, words


def verdicts(child: Child[Word], limit: float) -> Generator[tuple[str, list[Word]]]:
    """Each kernel it got to, the one that ended it included."""
    heard: list[Word] = []
    last: Word | None = None

    def overdue() -> str | None:
        patience = limit if last else STARTING
        return f"took longer than {patience:g} s" if child.silence > patience else None

    for last in child.messages(overdue, limit):
        if last.outcome:
            heard.append(last)
        if last.done:
            yield last.kernel, heard
            heard = []
    outcome, note = child.end
    if last is None:
        raise Unusable(f"no kernel could be examined: {note}.")
    if not last.done:
        yield last.kernel, [*heard, Word(last.kernel, last.trial or "no trial", outcome, note)]


def main(file: str) -> None:
    """Examine what this file lists."""
    paper = told(file, Paper)

    from suite import devices
    from suite.op import discover_parts
    from suite.registry import discover, pick
    from suite.selector import entries

    here = devices.kinds()
    here.get("cuda", here["cpu"]).confine()
    discover_parts()
    discover([Path(plugin) for plugin in paper.plugins], folders=("kernels", "workloads"))
    there = entries()

    def tell(word: Word) -> None:
        os.write(paper.pipe, msgspec.json.encode(word) + b"\n")

    for name in paper.kernels:
        examine_here(pick("kernel", name, there), here, tell)
        tell(Word(name, done=True))
    os._exit(0)  # a plug-in's threads and exit hooks are none of ours


def examine_here(kernel, here, tell) -> None:
    """All trials of a kernel on a device of its kind; where there is none, its only word is that."""
    if kernel.on in here:
        examine_all(kernel, here[kernel.on], tell)
    else:
        nowhere = f"runs on {kernel.on}, and there is no such device here"
        tell(Word(kernel.name, "all trials", "refused", nowhere))


def examine_all(kernel, device, tell) -> None:
    """All trials of a kernel; one that there can be none for says so instead."""
    from suite.conformance import cases_for, examine

    tell(Word(kernel.name))
    try:
        trials = list(cases_for(kernel))
    except (KeyError, ValueError) as unknown:
        tell(Word(kernel.name, "no trial", "broken", f"{type(unknown).__name__}: {unknown}"))
        return
    for trial in trials:
        tell(Word(kernel.name, str(trial)))
        verdict = examine(kernel, trial, device)
        tell(Word(kernel.name, str(trial), verdict.outcome, verdict.note))


if __name__ == "__main__":
    main(sys.argv[1])
