"""Words: a comparison's numbers as a reader wants them, the same in every output."""

from collections.abc import Sequence
from statistics import median

from suite.comparing.comparison import Comparison
from suite.comparing.verdicts import AMBIGUOUS, BROKEN, FASTER, GONE, NEW, SAME, SLOWER, Change, Mean
from suite.reading.units import NOTHING, percent, seconds

CHANGED = (BROKEN, SLOWER, GONE, FASTER, NEW)

MEANS = {
    BROKEN: "was right, and is wrong, crashes or is refused",
    SLOWER: "takes longer",
    GONE: "was measured, and is not among the results",
    FASTER: "takes less time",
    NEW: "had no right answer before",
    AMBIGUOUS: "could not be decided",
    SAME: "has not changed by more than {same} %, if at all",
}


def headline(found: Comparison) -> str:
    """What came of it in one line: 2 slower, 1 broken, 40 same."""
    return ", ".join(f"{number} {verdict.lower()}" for verdict, number in found.counts.items()) or "nothing"


def setting(found: Comparison) -> str:
    """What was held against what."""
    base, head = found.runs
    runs = f"{base} {'run' if base == 1 else 'runs'} a side" if base == head else f"{base} and {head} runs"
    devices = " and ".join(str(about.get("name", key)) for key, about in found.head.devices.items())
    return ", ".join(part for part in (f"{found.base} → {found.head}", devices, runs) if part)


def change(one: Change | Mean) -> str:
    """+31 % (28 to 34); of a change that is not known, nothing."""
    if one.change is None:
        return NOTHING
    if one.low is None or one.high is None:
        return f"{signed(one.change)} %"
    return f"{signed(one.change)} % ({signed(one.low)} to {signed(one.high)})"


def signed(share: float) -> str:
    """In percent with a sign, and a decimal where it says something."""
    text = f"{100 * share:+.1f}" if abs(share) < 0.0995 else f"{100 * share:+.0f}"
    return {"+0.0": "0.0", "-0.0": "0.0"}.get(text, text)


def time(value: float | None) -> str:
    return NOTHING if value is None else seconds(value)


def sight(value: float | None) -> str:
    """The change that would have been seen four times in five."""
    if value is None:
        return NOTHING
    return f"{100 * value:.1f} %" if value < 0.0995 else f"{100 * value:.0f} %" if value < 10 else "> 1000 %"


def remark(one: Change) -> str:
    """Why, and what could have been seen where nothing was."""
    could = f"could have seen {sight(one.seen)}" if one.verdict in (SAME, AMBIGUOUS) and one.seen else ""
    return "; ".join(part for part in (one.why, could, one.by if one.by != "time" else "") if part)


def watching(some: Sequence[Change]) -> str:
    """What could have been seen over several cases: half of them, and all."""
    sights = [one.seen for one in some if one.seen is not None]
    if not sights:
        return ""
    half, most = sight(median(sights)), sight(max(sights))
    return f"could have seen {half} in half of them" + (f", {most} in all" if len(sights) > 1 else "")


def of(found: Comparison, *verdicts: str) -> list[Change]:
    return [one for one in found.changes if one.verdict in verdicts]


def meaning(found: Comparison, verdict: str) -> str:
    return MEANS[verdict].format(same=percent(found.rule.same))


def rows(some: Sequence[Change]) -> list[tuple[str, str, str, str, str, str, str]]:
    """verdict, kernel, case, base, head, change, remark: what every table shows of a change."""
    return [
        (one.verdict, one.point.kernel, case(one), time(one.base), time(one.head), change(one), remark(one))
        for one in some
    ]


def case(one: Change) -> str:
    """The case, and of its circumstances what is not usual."""
    odd = [one.point.selector or "", f"{one.point.cache} cache" if one.point.cache != "cold" else ""]
    return ", ".join((one.point.case, *filter(None, odd)))
