"""Flushing: emptying the caches whole, where there is no dropping what a kernel holds line by line."""

import torch


class Evictor:
    """Pushes everything out by writing and reading twice the last level; for where lines cannot be named."""

    def __init__(self, last_level: int) -> None:
        self.buffer = torch.zeros(2 * last_level // 8, dtype=torch.int64)

    def __call__(self) -> None:
        self.buffer.add_(1)
        self.buffer.sum()
