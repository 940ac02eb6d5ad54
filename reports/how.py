"""how: what every number on the other pages is, in a sentence each."""

from suite.reading.ranking import COVERED
from suite.report import report


@report
def how(view):
    """What is a best dense kernel, an interval, a crossover, a rank?"""
    return {"covered": COVERED}
