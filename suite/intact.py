"""Intact: whether shared operands are still what they were. A kernel that writes into them would be its
neighbours' undoing, for all kernels of a case work on one sparse operand."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from suite.sparse import Sparse


class Intact:
    """Copies of operands, to hold them against and to restore them from."""

    def __init__(self, operands: dict[str, Any]) -> None:
        self._operands = operands
        self._copies: dict[str, Tensor] = {}
        self.changed()

    def changed(self) -> Sequence[str]:
        """Names of operands that are not what they were; afterwards they are again."""
        found = []
        for name, tensor in self._tensors():
            kept = self._copies.setdefault(name, tensor.clone())
            if not torch.equal(comparable(tensor), comparable(kept)):
                tensor.copy_(kept)
                found.append(name)
        return found

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, one in self._operands.items():
            if isinstance(one, Tensor):
                yield name, one
            elif isinstance(one, Sparse):
                yield f"{name}.starts", one.starts
                yield f"{name}.columns", one.columns
                yield f"{name}.values", one.values
                if "dense" in vars(one):  # the form that dense kernels share, once one of them asked
                    yield f"{name}.dense", one.dense


def comparable(tensor: Tensor) -> Tensor:
    """Numbers of 8 bits as those bits: torch compares them as nothing else."""
    return tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor
