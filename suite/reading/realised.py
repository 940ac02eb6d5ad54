"""Realised: what a paper's idea wins here, beside what its authors report: shares of the nominal speed-up.

Devices, models and baselines differ, so speed-ups are not compared: what may be held side by side is how much
of what was left out came back as time. Here the rival is the best dense kernel of the case.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.papers import Published, papers, published
from suite.reading.frame import Rows


@dataclass(frozen=True)
class Realised:
    """A paper, what it reports if its nominal speed-up is known, and the row here that is nearest to it."""

    id: str
    about: Mapping[str, str]
    reported: Published | None
    here: Rows


def realised(frame: Rows, ids: Mapping[str, Iterable[str]]) -> list[Realised]:
    """Every paper whose kernels were timed here, in the order of the table. ids: kernel -> papers."""
    able: Rows = frame[~frame["dense"] & frame["speed_up"].notna() & (frame["nominal"] > 1)]
    kernels: dict[str, list[str]] = {}
    for kernel, served in ids.items():
        for id in served:
            kernels.setdefault(id, []).append(kernel)
    found = []
    for id, about in papers().items():
        rows: Rows = able[able["kernel"].isin(kernels.get(id, []))]
        if len(rows):
            reports: Sequence[Published | None] = published().get(id) or [None]
            found += [Realised(id, about, one, nearest(rows, one)) for one in reports]
    return found


def nearest(rows: Rows, reported: Published | None) -> Rows:
    """The row whose nominal speed-up is nearest to the one reported, of equal ones that which wins most.

    Where none is reported: that which wins most of all.
    """
    far = rows["nominal"].map(
        lambda one: round(abs(math.log(one / reported.nominal)), 2) if reported else 0.0
    )
    return rows.assign(far=far).sort_values(["far", "speed_up"], ascending=[True, False]).iloc[0]
