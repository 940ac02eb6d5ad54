"""SAP: pruning in rounds, each as far as the weights that are left can be compressed by their PQ index.

Diao et al., "Pruning Deep Neural Networks from a Sparsity Perspective", ICLR 2023. The more unequal the sizes
of the weights, the more of them may go: of d weights with the index I, at least d (1 + eta)^(q / (p - q)) (1
- I)^(q p / (q - p)) are to stay. Each round prunes and trains; the last one goes no further than was asked,
and as far as was asked where the rounds do not come to it.
"""

import torch

from suite.method import trainer
from suite.patterns.unstructured import Unstructured
from suite.studying.quality import pq_index

P, Q = 0.5, 1.0
ETA, GAMMA, BETA = 0.0, 1.0, 0.9  # slack, eagerness, and the most that one round may prune
ROUNDS = 5
SHARE = 0.5 / ROUNDS  # of the dense training, in each: together as long as `finetune`


@trainer(
    after=("magnitude-global",),
    patterns=(Unstructured,),
    training="weights",
    extents=("full",),
    ids=("pq-index",),
)
def sap(sparsifier):
    """Prune in rounds, each by the PQ index of the weights that are left, and train after each."""
    density = 1.0
    for at in range(ROUNDS):
        left = torch.cat([layer.weight[layer.weight != 0] for layer in sparsifier.layers.values()])
        density = max(1 - sparsifier.sparsity, density * (1 - ratio(pq_index(left, P, Q))))
        if at == ROUNDS - 1:
            density = 1 - sparsifier.sparsity
        sparsifier.prune(1 - density)
        for _ in sparsifier.schedule(SHARE):
            sparsifier.step()


def ratio(index):
    """The share of its weights that a model of this index may lose in a round."""
    kept = (1 + ETA) ** (Q / (P - Q)) * (1 - index) ** (Q * P / (Q - P))
    return min(BETA, max(0.0, GAMMA * (1 - kept)))
