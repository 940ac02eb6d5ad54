"""Method: a way to make a model sparse, put together of parts that each have one small signature.

    criterion   layer -> scores[m, k]                      what is worth keeping
    allocator   layers, scores, sparsity -> {name: sparsity}   how much of each layer
    refiner     layer, mask, pattern -> mask, weight       what is mended once a mask stands
    trainer     sparsifier -> None                             what is done to the whole, mostly by training
    transform   problem, pattern -> model                  which model is made sparse, if not the task's

A method's name is its parts in this order: `magnitude-global`, `wanda-uniform-dsnot`,
`magnitude-global-finetune`, `random-uniform-static-wide`. Every criterion meets every allocator; a refiner, a
trainer and a transform name the methods they come after. Others can be put together on the command line.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from suite.pattern import Pattern
from suite.registry import Unusable, pick

if TYPE_CHECKING:
    from suite.task import Task

Start = Literal["dense", "fresh"]
Training = Literal["none", "mask", "weights"]


@dataclass(frozen=True)
class Part:
    """A function of one of the signatures above, and the terms on which it joins a method.

    after: what it comes after, by the methods' names; those are run by default.
    patterns: those it is for; empty: any.
    tasks: names of those it is for; empty: any.
    problems: the kinds of problem it is for, such as Language; empty: any.
    start: from which model a trainer or a transform goes on, the trained dense one or a fresh one.
    training: what it trains. Methods that train nothing, masks only, or weights rank apart.
    control: it knows nothing: what others must beat.
    extents: of studies that have it by default.
    iso: what it holds equal to the dense model's, such as "infer_flops".
    once: it leaves no weight out, so it is tried once, at a sparsity of none.
    stored: bytes of a layer of a pattern and mask, where it keeps other numbers than the model's.
    tuning_runs: how many settings were tried before it got its constants.
    data: layer's name -> the data that its matrix is where kernels are timed on it, if it is in a file.
    """

    kind: str
    name: str
    about: str
    call: Callable[..., Any]
    after: tuple[str, ...] = ()
    patterns: tuple[type[Pattern], ...] = ()
    tasks: tuple[str, ...] = ()
    problems: tuple[type, ...] = ()
    start: Start = "dense"
    training: Training = "none"
    control: bool = False
    extents: tuple[str, ...] = ("smoke", "default", "full")
    iso: str | None = None
    once: bool = False
    stored: Callable[..., int] | None = None
    tuning_runs: int = 0
    ids: tuple[str, ...] = ()
    data: Callable[[str], str] | None = None

    def __call__(self, *given: Any) -> Any:
        return self.call(*given)


KINDS = ("criterion", "allocator", "refiner", "trainer", "transform")
PARTS: dict[str, Part] = {}  # of all kinds: a method's name says them without their kinds


def _registrar(kind: str) -> Callable[..., Callable[[Callable[..., Any]], Part]]:
    def decorate(**terms: Any) -> Callable[[Callable[..., Any]], Part]:
        def register(call: Callable[..., Any]) -> Part:
            name = call.__name__.rstrip("_")  # `global` and `set` are Python's
            if name in PARTS:
                raise ValueError(f"two parts of methods are called {name!r}; rename one of the functions")
            PARTS[name] = Part(kind, name, inspect.getdoc(call) or "", call, **terms)
            return PARTS[name]

        return register

    return decorate


criterion, allocator, refiner, trainer, transform = (_registrar(kind) for kind in KINDS)


@dataclass(frozen=True, eq=False)
class Method:
    """Parts, by kind. `dense` has none."""

    name: str
    parts: Mapping[str, Part]  # by kind

    @property
    def start(self) -> Start:
        """The model it goes on from."""
        return "fresh" if any(part.start == "fresh" for part in self.parts.values()) else "dense"

    @property
    def training(self) -> Training:
        """What any of its parts trains."""
        for part in self.parts.values():
            if part.training != "none":
                return part.training
        return "none"

    @property
    def control(self) -> bool:
        return any(part.control for part in self.parts.values())

    @property
    def iso(self) -> str | None:
        return next((part.iso for part in self.parts.values() if part.iso), None)

    @property
    def once(self) -> bool:
        return bool(self.parts) and all(part.once for part in self.parts.values())

    @property
    def tuning_runs(self) -> int:
        return sum(part.tuning_runs for part in self.parts.values())

    @property
    def ids(self) -> list[str]:
        return sorted({id for part in self.parts.values() for id in part.ids})

    def fits(self, pattern: Pattern) -> bool:
        """Whether it is meant for such a pattern at all; a budget that is spent at run time must be named."""
        named = [part.patterns for part in self.parts.values() if part.patterns]
        asked = not pattern.at_run_time or any(kind.at_run_time for kinds in named for kind in kinds)
        return asked and all(isinstance(pattern, kinds) for kinds in named)

    def unsuited(self, task: "Task") -> str | None:
        """Why it is not meant for a task."""
        for part in self.parts.values():
            if part.tasks and task.name not in part.tasks:
                return f"{part.name} is for {', '.join(part.tasks)} alone"
            if part.problems and not issubclass(task.kind, part.problems):
                return (
                    f"{part.name} is for {' or '.join(one.__name__ for one in part.problems)} problems alone"
                )
        return None

    def belongs(self, extent: str) -> bool:
        """Whether a study of this extent has it by default."""
        return all(extent in part.extents for part in self.parts.values())

    @property
    def prunes(self) -> bool:
        """Whether it leaves anything out; a dense model of another size does not."""
        return "criterion" in self.parts

    def __str__(self) -> str:
        return self.name


DENSE = Method("dense", {})
WHOLE = {DENSE.name: DENSE}  # methods whose names are not put together of parts


def named(name: str) -> Method:
    """The method of this name. Unusable: a part of it does not exist, or its parts are in disorder."""
    if name in WHOLE:
        return WHOLE[name]
    parts = [pick("part of a method", word, PARTS) for word in name.split("-")]
    kinds = [part.kind for part in parts]
    if kinds != sorted(set(kinds), key=KINDS.index) or ("criterion" in kinds) != ("allocator" in kinds):
        raise Unusable(
            f"{name} is no method: its parts are {', '.join(kinds)}. They come in the order "
            f"{', '.join(KINDS)}, each at most once, a criterion together with an allocator."
        )
    return Method(name, dict(zip(kinds, parts, strict=True)))


def methods() -> Iterator[Method]:
    """All that are run by default: dense, each criterion with each allocator, and what comes after them.

    A transform, or a trainer of the dense model, that comes after nothing is a method by itself.
    """
    yield DENSE
    of = {kind: [part for part in PARTS.values() if part.kind == kind] for kind in KINDS}
    for one in of["criterion"]:
        for other in of["allocator"]:
            if not other.after or one.name in other.after:
                yield named(f"{one.name}-{other.name}")
    for kind in KINDS[2:]:
        for part in of[kind]:
            for before in part.after:
                yield named(f"{before}-{part.name}")
            if not part.after and (kind == "transform" or (kind == "trainer" and part.start == "dense")):
                yield named(part.name)
