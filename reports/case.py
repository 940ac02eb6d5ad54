"""case: a page for each: every sample, the work behind the times, the raw lines, and what repeats them."""

from markupsafe import Markup

from suite import record
from suite.case import multiplied_as
from suite.reading.frame import ceilings_of
from suite.reading.strip import span, strip
from suite.reading.structure import SAYS
from suite.report import page_of, report

SHARED = ("device", "workload", "cache", "threads", "scope")


@report
def case(view):
    """What is behind the numbers of one case?"""
    ceilings = ceilings_of(view.recorded)
    told = list(zip(view.frame.itertuples(), view.rows, strict=True))
    cases = {}
    for pair in told:
        line = pair[1].first
        settings = cases.setdefault(line.case, {})
        settings.setdefault(tuple(getattr(line, name) for name in SHARED), []).append(pair)
    for id, settings in cases.items():
        first = next(iter(settings.values()))[0][0]
        yield (
            page_of("case", id),
            {
                "id": id,
                "first": first,
                "sections": [
                    section(number, dict(zip(SHARED, about, strict=True)), pairs, ceilings)
                    for number, (about, pairs) in enumerate(settings.items())
                ],
            },
        )


def section(number, about, pairs, ceilings):
    """What competes: kernels on one device, in one cache state, the fastest first."""
    pairs = sorted(pairs, key=lambda pair: (pair[0].median != pair[0].median, pair[0].median))
    timed = [lines for _, row in pairs if (lines := samples(row))]
    ends = span([some for lines in timed for some in lines.values()]) if timed else (1, 1)
    structure = next((row.first.structure for _, row in pairs if row.first.structure), {})
    ceiling = ceilings.get(about["device"])
    return about | {
        "id": f"c{number}",
        "low": ends[0],
        "high": ends[1],
        "kernels": [
            {
                "row": told,
                "strip": Markup(strip(samples(row), ends, f"Samples of {told.kernel}")) if row.timed else "",
                "first": row.first,
                "rate": told.flops / told.median,
                "intensity": told.flops / told.moved if told.moved else None,
            }
            for told, row in pairs
        ],
        "structure": [
            (SAYS.get(name, name), f"{value:.3g}") for name, value in structure.items() if value is not None
        ],
        "peak": ceiling.flops.get(multiplied_as(pairs[0][1].first.dtype)) if ceiling else None,
        "memory": ceiling.bandwidth.get("memory") if ceiling else None,
        "raw": [raw(line) for _, row in pairs for line in (*row.lines.values(), *row.energy)],
    }


def samples(row):
    """Visit -> its samples; visits of several files are counted on."""
    return {at: line.seconds for at, line in enumerate(row.timed.values(), 1)}


def raw(line):
    """A line as the file has it. In text no quote need be escaped, and there are many."""
    text = record.encode(line).decode().rstrip("\n")
    return Markup(text.replace("&", "&amp;").replace("<", "&lt;"))
