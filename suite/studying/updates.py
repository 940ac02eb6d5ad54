"""Updates: what tuning changed of the weights it began with: how many, and along how many directions.

Mukherjee et al., "Reinforcement Learning Finetunes Small Subnetworks in Large Language Models", 2025: an
update may leave most weights as they are and have full rank all the same, so they are two measures.
"""

from collections.abc import Iterable
from statistics import fmean

import torch
from torch import Tensor

LARGEST = 2**22  # weights of a layer of which the rank is found: its singular values take long


def updates(pairs: Iterable[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """Of layers (before, after, mask): weights left inside the masks as they were, as a share of all inside;
    and the rank of the change over the most that it could be, on the mean over layers.
    """
    left, inside, ranks = 0, 0, []
    for before, after, mask in pairs:
        change = (after - before)[mask]
        left += int((change == 0).sum())
        inside += change.numel()
        if before.numel() <= LARGEST:
            whole = torch.where(mask, after.double() - before.double(), 0)
            rounded = 2 * torch.finfo(after.dtype).eps * after.abs().max() * max(after.shape) ** 0.5
            ranks.append(int(torch.linalg.matrix_rank(whole, atol=rounded, rtol=0)) / min(after.shape))
    found = {"update sparsity": left / inside} if inside else {}
    return found | ({"update rank": fmean(ranks)} if ranks else {})
