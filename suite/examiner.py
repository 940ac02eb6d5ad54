"""Examiner: the process in which kernels are examined. It can crash or hang; its parent then starts another.

`python -P -m suite.examiner PAPER` reads a Paper and writes Words, one JSON line each, to the paper's pipe.
A trial is announced before it begins, so that the last word of a process that died names what killed it.
"""

import os
import sys
from pathlib import Path

import msgspec


class Paper(msgspec.Struct):
    """What is to be examined: kernels by name, and the files that hold strangers' ones."""

    kernels: list[str]
    plugins: list[str]
    pipe: int
    parent: int


class Word(msgspec.Struct, omit_defaults=True):
    """A trial begins, or with an outcome: has ended; a kernel is done."""

    kernel: str
    trial: str = ""
    outcome: str = ""
    note: str = ""
    done: bool = False


def main(file: str) -> None:
    """Examine what this file lists."""
    from suite.child import die_with, limit_memory

    paper = msgspec.json.decode(Path(file).read_bytes(), type=Paper)
    die_with(paper.parent)
    os.set_inheritable(paper.pipe, False)

    from suite.cpu import Cpu
    from suite.kernel import KERNELS
    from suite.op import discover_parts
    from suite.registry import discover, pick

    device = Cpu()
    limit_memory(device.memory)
    discover_parts()
    discover([Path(plugin) for plugin in paper.plugins], folders=("kernels",))

    def tell(word: Word) -> None:
        os.write(paper.pipe, msgspec.json.encode(word) + b"\n")

    for name in paper.kernels:
        examine_all(pick("kernel", name, KERNELS), device, tell)
        tell(Word(name, done=True))
    os._exit(0)  # a plug-in's threads and exit hooks are none of ours


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
