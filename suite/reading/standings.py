"""Standings: how a race stands by the lines of results files.

Both sides are told by the 10th percentile of their samples, for what disturbs a machine only ever adds time;
of at least 5 visits spread over at least 2 minutes, for samples of one moment share its luck. Which kernel is
the best of its side is decided on the odd samples of each visit and told by the even ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from suite.device import Ceiling
from suite.race import Heat, Race
from suite.reading.about import identity
from suite.reading.bound import limit_in
from suite.reading.crossover import Crossover, Point, crossover
from suite.reading.frame import ceilings_of, current, grouped, usable
from suite.reading.row import Row
from suite.record import Recorded

QUANTILE = 0.1
VISITS, SPREAD = 5, 120.0  # what a ratio needs to be held against a goal


@dataclass(frozen=True)
class Side:
    """The best kernel of a side: its time, and the share of its bound that this is (None: it has none)."""

    row: Row
    seconds: float
    share: float | None

    @property
    def kernel(self) -> str:
        return self.row.first.kernel


@dataclass(frozen=True)
class Goal:
    """What was reached of what is asked. None: not measured, or nothing is asked."""

    what: str  # ratio, setup or padding, as a Heat has them, or mean
    reached: float | None
    asked: float | None

    @property
    def at_most(self) -> bool:
        """Whether less is better."""
        return self.what in ("setup", "padding")

    @property
    def met(self) -> bool | None:
        if self.reached is None or self.asked is None:
            return None
        return self.reached <= self.asked if self.at_most else self.reached >= self.asked


@dataclass(frozen=True)
class Standing:
    """A heat, and how it stands. A side is None where no kernel of it has a time."""

    heat: Heat
    own: Side | None
    rival: Side | None

    @property
    def goals(self) -> list[Goal]:
        """The ratio, and whatever else is asked."""
        row = self.own.row if self.own else None
        others = {"setup": setup(row), "padding": padding(row)}
        asked = {what: getattr(self.heat, what) for what in others}
        return [
            Goal("ratio", self.ratio, self.heat.ratio),
            *(Goal(what, others[what], most) for what, most in asked.items() if most is not None),
        ]

    @property
    def ratio(self) -> float | None:
        return self.rival.seconds / self.own.seconds if self.own and self.rival else None

    @property
    def rows(self) -> list[Row]:
        return [side.row for side in (self.own, self.rival) if side]

    @property
    def visits(self) -> int:
        """Of the side that has fewer."""
        return min((len(row.timed) for row in self.rows), default=0)

    @property
    def spread(self) -> float:
        """Seconds from the first to the last line of the side where that is less."""
        return min(map(spread, self.rows), default=0.0)

    @property
    def enough(self) -> bool:
        """Whether its ratio may be held against a goal."""
        return self.visits >= VISITS and self.spread >= SPREAD

    @property
    def about(self) -> dict[str, Any]:
        """What a line of this case is about."""
        return identity(self.rows[0].first) if self.rows else {}


@dataclass(frozen=True)
class Standings:
    """A race under one setting: all its heats, whether or not they were run."""

    race: Race
    device: str
    cache: str
    threads: int
    heats: tuple[Standing, ...]

    @property
    def run(self) -> list[Standing]:
        """Those of which at least one side was measured."""
        return [one for one in self.heats if one.rows]

    @property
    def mean(self) -> Goal:
        """The geometric mean of all ratios."""
        ratios = [one.ratio for one in self.heats if one.ratio]
        return Goal("mean", geometric_mean(ratios) if ratios else None, self.race.mean)

    @property
    def goals(self) -> list[Goal]:
        return [goal for one in self.heats for goal in one.goals if goal.asked is not None]

    @property
    def crossovers(self) -> dict[str, Crossover]:
        """Where dense rivals are overtaken, for each size at which two sparsities were run."""
        lines: dict[str, dict[float, float]] = defaultdict(dict)
        for one in sorted(self.heats, key=lambda one: one.heat.case.sizes):
            if one.ratio and one.rival and one.rival.row.first.dense:
                lines[one.about["sizes"]][one.about["sparsity"]] = one.ratio
        return {
            at: crossover([Point(sparsity, ratio) for sparsity, ratio in sorted(ratios.items())])
            for at, ratios in lines.items()
            if len(ratios) > 1
        }


def standings(race: Race, recorded: Sequence[Recorded]) -> list[Standings]:
    """How a race stands, once for each device, cache state and number of threads that ran any of it."""
    lines = current(usable(recorded))
    shapes = {
        line.data: (line.sizes["m"], line.sizes["k"]) for _, _, line in lines if line.pattern == "given"
    }
    settings: dict[tuple, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for (device, _, case, _, cache, threads), rows in grouped(lines).items():
        settings[device, cache, threads][case] += rows
    ceilings = ceilings_of(recorded)
    made = []
    for (device, cache, threads), cases in settings.items():
        ceiling = ceilings.get(device, Ceiling())
        heats = tuple(
            standing(race, heat, cases.get(str(heat.case), []), ceiling) for heat in race.on(shapes)
        )
        if any(one.rows for one in heats):
            made.append(Standings(race, device, cache, threads, heats))
    return made


def standing(race: Race, heat: Heat, rows: Iterable[Row], ceiling: Ceiling) -> Standing:
    """A heat by the rows of its case."""
    own = [row for row in rows if race.is_own(row.first.kernel, row.first.dense)]
    rivals = [row for row in rows if race.is_rival(row.first.kernel)]
    return Standing(heat, best(own, ceiling), best(rivals, ceiling))


def best(rows: Sequence[Row], ceiling: Ceiling) -> Side | None:
    """The fastest of those timed in the most visits: a visit missed may be the slow one."""
    most = max((len(row.timed) for row in rows), default=0)
    able = [row for row in rows if row.timed and len(row.timed) == most]
    if not able:
        return None
    row = min(able, key=lambda row: low(line.seconds[0::2] for line in row.timed.values()))
    seconds = low(line.seconds[1::2] or line.seconds for line in row.timed.values())
    found = limit_in(row.first, row.run, ceiling)
    return Side(row, seconds, found.seconds / seconds if found else None)


def low(samples: Iterable[Sequence[float]]) -> float:
    """The 10th percentile of all visits' samples."""
    return float(np.quantile(np.concatenate([*samples]), QUANTILE))


def setup(row: Row | None) -> float | None:
    """Seconds of conversion."""
    return median(row.setups.values()) if row and row.setups else None


def padding(row: Row | None) -> float | None:
    """FLOPs executed over useful ones."""
    if row is None or not row.first.flops_useful or row.first.flops_executed is None:
        return None
    return row.first.flops_executed / row.first.flops_useful


def spread(row: Row) -> float:
    """Seconds from a row's first line to its last."""
    times = [datetime.fromisoformat(line.started) for line in row.timed.values()]
    return (max(times) - min(times)).total_seconds()
