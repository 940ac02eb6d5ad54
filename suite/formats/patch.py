"""Patch: tiles of a matrix, each stored whole, or halved where no aligned four of it holds more than two.

Of a halved tile each four keeps two values, and where they stand: four bits a four, two fours a byte. Any
matrix has this form. Ragged edges are padded with zeros; of zeros those with a sign are kept, as in `bsr`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from suite.formats.bsr import whole
from suite.pattern import Pattern
from suite.sparse import Sparse, from_positions

FOUR, KEPT, BITS = 4, 2, 2  # numbers of a four, those it keeps, bits of a place


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles of one kind by rows of tiles. starts: int32[rows of tiles + 1]; columns: int32[tiles], in tiles.

    values: [tiles, height, width], of halved ones [tiles, height, width / 4, 2]; places: uint8[tiles, height,
    width / 8] of halved ones, else empty.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    places: Tensor

    @property
    def metadata_bytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes + self.places.nbytes


@dataclass(frozen=True, eq=False)
class Patched:
    """An m x k matrix as tiles that are whole and tiles that are halved."""

    dense: Tiles
    halved: Tiles
    shape: tuple[int, int]

    @property
    def value_bytes(self) -> int:
        return self.dense.values.nbytes + self.halved.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.dense.metadata_bytes + self.halved.metadata_bytes


def patched(a: Sparse, height: int, width: int) -> Patched:
    """`a` in tiles of height x width, a multiple of eight wide; tiles of zeros alone are left out."""
    m, k = a.shape
    down, across = whole(m, height) // height, whole(k, width) // width
    wide = a.values.new_zeros(down * height, across * width)
    wide[:m, :k] = a.dense
    tiles = wide.view(down, height, across, width).transpose(1, 2)
    there = stored(tiles).unflatten(-1, (-1, FOUR))
    most = there.sum(-1).amax((-1, -2))
    return Patched(
        of_kind(tiles, most > KEPT, lambda chosen: (chosen, torch.empty(0, dtype=torch.uint8))),
        of_kind(tiles, (most > 0) & (most <= KEPT), halve),
        a.shape,
    )


def stored(tiles: Tensor) -> Tensor:
    """Which numbers are no padding."""
    return (tiles != 0) | tiles.signbit()


def of_kind(tiles: Tensor, chosen: Tensor, store: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tiles:
    """Those of [down, across, height, width] that are chosen, truths [down, across], stored that way."""
    starts = torch.zeros(len(chosen) + 1, dtype=torch.int32)
    starts[1:] = chosen.sum(1).cumsum(0)
    return Tiles(starts, chosen.nonzero()[:, 1].int(), *store(tiles[chosen]))


def halve(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Two values of every four, and their places: the first in the lowest bits."""
    fours = tiles.unflatten(-1, (-1, FOUR))
    places = stored(fours).logical_not_().byte().argsort(dim=-1, stable=True)[..., :KEPT]
    bits = (places[..., 0] | places[..., 1] << BITS).byte().unflatten(-1, (-1, 2))
    return fours.gather(-1, places), bits[..., 0] | bits[..., 1] << (KEPT * BITS)


def spread(tiles: Tiles) -> Tensor:
    """Halved tiles with their zeros in place."""
    bytes_ = tiles.places.long()
    fours = torch.stack((bytes_ & 15, bytes_ >> 4), -1).flatten(-2)
    places = torch.stack((fours & 3, fours >> BITS), -1)
    wide = tiles.values.new_zeros(*fours.shape, FOUR)
    return wide.scatter_(-1, places, tiles.values).flatten(-2)


def unpatched(held: Patched, pattern: Pattern) -> Sparse:
    """The matrix that was put into tiles; of its zeros only those with a sign are stored positions."""
    m, k = held.shape
    down = len(held.dense.starts) - 1
    kinds = (held.dense, held.dense.values), (held.halved, spread(held.halved))
    height, width = kinds[0][1].shape[1:] if len(kinds[0][1]) else kinds[1][1].shape[1:]
    wide = held.dense.values.new_zeros(down, whole(k, width) // width, height, width)
    for tiles, values in kinds:
        if len(values):
            rows = torch.repeat_interleave(torch.arange(down), tiles.starts.long().diff())
            wide[rows, tiles.columns.long()] = values
    flat = wide.transpose(1, 2).reshape(down * height, -1)[:m, :k]
    there = stored(flat)
    starts = torch.zeros(m + 1, dtype=torch.int64)
    starts[1:] = there.sum(1).cumsum(0)
    return from_positions(starts.numpy(), there.nonzero()[:, 1].numpy(), flat[there], (m, k), pattern)
