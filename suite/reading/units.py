"""Units: numbers as a reader wants them, with no more digits than are known. Inside: seconds, joules."""

from collections.abc import Sequence
from math import ceil, inf, log10

NOTHING = "–"


def seconds(time: float) -> str:
    """A duration with its prefix: 58.1 µs."""
    return prefixed(time, "s")


def joules(energy: float) -> str:
    """An energy with its prefix: 1.20 mJ."""
    return prefixed(energy, "J")


def prefixed(value: float, unit: str) -> str:
    for prefix, size in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)):
        if abs(value) >= 0.9995 * size:
            return f"{short(value / size)} {prefix}{unit}"
    return f"{short(value / 1e-12)} p{unit}"


def amount(number: float) -> str:
    """FLOPs or bytes with their prefix: 2.15 G."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{short(number / size)} {prefix}"
    return f"{number:,.0f}"


def short(value: float) -> str:
    """Three digits, and whole numbers from there on."""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{decimals}f}"


def percent(share: float, decimals: int = 1) -> str:
    """A sparsity in percent, with the decimals its density needs at least: 87.5, 99.75, 99.999."""
    density = 1 - share
    if 0 < density < 0.0105:
        decimals = max(decimals, ceil(-log10(density)))
    text = f"{100 * share:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(middle: float, low: float, high: float) -> str:
    """A sparsity that was worked out, with no more decimals than its interval asks for: 83 % (81-86)."""
    decimals = telling(low, high)
    return f"{percent(middle, decimals)} % ({percent(low, decimals)}-{percent(high, decimals)})"


def ends(low: float, high: float, decimals: Sequence[int] = (0, 1, 2)) -> tuple[str, str]:
    """Two sparsities in percent, with as many of these decimals as tell them apart."""
    enough = telling(low, high, decimals)
    return percent(low, enough), percent(high, enough)


def telling(low: float, high: float, decimals: Sequence[int] = (0, 1, 2)) -> int:
    """The fewest of these decimals that tell two sparsities apart, or the most."""
    return next((some for some in decimals if percent(low, some) != percent(high, some)), decimals[-1])


def times(ratio: float) -> str:
    """A ratio to two digits or so: 0.0043x, 0.77x, 1.3x, 12x, 140x."""
    if ratio < 0.0995:
        return f"{ratio:.2g}x"
    return f"{ratio:.2f}x" if ratio < 0.995 else f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:,.0f}x"


def count(calls: float) -> str:
    """A number of calls, to two digits."""
    return "never" if calls == inf else f"{float(f'{max(1, calls):.2g}'):,.0f}"
