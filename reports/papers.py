"""papers: what papers report of their speed-ups, and how much of the nominal one comes back here."""

from suite.reading.realised import realised
from suite.report import report


@report
def papers(view):
    """How much of the nominal speed-up do papers realise, and how much is realised here?"""
    if found := realised(view.drawn[0], view.ids):
        yield "papers", {"found": found, "several": len(view.latest) > 1}
