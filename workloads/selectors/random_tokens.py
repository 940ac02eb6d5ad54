"""Random tokens: as many pages for each head, drawn without looking."""

import torch

from suite.selection import by_query
from suite.selector import Keeping, selector


@selector(ops=("decode", "decode_offload"), control="luck")
def random_tokens(case, k, v):
    """Pages drawn once, without looking; what a selector finds beyond them, it found."""
    drawn = torch.Generator().manual_seed(case.seed)
    scores = torch.rand(case["n"], case["h"], case["t"] // case["b"], generator=drawn)
    found = by_query(scores.to(k.device), case)
    return Keeping(lambda q: found, (found.starts, found.columns))
