"""turns: what each of several questions about one context got for an answer, by method."""

from suite.inputs import INPUTS
from suite.reading.smaller import sizes
from suite.reading.turns import MISCOUNT, asked
from suite.reading.units import percent
from suite.report import report


@report
def turns(view):
    """Which methods still answer when a context is asked a second time?"""
    cases = list(asked(*view.drawn))
    sections = [section(number, one) for number, one in enumerate(cases)]
    if sections:
        yield (
            "turns",
            {"sections": sections, "miscount": MISCOUNT, "sizes": list(sizes(cases)), "percent": percent},
        )


def section(number, one):
    """One case: a line for each method, a column for each question."""
    known = INPUTS.get(one.about["data"])
    return {
        **one.about,
        "id": f"t{number}",
        "budget": percent(float(one.about["pattern"].partition("@")[2])),
        "input": known.about.partition("\n")[0] if known else "",
        "questions": one.questions,
        "lines": one.lines,
    }
