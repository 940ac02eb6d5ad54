"""Lengths: the same trainings, a quarter and four times as long: what a law of data is fitted to.

Behind the "_" of a name stands the length; what stands before it is what is done.
"""

from suite.method import trainer
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.trainers.gradual import graded

QUARTER, FOURFOLD = 0.25, 4.0
DENSE = {"start": "fresh", "training": "weights", "extents": ("full",), "ids": ("sparse-scaling-laws",)}
GRADED = DENSE | {"after": ("magnitude-global",), "patterns": (Unstructured,)}


@trainer(**DENSE)
def plain_quarter(sparsifier):
    """Train a fresh model, a quarter as long as the dense one."""
    for _ in sparsifier.schedule(QUARTER):
        sparsifier.step()


@trainer(**DENSE)
def plain_fourfold(sparsifier):
    """Train a fresh model, four times as long as the dense one."""
    for _ in sparsifier.schedule(FOURFOLD):
        sparsifier.step()


@trainer(**GRADED)
def gradual_quarter(sparsifier):
    """Prune more and more of the smallest weights in a quarter of the training."""
    graded(sparsifier, QUARTER)


@trainer(**GRADED)
def gradual_fourfold(sparsifier):
    """Prune more and more of the smallest weights in four times the training."""
    graded(sparsifier, FOURFOLD)
