"""how: what every number on the other pages is, in a sentence each."""

from suite.reading.ranking import COVERED
from suite.report import report

GATES = {  # as measured by `python -m suite.comparing.trial`: false and caught, drawn and then on a machine
    "sparsemark": ("0.2 % (0.1-0.4)", "95.5 % (94.0-96.7)", "0.0 % (0.0-0.6)", "100.0 % (98.2-100.0)"),
    "mean of all samples, 5 %": (
        *("0.0 % (0.0-0.1)", "52.1 % (49.0-55.2)"),
        *("69.2 % (65.3-72.8)", "95.0 % (91.0-97.6)"),
    ),
    "mean of all samples, 10 %": (
        *("0.0 % (0.0-0.1)", "0.0 % (0.0-0.4)"),
        *("56.0 % (51.9-60.0)", "91.0 % (86.1-94.6)"),
    ),
    "rank test on all samples": (
        *("70.0 % (68.4-71.7)", "100.0 % (99.6-100.0)"),
        *("37.3 % (33.5-41.3)", "100.0 % (98.2-100.0)"),
    ),
}


@report
def how(view):
    """What is a best dense kernel, an interval, a crossover, a rank?"""
    return {"covered": COVERED, "gates": GATES}
