"""DSnoT: swap weights in and out of a mask while that lowers the error of the layer's output.

Zhang et al., "Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs", ICLR 2024. There the
error is known by the inputs' mean and variance; here by all their second moments, so that a swap is made only
if it lowers the error on the calibration data for certain. Each row keeps its number of weights, their values
do not change, and within N:M a weight is swapped for one of its group. Greedy: it stops where no single swap
helps. What a row's outputs miss is multiplied by the moments once; from there on each swap changes it by two
of their rows, so that a round takes time in proportion to the weights.
"""

import torch

from suite.method import refiner
from suite.patterns.fan_in import FanIn
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured

ROUNDS = 50  # swaps of each row, at most


@refiner(after=("magnitude-uniform", "wanda-uniform"), patterns=(Unstructured, NofM, FanIn), ids=("dsnot",))
def dsnot(layer, mask, pattern):
    """Weights swapped in and out of the mask while the layer's error falls."""
    weight, moments = layer.weight.double(), layer.moments.double()
    group = pattern.m if isinstance(pattern, NofM) else weight.shape[1]
    alone = weight.square() * moments.diagonal()  # what a weight adds to the error by itself
    where, mask = torch.arange(weight.shape[1]), mask.clone()
    rows = torch.arange(len(weight))
    felt = (weight * ~mask) @ moments
    for _ in range(ROUNDS):
        gain = torch.where(mask, torch.inf, alone - 2 * weight * felt)
        better, grown = gain.min(1)
        without = felt - weight[rows, grown, None] * moments[grown]
        cost = torch.where(mask, alone + 2 * weight * without, torch.inf)
        cost = torch.where(where // group == grown[:, None] // group, cost, torch.inf)
        worse, dropped = cost.min(1)
        swap = better + worse < -1e-12 * alone.sum(1)
        if not swap.any():
            break
        mask[rows[swap], grown[swap]] = True
        mask[rows[swap], dropped[swap]] = False
        after = without + weight[rows, dropped, None] * moments[dropped]
        felt = torch.where(swap[:, None], after, felt)
    return mask, layer.weight * mask
