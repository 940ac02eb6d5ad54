"""Input: a rule by which live operands are drawn, so that what is worth keeping of them is known.

    @inputs(ops=("attention", "attention_causal"))
    def sinks(case, source):             # a generator of random numbers
        return q, k, v                   # float32

A case names it as its data. One that knows what the right answers are may say how many of them were given:

    @inputs(ops=("decode",), judge=judge)   # judge(case, chosen, whole), as an op's quality
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suite.case import Case

INPUTS: dict[str, "Input"] = {}

Draw = Callable[[Case, torch.Generator], tuple[Tensor, ...]]
Judge = Callable[[Case, Any, Any], dict[str, float]]  # how good answers are, as an op's quality tells it


def is_recording(data: str) -> bool:
    """Whether data are the name of an input that suite.recordings makes: weights:layer:text."""
    return data.count(":") == 2 and data.split(":")[1].isdecimal()


@dataclass(frozen=True)
class Input:
    """A rule by which the live operands of its ops are drawn."""

    name: str
    about: str
    draw: Draw
    ops: tuple[str, ...]
    judge: Judge | None = None


def inputs(*, ops: tuple[str, ...], judge: Judge | None = None) -> Callable[[Draw], Input]:
    """Register the decorated function as the input of its name."""

    def register(draw: Draw) -> Input:
        name = draw.__name__
        if name in INPUTS:
            raise ValueError(f"two inputs are called {name!r}; rename one of the functions")
        INPUTS[name] = Input(name, inspect.getdoc(draw) or "", draw, ops, judge)
        return INPUTS[name]

    return register
