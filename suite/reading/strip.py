"""Strip: the samples of one kernel as marks on a line, a line for each visit: what an interval is made of."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log
from statistics import median

from suite.reading.units import seconds

WIDE, HIGH, GAP = 1000, 10, 4  # of a visit's line, in units of the drawing, which is stretched
MOST = 60  # marks of a visit: of more samples, quantiles


def strip(visits: Mapping[int, Sequence[float]], span: tuple[float, float], says: str) -> str:
    """An <svg> of visits' samples on a logarithmic axis from the least to the most of `span`, in seconds."""
    low, high = span
    stretch = WIDE / log(high / low) if high > low else 0
    lines = []
    for number, (visit, samples) in enumerate(sorted(visits.items())):
        marks = "".join(
            f"M{log(one / low) * stretch:.0f} {number * (HIGH + GAP)}v{HIGH}" for one in few(samples)
        )
        about = f"visit {visit}: {len(samples)} samples, median {seconds(median(samples))}"
        lines.append(f'<path d="{marks}"><title>{escape(about)}</title></path>')
    height = len(lines) * (HIGH + GAP) - GAP
    return (
        f'<svg class="strip" viewBox="0 0 {WIDE} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(says)}">{"".join(lines)}</svg>'
    )


def few(samples: Sequence[float]) -> list[float]:
    """All of them, or as many quantiles as one can see."""
    ordered = sorted(samples)
    if len(ordered) <= MOST:
        return ordered
    return [ordered[number * (len(ordered) - 1) // (MOST - 1)] for number in range(MOST)]


def span(samples: Iterable[Sequence[float]]) -> tuple[float, float]:
    """The least and the most of all."""
    ends = [(min(some), max(some)) for some in samples]
    return min(low for low, _ in ends), max(high for _, high in ends)
