"""Zeros: where those of a checkpoint stand that was pruned elsewhere, as a study counted them layer by layer.

str(zeros(score))    "50.0 % (48.1-52.3 by layer), 2:4 in 28 of 28 layers"
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.patterns.n_of_m import NofM
from suite.reading.about import family_of
from suite.record import Score


@dataclass(frozen=True)
class Kind:
    """Layers of one name, but for the number of their block, and of one shape."""

    name: str
    m: int
    k: int
    layers: Sequence[Mapping[str, Any]]

    @property
    def least(self) -> float:
        return min(one["sparsity"] for one in self.layers)

    @property
    def most(self) -> float:
        return max(one["sparsity"] for one in self.layers)

    @property
    def groups(self) -> str:
        """In how many of them zeros are N:M; empty if in none."""
        count = len(self.layers)
        found = Counter(one["pattern"] for one in self.layers if family_of(one["pattern"]) == NofM.family)
        return ", ".join(f"{pattern} in {times} of {count}" for pattern, times in found.most_common())


@dataclass(frozen=True)
class Zeros:
    """Of a checkpoint, all layers together and kind by kind."""

    method: str
    sparsity: float
    all: Kind
    kinds: Sequence[Kind]

    def __str__(self) -> str:
        low, high = 100 * self.all.least, 100 * self.all.most
        ends = f"{low:.1f}-{high:.1f}" if f"{low:.1f}" != f"{high:.1f}" else f"{low:.1f}"
        groups = f"{self.all.groups} layers" if self.all.groups else "N:M in no layer"
        return f"{100 * self.sparsity:.1f} % ({ends} by layer), {groups}"


def zeros(score: Score) -> Zeros | None:
    """Of the model of a score; None where it did not come out of a file."""
    if not any("data" in one for one in score.layers):
        return None
    kinds: dict[tuple[str, int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for one in score.layers:
        kinds[kind_of(one["name"]), one["m"], one["k"]].append(one)
    found = [Kind(*about, layers) for about, layers in kinds.items()]
    return Zeros(score.method, score.sparsity, Kind("all", 0, 0, score.layers), found)


def counted(scores: Iterable[Score]) -> Iterator[Zeros]:
    """Of each checkpoint among these once."""
    found = {one.method: zeros(one) for one in scores if one.outcome == "ok"}
    yield from (one for one in found.values() if one)


def kind_of(name: str) -> str:
    """A layer's name behind the number of its block: "model.layers.0.mlp.up_proj" is a "mlp.up_proj"."""
    words = name.split(".")
    numbers = [at for at, word in enumerate(words[:-1]) if word.isdigit()]
    return ".".join(words[numbers[-1] + 1 :]) if numbers else name
