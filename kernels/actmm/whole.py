"""Whole: a weight that is multiplied with its zeros, in place of a sparse one, for dense kernels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Whole:
    """The part of a sparse matrix that dense kernels look at."""

    dense: Tensor

    @property
    def shape(self):
        return self.dense.shape
