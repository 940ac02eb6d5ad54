"""Corrected: the trained decoder with few neurons for each token, alone and with checks by all of them."""

from torch import Generator

from suite.method import transform
from suite.pattern import rounded
from suite.patterns.chosen import Chosen
from suite.workloads.accuracy.written import Checks, Written, anywhere, likely

EVERY = 8  # tokens
LEAST = 0.1  # probability of a token that stays
TERMS = {"patterns": (Chosen,), "tasks": ("byte_lm_written",), "ids": ("sirius",)}


@transform(**TERMS)
def sparse_alone(problem, pattern):
    """Few neurons for each token, and no checks."""
    return of(problem, pattern, Checks())


@transform(**TERMS)
def corrected(problem, pattern):
    """The whole model rewrites keys and values every few tokens, and tokens that it finds unlikely."""
    return of(problem, pattern, Checks(EVERY, likely(LEAST)))


@transform(**TERMS)
def corrected_strictly(problem, pattern):
    """The same, and every token becomes the whole model's own."""
    return of(problem, pattern, Checks(EVERY, likely(1.0)))


@transform(**TERMS)
def corrected_behind(problem, pattern):
    """The whole model rewrites keys and values every few tokens, and no token."""
    return of(problem, pattern, Checks(EVERY))


@transform(**TERMS, control=True)
def corrected_at_random(problem, pattern):
    """Keys and values are rewritten as well, and tokens anywhere."""
    return of(problem, pattern, Checks(EVERY, anywhere(1 / (2 * EVERY), Generator().manual_seed(0))))


def of(problem, pattern, checks):
    """The trained model, which keeps the pattern's share of its neurons."""
    hidden = problem.trained.blocks[0].gate.out_features
    return Written(problem.trained, rounded(pattern.sparsity, hidden), checks)
