"""Recent: the first tokens and the last, whatever is in them, as heads that stream see a text."""

import torch

from suite.selection import by_query
from suite.selector import Keeping, selector

SINKS = 1  # pages


@selector(ops=("decode", "decode_offload"), control="habit")
def recent(case, k, v):
    """The first page and the last ones."""
    scores = torch.arange(case["t"] // case["b"], dtype=torch.float32, device=k.device)
    scores[:SINKS] = len(scores)
    found = by_query(scores.expand(case["n"], case["h"], -1), case)
    return Keeping(lambda q: found, (found.starts, found.columns))
