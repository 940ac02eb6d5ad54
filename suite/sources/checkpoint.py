"""A layer of a checkpoint: one two-dimensional tensor of a safetensors file, `FILE.safetensors:TENSOR`.

Pruned checkpoints are stored with their zeros in place, so here the nonzeros are the values that are not 0.
"""

import json
from collections.abc import Iterable

import torch
from safetensors import SafetensorError, safe_open

from suite.registry import Unusable, nearest
from suite.sources.reader import CHUNK, Content, Located, Reader

NAMES_MOST = 8  # tensors listed in a message


def shape(where: Located) -> tuple[int, int]:
    with opened(where) as file:
        m, k = file.get_slice(chosen(where, file)).get_shape()
    return m, k


def read(where: Located) -> Content:
    with opened(where) as file:
        tensor = file.get_tensor(chosen(where, file))
    if tensor.is_complex():
        raise Unusable(
            f"{where.text} is {tensor.dtype}; only real matrices are measured. Name another tensor."
        )
    wide = tensor.double() if tensor.dtype == torch.float64 else tensor.float()
    rows, columns = torch.nonzero(wide, as_tuple=True)
    return Content(rows.numpy(), columns.numpy(), wide[rows, columns].numpy())


def opened(where: Located) -> safe_open:
    """The file, whose header safetensors holds against its size."""
    try:
        return safe_open(where.file, framework="pt")
    except (SafetensorError, OSError, ValueError) as failed:
        says = str(failed).strip().rstrip(".")
        raise Unusable(
            f"{where.text} is not a safetensors file that can be read: {says}. Copy or download it again."
        ) from None


def chosen(where: Located, file: safe_open) -> str:
    """The tensor that was named, or the only matrix there is."""
    names = list(file.keys())
    matrices = [name for name in names if len(file.get_slice(name).get_shape()) == 2]
    if where.part in matrices:
        return where.part
    listed = ", ".join(matrices[:NAMES_MOST])
    if len(matrices) > NAMES_MOST:
        listed += f" and {len(matrices) - NAMES_MOST} more"
    if not matrices:
        raise Unusable(f"{where.file} has no two-dimensional tensor. Name another file.")
    if where.part in names:
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
    with opened(where) as file:
        name = chosen(where, file)
    with where.file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        entry = json.loads(raw.read(length))[name]
        first, last = entry["data_offsets"]
        yield f"{entry['dtype']} {entry['shape']}".encode()
        raw.seek(8 + length + first)
        for at in range(first, last, CHUNK):
            yield raw.read(min(CHUNK, last - at))


READER = Reader((".safetensors",), shape, read, parts=True, content=content)
