"""Random blocks: the same number in each row, drawn without looking."""

import torch

from suite.selection import by_row
from suite.selector import selector


@selector(ops=("attention", "attention_causal"), control="luck")
def random_blocks(case):
    """Blocks drawn without looking; what a selector finds beyond them, it found."""
    drawn = torch.Generator().manual_seed(case.seed)
    across = case["n"] // case["b"]
    scores = torch.rand(case["h"], across, across, generator=drawn)

    def select(q, k, v):
        return by_row(scores.to(q.device), case)

    return select
