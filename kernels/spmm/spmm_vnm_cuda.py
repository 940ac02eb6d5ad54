"""V:N:M on sparse tensor cores: columns that V rows share are gathered, of every four each row picks two.

Of M columns four are met, whatever M is, and multiplied at the rate of 2:4: 2/M of the dense product is done,
in half the instructions that many multiplications take. 2:4 itself, and what is legal as 2:4, is the case of
four columns that are all kept. The idea is that of VENOM (SC 2023).

Bad at: few columns, where a block has no company to keep the GPU busy; rows of `b` that are gathered for
16 rows alone: the larger V, the more rows share them.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite.cuda import launch, nvrtc
from suite.cuda.launch import LIVE, Launch
from suite.formats.bsr import whole
from suite.formats.fragments import LANES, fragments
from suite.formats.v_n_of_m import KEPT, shared_columns
from suite.kernel import Prepared, kernel
from suite.patterns.n_of_m import NofM
from suite.patterns.v_n_of_m import COLUMNS, VNofM

SOURCE = Path(__file__).with_suffix(".cu")
SIDE, STEPS, STAGES, THREADS = 16, 2, 3, 128  # as in the source
GROUPS = 8 * STEPS  # of four, that a round takes
HEIGHTS, WIDTHS = (64, 32, 16), (32, 64, 128)  # of a block's tile of the answer


def shared_bytes(height, width):
    """Of the stages: values and places of each 16 rows, and the rows of b, eight numbers apart."""
    tiles = height // SIDE
    return STAGES * (tiles * (2 * STEPS * SIDE * SIDE + 4 * LANES) + 2 * COLUMNS * GROUPS * (width + 8))


def bands_of(pattern):
    """Rows that share columns, and of how many columns four; what is legal as 2:4 has all of four."""
    return (pattern.v, pattern.m) if isinstance(pattern, VNofM) else (HEIGHTS[0], COLUMNS)


def height_of(v, m, across, processors):
    """Rows of a block: as many as fit a band, yet no more than leave a block for each multiprocessor."""
    fit = [height for height in HEIGHTS if v % height == 0]
    return next((height for height in fit if -(-m // height) * across >= processors), fit[-1])


def rounds_of(held):
    """A round's values, places and rows of b, as the source reads them.

    values: [tiles, rounds, steps, lanes, 8]; places: int32[tiles, rounds, lanes]; sources: int32[bands,
    rounds, rows of b].
    """
    (m, groups, _), (bands, *_) = held.values.shape, held.columns.shape
    tiles, rounds = -(-m // SIDE), -(-groups // GROUPS)
    shape = tiles * SIDE, rounds * GROUPS
    values = torch.zeros(*shape, KEPT, dtype=held.values.dtype)
    values[:m, :groups] = held.values
    values = values.view(tiles, SIDE, rounds * STEPS, SIDE).transpose(1, 2)
    codes = np.full(shape, 0b0100, np.int64)  # the first two of four: places of zeros
    places = held.places.numpy().astype(np.int64)
    codes[:m, :groups] = places[..., 0] | places[..., 1] << 2
    sources = torch.full((bands, shape[1], COLUMNS), -1, dtype=torch.int32)
    sources[:, :groups] = held.columns
    return (
        fragments(values).view(tiles, rounds, STEPS, LANES, -1),
        words_of(codes.reshape(tiles, SIDE, rounds, GROUPS)),
        sources.view(bands, rounds, -1),
    )


def words_of(codes: np.ndarray) -> Tensor:
    """Codes of four bits [tiles, rows, rounds, groups] as words int32[tiles, rounds, lanes].

    Lane 4g + t has four groups from 4t on, of row g in its lower half and of row g + 8 in its upper.
    """
    tiles, _, rounds, _ = codes.shape
    four = codes.reshape(tiles, 2, 8, rounds, 4, 4)  # halves, g, rounds, t, groups
    halves = (four << 4 * np.arange(4)).sum(-1)
    words = halves[:, 0] | halves[:, 1] << 16
    return torch.from_numpy(
        np.ascontiguousarray(
            words.transpose(0, 2, 1, 3).reshape(tiles, rounds, LANES).astype(np.uint32)
        ).view(np.int32)
    )


def refuse(case, device):
    said, pattern = nvrtc.missing(), case.pattern
    if pattern.n > KEPT:
        said.append(f"a sparse tensor core keeps {KEPT} of four, {pattern} keeps {pattern.n}")
    if isinstance(pattern, VNofM) and pattern.v % SIDE:
        said.append(
            f"a tensor core takes {SIDE} rows at once, and {pattern} shares columns among {pattern.v}"
        )
    if isinstance(pattern, NofM) and pattern.m % COLUMNS:
        said.append(f"{pattern} may keep more than {KEPT} of four columns")
    return said


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("bfloat16", "float16"),
    patterns=(VNofM, NofM),
    isa=("sm_80",),
    refuse=refuse,
)
def spmm_vnm_cuda(a, b):
    """Shared columns gathered, and 2:4 within them on sparse tensor cores, in CUDA C++."""
    m, n, device = a.shape[0], b.shape[1], b.device
    v, offered = bands_of(a.pattern)
    held = shared_columns(a.to("cpu"), v, offered)
    values, places, sources = (one.to(device) for one in rounds_of(held))
    rounds = places.shape[1]
    width = next((width for width in WIDTHS if n <= width), WIDTHS[-1])
    across = -(-n // width)
    height = height_of(v, m, across, launch.processors(device))
    out = b.new_empty(m, n)
    dtype = str(b.dtype).removeprefix("torch.")
    one = Launch(
        f"spmm_{dtype}_{height}x{width}{'' if n % 8 == 0 else '_ragged'}",
        (-(-m // height), across, 1),
        THREADS,
        shared_bytes(height, width),
        (values, places, sources, LIVE, out, m, n, v // SIDE, rounds),
    )
    multiply = launch.bind(SOURCE, device, one)

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * values.numel() * whole(n, width),
        values=values.nbytes,
        metadata=places.nbytes + sources.nbytes,
        holds=(values, places, sources, out),
        note={"algorithm": f"{height}x{width}"},
        executed_pattern=executed(a.pattern),
    )


def executed(pattern):
    """What it runs as, where that is more than the pattern keeps."""
    if isinstance(pattern, VNofM):
        return None if pattern.n == KEPT else f"{pattern.v}:{KEPT}:{pattern.m}"
    return None if (pattern.n, pattern.m) == (KEPT, COLUMNS) else f"{KEPT}:{COLUMNS}"
