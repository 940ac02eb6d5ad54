"""A layer of a checkpoint: one two-dimensional tensor of a safetensors file, `FILE.safetensors:TENSOR`.

Or of all that lie in a folder, `FOLDER:TENSOR`. Pruned checkpoints are stored with their zeros in place, or
compressed (suite/sources/compressed.py); here the nonzeros are the values that are not 0.
"""

from collections.abc import Iterable

import torch

from suite.registry import Unusable, nearest
from suite.sources.compressed import Stored
from suite.sources.reader import Content, Located, Reader

NAMES_MOST = 8  # tensors listed in a message


def shape(where: Located) -> tuple[int, int]:
    stored = of(where)
    m, k = stored.shape(chosen(where, stored))
    return m, k


def read(where: Located) -> Content:
    stored = of(where)
    tensor = stored.tensor(chosen(where, stored))
    if tensor.is_complex():
        raise Unusable(
            f"{where.text} is {tensor.dtype}; only real matrices are measured. Name another tensor."
        )
    wide = tensor.double() if tensor.dtype == torch.float64 else tensor.float()
    rows, columns = torch.nonzero(wide, as_tuple=True)
    return Content(rows.numpy(), columns.numpy(), wide[rows, columns].numpy())


def of(where: Located) -> Stored:
    """The tensors of the file, or of the folder's."""
    return Stored.of(where.file) if where.file.is_dir() else Stored([where.file])


def chosen(where: Located, stored: Stored) -> str:
    """The tensor that was named, or the only matrix there is."""
    if where.part in stored and len(stored.shape(where.part)) == 2:
        return where.part
    matrices = [name for name in stored if len(stored.shape(name)) == 2]
    listed = ", ".join(matrices[:NAMES_MOST])
    if len(matrices) > NAMES_MOST:
        listed += f" and {len(matrices) - NAMES_MOST} more"
    if not matrices:
        raise Unusable(f"{where.file} has no two-dimensional tensor. Name another file.")
    if where.part in stored:
        raise Unusable(f"{where.text} is not two-dimensional. Two-dimensional are: {listed}.")
    if where.part:
        near = nearest(where.part, matrices)
        hint = f" Did you mean {near}?" if near else ""
        raise Unusable(f"{where.file} has no tensor {where.part!r}.{hint} Two-dimensional are: {listed}.")
    if len(matrices) > 1:
        raise Unusable(
            f"{where.file} has {len(matrices)} matrices; name one, as in {where.file}:{matrices[0]}. "
            f"There are: {listed}."
        )
    return matrices[0]


def content(where: Located) -> Iterable[bytes]:
    """The tensor's own bytes: the same layer in another file has the same hash."""
    stored = of(where)
    return stored.content(chosen(where, stored))


READER = Reader((".safetensors",), shape, read, parts=True, content=content, folders=True)
