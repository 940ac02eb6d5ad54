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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Generator, Tensor, nn

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.studying.quality import kl

TASKS: dict[str, "Task"] = {}

Batch = Any
"""Inputs and whatever the loss needs beside them; only its problem looks into it."""


class Problem:
    """One seed of a task. Everything random comes from torch's seed, which is set before each call."""

    data: str  # names the data and fingerprints them, such as "digits-5e9b21f0"; the same for all seeds
    steps: int  # of the dense training
    rate: float  # of learning, at the beginning
    decay: float = 0.0  # of weights
    anew: tuple[int, float] | None = None  # steps and rate of fresh weights; None: as of the dense training
    trained: nn.Module  # the dense model, for transforms that go on from it; set once there is one
    examples: ClassVar[str] = "examples"  # what `count` counts: "tokens" of a language model

    def __init__(self, seed: int) -> None: ...

    @classmethod
    def look(cls, folder: Path) -> None:
        """Of a problem that is made of (folder, seed). Unusable: its data are not in this folder."""

    def model(self, width: float = 1.0) -> nn.Module:
        """A fresh model; hidden layers are `width` times as wide as the task's."""
        raise Refused("this task has a trained model only, none to begin from")

    def trains(self) -> None:
        """Refused: its models are too large to be trained here."""

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

    def answers(self, model: nn.Module, batch: Batch) -> Tensor:
        """What a model says of a batch: logits, or other outputs, along the last dimension."""
        return model(batch[0])

    def apart(self, answers: Tensor, dense: Tensor) -> Tensor:
        """How far answers are from the dense model's: of logits KL(dense || theirs), the mean."""
        return kl(answers.flatten(0, -2), dense.flatten(0, -2)).mean()

    def measure(self, model: nn.Module, dense: nn.Module) -> dict[str, float]:
        """The task's metric by its name, and what else is known of the quality, on data not trained on."""
        raise NotImplementedError


@dataclass(frozen=True)
class Task:
    """A model, its data, its metric and its protocol.

    problem(seed): one seed of it.
    patterns(extent, trained): what models are pruned to, the most telling first; fewer where each is trained.
    methods: globs of those that are run by default; others where they are asked for.
    later: globs of those of them that are for full studies alone: here they take longer than they tell.
    toy: too small to speak of anything but itself.
    folder: its data are the user's, and its problem is made of (folder, seed) until `with_data` names one.
    """

    name: str
    about: str
    problem: Callable[[int], Problem]
    protocol: str
    metric: str
    better: Literal["higher", "lower"]
    patterns: Callable[[str, bool], Iterable[Pattern]]
    methods: tuple[str, ...] = ("*",)
    later: tuple[str, ...] = ()
    toy: bool = False
    version: int = 1
    ids: tuple[str, ...] = ()
    folder: bool = False

    @property
    def kind(self) -> type[Problem]:
        """What its problems are, as far as that is said before there is one."""
        made: Any = getattr(self.problem, "func", self.problem)
        return made if isinstance(made, type) else Problem

    def __str__(self) -> str:
        return self.name


def task(
    *,
    protocol: str,
    metric: str,
    patterns: Callable[[str, bool], Iterable[Pattern]],
    better: Literal["higher", "lower"] = "higher",
    methods: tuple[str, ...] = ("*",),
    later: tuple[str, ...] = (),
    toy: bool = False,
    version: int = 1,
    ids: tuple[str, ...] = (),
    folder: bool = False,
) -> Callable[[Callable[..., Problem]], Task]:
    """Register the decorated problem (a class, or a function from a seed) as the task of its name."""

    def register(problem: Callable[..., Problem]) -> Task:
        name = problem.__name__  # pyright: ignore
        if name in TASKS:
            raise ValueError(f"two tasks are called {name!r}; rename one of them")
        about = inspect.getdoc(problem) or ""
        TASKS[name] = Task(
            name,
            about,
            problem,
            protocol,
            metric,
            better,
            patterns,
            methods,
            later,
            toy,
            version,
            ids,
            folder,
        )
        return TASKS[name]

    return register


def with_data(folder: Path) -> list[Task]:
    """The tasks whose data are in a folder, from here on in this one. Unusable: they are not."""
    made = []
    for one in [one for one in TASKS.values() if one.folder]:
        problem: Any = getattr(one.problem, "func", one.problem)
        problem.look(folder)
        TASKS[one.name] = replace(one, problem=partial(problem, folder))
        made.append(TASKS[one.name])
    return made
