"""Window: the first blocks and the nearest, whatever is in them (StreamingLLM's shape; A-shape)."""

import torch

from suite.selection import by_row
from suite.selector import selector

SINKS = 1  # blocks


@selector(ops=("attention", "attention_causal"), control="habit")
def window(case):
    """The first block and the nearest ones."""
    across = case["n"] // case["b"]
    rows = torch.arange(across)[:, None]
    columns = torch.arange(across)[None]
    scores = -(rows - columns).abs().float()
    scores[:, :SINKS] = 1.0

    def select(q, k, v):
        return by_row(scores.to(q.device).expand(case["h"], -1, -1), case)

    return select
