"""Pattern: a rule for where nonzeros may stand. Same pattern, shape and seed, same positions.

A pattern is a frozen dataclass with a spelling, from which it prints itself and is parsed back:

    @pattern("block{rows}x{columns}@{sparsity}")
    class Block(Pattern):
        rows: int
        columns: int
        sparsity: float

`str(Block(16, 32, 0.9))` is `block16x32@0.9`, and `parse("block16x32@0.9")` is that block again.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from suite.registry import Unusable

PATTERNS: dict[str, type["Pattern"]] = {}  # by spelling

NUMBER = {"int": r"[0-9]+", "float": r"[0-9.]+(?:e-?[0-9]+)?"}

P = TypeVar("P", bound=type)

Positions = tuple[np.ndarray, np.ndarray]
"""starts int64[m+1] and columns int32[nonzeros], ascending within each row."""


class Pattern:
    """A rule for where nonzeros may stand."""

    spelling: ClassVar[str] = ""
    family: ClassVar[str] = ""  # what reports call it, all parameters aside: "N:M", "block"
    given: ClassVar[bool] = False  # the nonzeros stand where a file has them
    at_run_time: ClassVar[bool] = False  # selectors pick them at run time
    ops: ClassVar[tuple[str, ...]] = ()  # whose matrices alone have it; empty: any

    def positions(self, m: int, k: int, seed: int) -> Positions:
        """Where an m x k matrix of this pattern has its nonzeros. Never dense: m may be a million."""
        raise NotImplementedError

    def count(self, m: int, k: int) -> int:
        """How many nonzeros that is, exactly."""
        raise NotImplementedError

    def faults(self, m: int, k: int) -> list[str]:
        """Why no m x k matrix has this pattern; empty if one has."""
        return []

    def sparsity_of(self, m: int, k: int) -> float:
        """The share of zeros an m x k matrix of this pattern has."""
        return 1 - self.count(m, k) / (m * k)

    def __str__(self) -> str:
        return self.spelling.format(**{f.name: _spell(getattr(self, f.name)) for f in fields(self)})  # pyright: ignore


def _spell(value: Any) -> str:
    short = f"{value:g}"
    return short if isinstance(value, float) and float(short) == value else repr(value)


@dataclass_transform(frozen_default=True)
def pattern(spelling: str, family: str = "") -> Callable[[P], P]:
    """Make a class a pattern: a frozen dataclass that prints and parses as `spelling`."""

    def register(cls: P) -> P:
        made = dataclass(frozen=True)(cls)
        made.spelling = spelling
        made.family = family or spelling.partition("@")[0].partition("{")[0]
        if spelling in PATTERNS:
            raise ValueError(f"two patterns are spelled {spelling!r}; change one")
        PATTERNS[spelling] = made
        return made

    return register


@cache
def _grammar(cls: type[Pattern]) -> re.Pattern[str]:
    kinds = {f.name: f.type if isinstance(f.type, str) else f.type.__name__ for f in fields(cls)}  # pyright: ignore
    parts = re.split(r"\{(\w+)\}", cls.spelling)
    text = "".join(
        f"(?P<{part}>{NUMBER[kinds[part]]})" if at % 2 else re.escape(part) for at, part in enumerate(parts)
    )
    return re.compile(text)


def parse(text: str) -> Pattern:
    """The pattern that prints as `text`."""
    for cls in PATTERNS.values():
        if found := _grammar(cls).fullmatch(text):
            types = {"int": int, "float": float}
            given = {}
            for f in fields(cls):  # pyright: ignore
                kind = f.type if isinstance(f.type, str) else f.type.__name__
                try:
                    given[f.name] = types[kind](found[f.name])
                except ValueError:
                    raise Unusable(f"pattern {text!r}: {found[f.name]!r} is not a number.") from None
            return cls(**given)
    known = ", ".join(sorted(PATTERNS))
    raise Unusable(f"no pattern {text!r}. Patterns are spelled: {known}.")


def rounded(sparsity: float, units: int) -> int:
    """How many of `units` to keep: the nearest whole number to the density's share."""
    return round((1 - sparsity) * units)


def sparsity_faults(sparsity: float) -> list[str]:
    """The complaint about a sparsity outside 0 to 1."""
    return [] if 0 <= sparsity <= 1 else [f"sparsity {sparsity:g} is not between 0 and 1"]
