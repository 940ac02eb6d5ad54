"""Rows in Triton: a warp holds a stretch of one row of the answer, and adds row after row of `b` to it.

After Gale et al., "Sparse GPU Kernels for Deep Learning", SC 2020: rows in order of their length, so that
those that run together end together; a tile of columns so wide that each lane loads up to 16 bytes of a row
of `b`; values and indices loaded 16 bytes at a time, which a row need not begin at: a warp begins where the
16 bytes do, and leaves the strangers out. Rows that are very long are split. Tiles of columns come one after
the other, so that a slab of `b` stays in L2 while all of `a` passes by. Columns are 16 bits wide where they
fit.

A vector has its own form: a program takes several rows of about equal length, and lanes run along them.
"""

import torch
import triton
import triton.language as tl

from suite.cuda.tuning import Way, processors, quickest
from suite.formats.segments import segments
from suite.kernel import Prepared
from suite.kernels.spmm.parts_triton import Parts, unit_of

LOADED = 16  # bytes
LEAST = 256  # nonzeros that are worth a program
WARPS = 16  # of a multiprocessor that have work at a time: none longer than one's share of it
WIDEST = 128  # columns
LONGEST = 64  # nonzeros of a step
VECTOR = 1024  # nonzeros of a step of a program that multiplies a vector
NARROW = 2**16  # columns that 16 bits count


@triton.jit
def multiply(
    rows,
    firsts,
    ends,
    columns,
    values,
    b,
    out,
    partial,
    count,
    shared,
    units,
    UNIT: tl.constexpr,
    ALIGNED: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    """out = A b: one segment of a row of A, and a tile of columns.

    The first `shared` of `count` segments leave their sums in `partial`.
    """
    n = units * UNIT
    segment = tl.program_id(0) % count
    right = tl.program_id(0) // count * COLUMNS + tl.arange(0, COLUMNS)
    first, end = tl.load(firsts + segment), tl.load(ends + segment)
    upto = tl.cdiv(end, ALIGNED) * ALIGNED
    sums = tl.zeros((STEP, COLUMNS), tl.float32)
    for at in range(first // ALIGNED * ALIGNED, end, STEP):
        index = at + tl.arange(0, STEP)
        column = tl.load(columns + index, mask=index < upto, other=0).to(tl.int64)
        value = tl.load(values + index, mask=index < upto, other=0.0).to(tl.float32)
        own = (index >= first) & (index < end)
        there = own[:, None] & (right[None, :] < n)
        slab = tl.load(b + column[:, None] * n + right[None, :], mask=there, other=0.0)
        sums += tl.where(own, value, 0.0)[:, None] * slab.to(tl.float32)
    total = tl.sum(sums, 0)
    if segment < shared:
        tl.store(partial + tl.cast(segment, tl.int64) * n + right, total, mask=right < n)
    else:
        row = tl.load(rows + segment).to(tl.int64)
        tl.store(out + row * n + right, total.to(out.dtype.element_ty), mask=right < n)


@triton.jit
def multiply_vector(
    rows,
    firsts,
    ends,
    columns,
    values,
    b,
    out,
    partial,
    count,
    shared,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
):
    """The same of a vector: several segments."""
    segment = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = segment < count
    first = tl.load(firsts + segment, mask=real, other=0)
    end = tl.load(ends + segment, mask=real, other=0)
    begin, upto = first // ALIGNED * ALIGNED, tl.cdiv(end, ALIGNED) * ALIGNED
    sums = tl.zeros((ROWS, STEP), tl.float32)
    for at in range(0, tl.max(end - begin), STEP):
        index = begin[:, None] + (at + tl.arange(0, STEP)[None, :])
        column = tl.load(columns + index, mask=index < upto[:, None], other=0).to(tl.int64)
        value = tl.load(values + index, mask=index < upto[:, None], other=0.0).to(tl.float32)
        own = (index >= first[:, None]) & (index < end[:, None])
        sums += tl.where(own, value, 0.0) * tl.load(b + column, mask=own, other=0.0).to(tl.float32)
    total = tl.sum(sums, 1)
    row = tl.load(rows + segment, mask=real, other=0)
    tl.store(partial + segment, total, mask=segment < shared)
    tl.store(out + row, total.to(out.dtype.element_ty), mask=real & (segment >= shared))


def ways(n):
    """Rows and columns of a program, nonzeros of a step: as wide as the answer, if that is not too wide."""
    if n == 1:
        return [Way((VECTOR // step, 1, step), 4) for step in (32, 8, 16, 64, 128)]
    whole = triton.next_power_of_2(n)
    widths = [one for one in (WIDEST, WIDEST // 2, 2 * WIDEST) if one <= whole] or [whole]
    return [
        Way((1, width, min(size // width, LONGEST)), max(1, size // 2048))
        for size in (4096, 2048, 1024)
        for width in widths
    ]


def padded(entries, aligned):
    """With zeros up to whole loads."""
    return torch.nn.functional.pad(entries, (0, -len(entries) % aligned))


def prepare(a, b):
    """A b for compressed rows."""
    m, n, k = a.shape[0], b.shape[1], a.shape[1]
    here = a.to("cpu")
    aligned = LOADED // b.element_size()
    longest = max(LEAST, a.nonzeros * -(-n // WIDEST) // (WARPS * processors(b)))
    cut = segments(here.starts, longest)
    pieces = cut.to(b.device)
    columns = padded(here.columns, aligned)
    columns = (columns.to(torch.uint16) if k <= NARROW else columns).to(b.device)
    values, out = padded(here.values, aligned).to(b.device), b.new_empty(m, n)
    parts, unit, count = Parts(pieces, 1, out), unit_of(n), len(pieces.rows)
    held = (pieces.rows, pieces.firsts, pieces.ends, columns, values)

    def launch(way, b):
        height, wide, step = way.tile
        if n == 1:
            multiply_vector[(-(-count // height),)](
                *(*held, b, out, parts.partial, count, pieces.shared),
                ALIGNED=aligned,
                ROWS=height,
                STEP=step,
                **way.options,
            )
        else:
            multiply[(count * -(-n // wide),)](
                *(*held, b, out, parts.partial, count, pieces.shared, n // unit),
                UNIT=unit,
                ALIGNED=aligned,
                COLUMNS=wide,
                STEP=step,
                **way.options,
            )
        parts.add_up()

    key = ("rows", b.dtype, m, k, n, a.nonzeros)
    way = quickest(key, ways(n), lambda one: launch(one, b), b)
    height, wide, step = way.tile

    def run(b):
        launch(way, b)
        return out

    return Prepared(
        run,
        executed=2 * steps(cut, aligned, height, step) * step * wide * -(-n // wide),
        values=values.nbytes,
        metadata=columns.nbytes + pieces.metadata_bytes,
        holds=(pieces, columns, values, parts.partial, out),
        note={
            "way": way,
            "split": len(pieces.split),
            "indices": str(columns.dtype).removeprefix("torch."),
        },
    )


def steps(cut, aligned, height, step):
    """Steps of all rows; those of a program take as many as its longest."""
    count = -(-(cut.ends.long() - cut.firsts.long() // aligned * aligned) // step)
    count[cut.lengths == 0] = 0
    together = torch.nn.functional.pad(count, (0, -len(count) % height)).view(-1, height)
    return int(together.amax(1).sum()) * height
