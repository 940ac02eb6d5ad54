"""Chosen: what is kept is picked at run time, from the live operands, by a selector."""

from suite.pattern import pattern
from suite.patterns.unstructured import Unstructured


@pattern("chosen@{sparsity}", family="chosen at run time")
class Chosen(Unstructured):
    """A budget. Its own positions are drawn blindly, and stand for as many as a selector may keep."""

    at_run_time = True
