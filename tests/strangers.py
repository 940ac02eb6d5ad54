"""A plug-in of a task and of methods that misbehave, each in its own way; `test_study.py` says how."""

import ctypes
import time

from problems import Small

from sparsemark import criterion, pattern, task, trainer


@task(
    protocol="made-up",
    metric="loss",
    better="lower",
    patterns=lambda extent, trained: [pattern("unstructured@0.5")],
)
class stranger_task(Small):
    """Two linear layers."""


@criterion()
def stranger(layer):
    """Well behaved."""
    return -layer.weight.abs()


@criterion()
def stranger_raises(layer):
    """Raises what nobody expects."""
    raise KeyError("not \x00 printable")


@criterion()
def stranger_dies(layer):
    """Ends its process."""
    return ctypes.memset(0, 1, 1)


@criterion()
def stranger_hangs(layer):
    """Never returns."""
    time.sleep(1000)


@trainer(after=("magnitude-uniform",), training="weights")
def stranger_cheats(sparsifier):
    """Puts back what was pruned."""
    sparsifier.prune()
    sparsifier.model[0].weight.data.add_(1.0)


@trainer(after=("magnitude-uniform",), training="weights")
def stranger_stops(sparsifier):
    """Prunes too little."""
    sparsifier.prune(0.4)


@trainer(after=("magnitude-uniform",), training="weights")
def stranger_forgets(sparsifier):
    """Never prunes."""
    for _ in sparsifier.schedule(0.1):
        sparsifier.step()
