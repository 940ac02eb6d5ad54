"""how: what every number on the other pages is, in a sentence each."""

import csv
from pathlib import Path

from suite.reading.ranking import COVERED
from suite.report import report

GATES = Path(__file__).with_name("gates.csv")  # as `python -m suite.comparing.trial --keep` writes it
SHOWN = {  # of its columns
    "±2 %: false": "drawn, equal code: false",
    "±2 %: 5 % caught": "5 % slower: caught",
    "equal code: false": "measured, equal code: false",
    "30 % slower code: caught": "30 % slower: caught",
}


@report
def how(view):
    """What is a best dense kernel, an interval, a crossover, a rank?"""
    with GATES.open(encoding="utf-8", newline="") as opened:
        gates = list(csv.DictReader(opened))
    return {"covered": COVERED, "gates": gates, "shown": SHOWN}
