"""COMET: experts asked by soft trees, beside the gates it is held against, as many active neurons in each.

Ibrahim et al., "COMET: Learning Cardinality Constrained Mixture of Experts with Trees and Local Search", KDD
2023. The gates are in workloads/accuracy/gates.py, that of the highest logits is `experts`, the search for
better places of experts is a trainer, `swapped`. Soft gates learn by all experts, and are counted so.
"""

from suite.method import transform
from suite.workloads.accuracy.gates import Codes, Hashed, Trees
from suite.workloads.accuracy.transforms.experts import EXPERTS, SEARCHED, mixed

TERMS = SEARCHED | {"after": ("plain", "swapped", "swapped_at_random"), "ids": ("comet",)}


@transform(**TERMS, tuning_runs=11)
def trees(problem, pattern):
    """Experts with as many active neurons as the dense layer; a token asks those that trees lead to."""
    return mixed(problem, pattern, lambda dim, asked: Trees(dim, EXPERTS, asked, problem.steps))


@transform(**TERMS, tuning_runs=7)
def dselect(problem, pattern):
    """Experts with as many active neurons as the dense layer; a token asks those of codes with soft bits."""
    return mixed(problem, pattern, lambda dim, asked: Codes(dim, EXPERTS, asked, problem.steps))


@transform(**TERMS)
def hashed_experts(problem, pattern):
    """Experts with as many active neurons as the dense layer; a token asks those its place is hashed to."""
    return mixed(problem, pattern, lambda dim, asked: Hashed(EXPERTS, asked))
