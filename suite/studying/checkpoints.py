"""Checkpoints: a model out of the user's folder as a task, and those that were pruned elsewhere as methods.

The same in a study's process and in its children: each calls `bring`, and finds tasks and methods by name.
Beside each pruned checkpoint stands its control: a random mask of the same patterns, on the dense model.
"""

import copy
from collections.abc import Collection
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import nn

from suite import sources
from suite.harmless import Word
from suite.method import DENSE, WHOLE, Method, Part, methods
from suite.pattern import Pattern
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable
from suite.sources.compressed import Stored
from suite.studying.causal import causal, config, kept_as, linear, loaded, outline
from suite.studying.child import Brought, Trial
from suite.studying.found import found
from suite.studying.masks import best
from suite.task import TASKS, Problem, Task

AT_RANDOM = "-at-random"  # after a checkpoint's name: its control


def bring(brought: Brought) -> Task:
    """The task, from here on known by name; the pruned checkpoints are methods by their folders' names.

    Unusable: something is not there, or not what it is said to be.
    """
    model, corpus = Path(brought.model), Path(brought.corpus)
    calibration = Path(brought.calibration) if brought.calibration else None
    mine = {name for name, task in TASKS.items() if not isinstance(task.problem, partial)}
    free("--model", model, mine)
    readable("--corpus", corpus)
    if calibration:
        readable("--calibration", calibration)
    config(model)
    task = TASKS[model.name] = causal(model, corpus, calibration)
    taken = {DENSE.name, *(one.name for one in methods())}
    for folder in map(Path, brought.pruned):
        free("--pruned", folder, taken)
        for one in (elsewhere(folder, model), at_random(folder, model)):
            WHOLE[one.name] = one
            taken.add(one.name)
    return task


def elsewhere(folder: Path, dense: Path) -> Method:
    """The method whose sparse model lies in a folder already."""

    def load(problem: Problem, pattern: Pattern) -> nn.Module:
        return loaded(folder, dense)

    about = f"A checkpoint that was pruned elsewhere, in a folder of the name {folder.name}."
    found = partial(data, folder)
    return alone(Part("transform", folder.name, about, load, training="weights", data=found))


def at_random(folder: Path, dense: Path) -> Method:
    """The control of a pruned checkpoint: of the dense model any weights, as many of each layer."""

    def drop(problem: Problem, pattern: Pattern) -> nn.Module:
        model = copy.deepcopy(problem.trained)
        layers: dict[str, Any] = problem.layers(model)
        with torch.no_grad():
            for name, one in zeros(folder, dense).items():
                layers[name].weight.mul_(best(one.pattern, torch.rand(layers[name].weight.shape)))
        return model

    about = f"Any weights of the dense model, as many of each layer as {folder.name} has, in its patterns."
    return alone(Part("transform", f"{folder.name}{AT_RANDOM}", about, drop, control=True))


def alone(part: Part) -> Method:
    """The method that is nothing but a part."""
    return Method(part.name, {part.kind: part})


class Zeros(NamedTuple):
    """Of a layer: the pattern in which its zeros stand, and how many weights are left, of how many."""

    pattern: Pattern
    kept: int
    size: int


@cache
def zeros(folder: Path, dense: Path) -> dict[str, Zeros]:
    """Of each layer of a checkpoint. dense: who describes the model. Unusable: it lacks a layer's weights."""
    stored, made = Stored.of(folder), {}
    layers = linear(outline(dense))
    if lacking := [name for name in layers if f"{name}.weight" not in stored]:
        option = "--model" if folder == dense else "--pruned"
        raise Unusable(
            f"{option} {folder}: no safetensors in it hold {min(lacking)}.weight{kept_as(folder)}. Name the "
            "folder of a checkpoint of the same model, whose pruned weights are zeros, or compressed away."
        )
    for name in layers:
        mask = stored.tensor(f"{name}.weight") != 0
        made[name] = Zeros(found(mask), int(mask.sum()), mask.numel())
    return made


def counted(folder: Path, dense: Path) -> Pattern:
    """In which pattern a checkpoint's zeros stand: N:M if they do so in all layers, else anywhere."""
    layers = zeros(folder, dense).values()
    patterns = {one.pattern for one in layers}
    alike = patterns.pop() if len(patterns) == 1 else None
    kept, size = (sum(getattr(one, name) for one in layers) for name in ("kept", "size"))
    return alike if isinstance(alike, NofM) else Unstructured(round(1 - kept / size, 4))


def trials(brought: Brought) -> list[Trial]:
    """What is to be tried of pruned checkpoints: they themselves, then the control of each."""
    patterns = {Path(one).name: str(counted(Path(one), Path(brought.model))) for one in brought.pruned}
    names = [*patterns, *(f"{name}{AT_RANDOM}" for name in patterns)]
    return [Trial(name, patterns[name.removesuffix(AT_RANDOM)]) for name in names]


def data(folder: Path, layer: str) -> str:
    """By which name kernels that are timed on a layer's own matrix have it (suite.sources)."""
    return sources.add(f"{folder}:{layer}.weight")


def matrices(folder: Path) -> dict[str, Pattern]:
    """The weights of a folder's layers but for empty ones, as `--matrix` names them, with their patterns."""
    layers = zeros(folder, folder).items()
    return {f"{folder}:{name}.weight": one.pattern for name, one in layers if one.kept}


def free(option: str, folder: Path, taken: Collection[str]) -> None:
    """Lines go by the folder's name. Unusable: it is no name, or something else has it."""
    word(option, folder)
    if folder.name in taken:
        raise Unusable(f"{option} {folder}: something else is called {folder.name}. Rename the folder.")


def word(option: str, path: Path) -> None:
    """Unusable: a name that lines could not hold."""
    try:
        msgspec.convert(path.stem, Word)
        msgspec.convert(path.name, Word)
    except msgspec.ValidationError:
        raise Unusable(f"{option} {path}: its name is to be letters, digits, '.', '_' and '-'.") from None


def readable(option: str, file: Path) -> None:
    """Unusable: a file is no text."""
    word(option, file)
    try:
        if file.read_text(encoding="utf-8").strip():
            return
    except (OSError, UnicodeDecodeError):
        raise Unusable(f"{option} {file}: not a file of text in UTF-8. Name one.") from None
    raise Unusable(f"{option} {file}: the file is empty. Name one with a text in it.")
