"""Fragments: 16 x 16 tiles in the order in which the lanes of a warp hold them for a tensor core.

A lane's eight numbers stand together, so a warp loads a tile in one go and nothing is shuffled. The order is
that of operand A of mma.m16n8k16 in NVIDIA's PTX ISA, and of the kept numbers of mma.sp.m16n8k32.
"""

from functools import cache

import torch
from torch import Tensor

SIDE, LANES, EACH = 16, 32, 8


def fragments(tiles: Tensor) -> Tensor:
    """[..., 16, 16] as [..., 32, 8]: what each lane holds of a tile."""
    return tiles.flatten(-2)[..., order()].unflatten(-1, (LANES, EACH)).contiguous()


def tiles(held: Tensor) -> Tensor:
    """[..., 32, 8] as [..., 16, 16]: the tiles again."""
    return held.flatten(-2)[..., order().argsort()].unflatten(-1, (SIDE, SIDE)).contiguous()


@cache
def order() -> Tensor:
    """The position in a tile of each number that the lanes hold: int64[256].

    Lane 4g + t has columns 2t and 2t + 1 of row g, then of row g + 8, then both again eight columns on.
    """
    lane, register, half = torch.meshgrid(
        torch.arange(LANES), torch.arange(EACH // 2), torch.arange(2), indexing="ij"
    )
    row = lane // 4 + 8 * (register % 2)
    column = 2 * (lane % 4) + half + 8 * (register // 2)
    return (SIDE * row + column).flatten()
