"""Task: a model, its data, its metric and its protocol: what accuracy is measured on.

    @task(protocol="digits-fold", metric="accuracy", patterns=grid)
    class digits_mlp(Problem):
        \"\"\"Handwritten digits, a perceptron with two hidden layers.\"\"\"

        def __init__(self, seed): ...

A problem is one seed of a task: what the seed draws is the task's protocol (a fold, the data, the first
weights). Curves hold scores of one task, protocol and data only.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Generator, Tensor, nn

from suite.kernel import Refused
from suite.pattern import Pattern

TASKS: dict[str, "Task"] = {}

Batch = Any
"""Inputs and whatever the loss needs beside them; only its problem looks into it."""


class Problem:
    """One seed of a task. Everything random comes from torch's seed, which is set before each call."""

    data: str  # names the data and fingerprints them, such as "digits-5e9b21f0"; the same for all seeds
    steps: int  # of the dense training
    rate: float  # of learning, at the beginning
    decay: float = 0.0  # of weights
    examples: ClassVar[str] = "examples"  # what `count` counts: "tokens" of a language model

    def __init__(self, seed: int) -> None: ...

    def model(self, width: float = 1.0) -> nn.Module:
        """A fresh model; hidden layers are `width` times as wide as the task's."""
        raise Refused("this task has a trained model only, none to begin from")

    def dense(self) -> nn.Module | None:
        """The dense model where it need not be trained, as one out of a folder; None: it is trained."""
        return None

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """The modules whose weights are made sparse, by name: all linear and convolutional ones."""
        return {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)}

    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Batches to train on, without end."""
        raise NotImplementedError

    def calibration(self) -> Sequence[Batch]:
        """Training data on which criteria look at the layers' inputs and gradients."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """How many examples are in a batch."""
        return len(batch[0])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean over a batch, to be made small."""
        raise NotImplementedError

    def measure(self, model: nn.Module, dense: nn.Module) -> dict[str, float]:
        """The task's metric by its name, and what else is known of the quality, on data not trained on."""
        raise NotImplementedError


@dataclass(frozen=True)
class Task:
    """A model, its data, its metric and its protocol.

    problem(seed): one seed of it.
    patterns(extent, trained): what models are pruned to, the most telling first; fewer where each is trained.
    methods: globs of those that are run by default; others where they are asked for.
    toy: too small to speak of anything but itself.
    """

    name: str
    about: str
    problem: Callable[[int], Problem]
    protocol: str
    metric: str
    better: Literal["higher", "lower"]
    patterns: Callable[[str, bool], Iterable[Pattern]]
    methods: tuple[str, ...] = ("*",)
    toy: bool = False
    version: int = 1
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def task(
    *,
    protocol: str,
    metric: str,
    patterns: Callable[[str, bool], Iterable[Pattern]],
    better: Literal["higher", "lower"] = "higher",
    methods: tuple[str, ...] = ("*",),
    toy: bool = False,
    version: int = 1,
    ids: tuple[str, ...] = (),
) -> Callable[[Callable[[int], Problem]], Task]:
    """Register the decorated problem (a class, or a function from a seed) as the task of its name."""

    def register(problem: Callable[[int], Problem]) -> Task:
        name = problem.__name__  # pyright: ignore
        if name in TASKS:
            raise ValueError(f"two tasks are called {name!r}; rename one of them")
        about = inspect.getdoc(problem) or ""
        TASKS[name] = Task(
            name, about, problem, protocol, metric, better, patterns, methods, toy, version, ids
        )
        return TASKS[name]

    return register
