"""Checkpoints: a model out of the user's folder as a task, and those that were pruned elsewhere as methods.

The same in a study's process and in its children: each calls `bring`, and finds tasks and methods by name.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open
from torch import nn

from suite.harmless import Word
from suite.method import DENSE, WHOLE, Method, Part, methods
from suite.pattern import Pattern
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable
from suite.studying.causal import causal, config, library, linear, loaded
from suite.studying.child import Brought
from suite.studying.found import found
from suite.task import TASKS, Problem, Task


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
        taken.add(folder.name)
        WHOLE[folder.name] = elsewhere(folder, model)
    return task


def elsewhere(folder: Path, dense: Path) -> Method:
    """The method whose sparse model lies in a folder already."""

    def load(problem: Problem, pattern: Pattern) -> nn.Module:
        return loaded(folder, dense)

    about = f"A checkpoint that was pruned elsewhere, in a folder of the name {folder.name}."
    return Method(folder.name, {"transform": Part("transform", folder.name, about, load, training="weights")})


def counted(folder: Path, dense: Path) -> Pattern:
    """In which pattern a checkpoint's zeros stand: N:M if they do so in all layers, else anywhere.

    Unusable: it lacks the weights of a layer.
    """
    with torch.device("meta"):
        model = library().AutoModelForCausalLM.from_config(config(dense))
    left = {f"{name}.weight" for name in linear(model)}
    patterns, kept, size = set(), 0, 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in left.intersection(tensors.keys()):
                mask = tensors.get_tensor(name) != 0
                patterns.add(found(mask))
                kept, size = kept + int(mask.sum()), size + mask.numel()
                left.remove(name)
    if left:
        raise Unusable(
            f"--pruned {folder}: no safetensors in it hold {min(left)}. Name the folder of a checkpoint of "
            "the same model, whose pruned weights are stored as zeros."
        )
    alike = patterns.pop() if len(patterns) == 1 else None
    return alike if isinstance(alike, NofM) else Unstructured(round(1 - kept / size, 4))


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
