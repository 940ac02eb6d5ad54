"""Monarch: the blocks of two block-diagonal factors, and the nearest such product to any matrix.

Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training", ICML 2022. In the
product, what group g answers to block i is a slice: rows g, g + groups, ... and the columns of the block. Its
rank is the part's width, and slices share nothing. So the nearest product has each slice cut to that rank by
its singular values, and no search can do better (Eckart and Young).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from suite.formats.factors import factors
from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.monarch import Monarch
from suite.sparse import Sparse, from_positions


@dataclass(frozen=True, eq=False)
class Blocks:
    """The factors of an m x k matrix.

    right: [blocks, hidden of a block, inputs of a block]; left: [groups, outputs of a group, its hidden], the
    hidden numbers of a group by block. Output i of group g is row i groups + g.
    """

    right: Tensor
    left: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        groups, outputs, _ = self.left.shape
        blocks, _, inputs = self.right.shape
        return groups * outputs, blocks * inputs

    @property
    def rank(self) -> int:
        """Of a slice: hidden numbers that a block and a group share."""
        return self.left.shape[2] // self.right.shape[0]

    @property
    def parameters(self) -> int:
        return self.right.numel() + self.left.numel()

    @property
    def slices(self) -> tuple[Tensor, Tensor]:
        """The factors by slice: [groups, blocks, outputs, rank] and [groups, blocks, rank, inputs]."""
        (blocks, _, inputs), (groups, outputs, _) = self.right.shape, self.left.shape
        right = self.right.view(blocks, groups, self.rank, inputs).transpose(0, 1)
        return self.left.view(groups, outputs, blocks, self.rank).transpose(1, 2), right

    @property
    def dense(self) -> Tensor:
        """The product of the factors."""
        left, right = self.slices
        return (left @ right).permute(2, 0, 1, 3).reshape(self.shape)

    def multiply(self, x: Tensor) -> Tensor:
        """The product with x [k, n], factor by factor."""
        blocks, groups = len(self.right), len(self.left)
        hidden = torch.bmm(self.right, x.reshape(blocks, -1, x.shape[1]))
        dealt = hidden.view(blocks, groups, self.rank, -1).transpose(0, 1).reshape(groups, -1, x.shape[1])
        return torch.bmm(self.left, dealt).transpose(0, 1).reshape(-1, x.shape[1])


def blocks(a: Sparse) -> Blocks:
    """The blocks of factors whose pattern is Monarch's. Refused: nonzeros stand elsewhere."""
    assert isinstance(a.pattern, Monarch)
    starts, columns = a.pattern.positions(*a.shape, 0)
    same = len(columns) == a.nonzeros and (a.starts.numpy() == starts).all()
    if not same or (a.columns.numpy() != columns).any():
        raise Refused(f"the nonzeros do not stand where {a.pattern} has them")
    groups, (m, k) = a.pattern.groups, a.shape
    upper, lower = factors(a)
    right = upper.values.view(a.pattern.blocks, k // a.pattern.blocks, -1)
    left = lower.values.view((m - k) // groups, groups, -1).transpose(0, 1).contiguous()
    return Blocks(right, left)


def unblocks(held: Blocks, pattern: Pattern) -> Sparse:
    """The factors that were put into blocks, one upon the other."""
    m, k = held.shape
    values = torch.cat((held.right.flatten(), held.left.transpose(0, 1).flatten()))
    starts, columns = pattern.positions(m + k, k, 0)
    return from_positions(starts, columns, values, (m + k, k), pattern)


def project(dense: Tensor, blocks: int, groups: int, rank: int) -> Blocks:
    """The nearest Monarch matrix, of slices of at most this rank, to m x k: by squares, in the dtype given.

    blocks divides k, groups divides m. The singular values are shared out evenly between the factors.
    """
    m, k = dense.shape
    sliced = dense.view(m // groups, groups, blocks, k // blocks).permute(1, 2, 0, 3)
    u, s, v = torch.linalg.svd(sliced, full_matrices=False)
    rank = min(rank, s.shape[-1])
    root = s[..., :rank].sqrt()
    left, right = u[..., :rank] * root[..., None, :], root[..., :, None] * v[..., :rank, :]
    return Blocks(
        right.transpose(0, 1).reshape(blocks, groups * rank, k // blocks),
        left.transpose(1, 2).reshape(groups, m // groups, blocks * rank),
    )
