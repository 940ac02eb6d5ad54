"""Sources: matrices that come from files. A file becomes an id, and cases carry the id.

    id = add("ca-CondMat.mtx")     # "ca-CondMat.mtx-1f3a9c02": its name, and the start of its content's hash
    argument(id)                   # "ca-CondMat.mtx" again, what a user names where the file lies
    m, k = shape(id)
    a = load(id, torch.float32, seed=0)

One file of this folder for each format. The id says what was measured on any machine; where the file lies is
known to this process only, and a child process is told with `use`.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote

import numpy as np
import torch

from suite.pattern import Pattern
from suite.patterns.given import Given
from suite.patterns.n_of_m import NofM
from suite.registry import Unusable
from suite.sources.checks import check_fill, check_sides
from suite.sources.reader import Content, locate
from suite.sparse import Sparse, from_positions

GIVEN = Given()

_paths: dict[str, str] = {}


def add(text: str) -> str:
    """Register the matrix a user named, `FILE` or `FILE.safetensors:TENSOR`, and return its id."""
    where = locate(text)
    check_sides(where.text, *where.reader.shape(where))
    names = (where.file.name, where.part) if where.part else (where.file.name,)
    data = f"{':'.join(quote(name, safe='+').replace('~', '%7E') for name in names)}-{where.fingerprint()}"
    _paths[data] = where.text
    return data


def argument(data: str) -> str:
    """What an id's matrix is called where its file lies: what `add` takes there."""
    name = ":".join(unquote(part) for part in data.rpartition("-")[0].split(":"))
    # Plain, the first would be an option and the second somebody's home.
    return f"./{name}" if name.startswith(("-", "~")) else name


def known() -> dict[str, str]:
    """Where each registered id's file lies."""
    return dict(_paths)


def use(paths: Mapping[str, str]) -> None:
    """Register ids as another process found them."""
    _paths.update(paths)


def shape(data: str) -> tuple[int, int]:
    """Rows and columns, from the file's header where it has one."""
    where = locate(_path(data))
    return check_sides(where.text, *where.reader.shape(where))


def load(data: str, dtype: torch.dtype, seed: int, pattern: Pattern = GIVEN) -> Sparse:
    """The matrix. Where the file holds positions alone, values are standard normal, drawn from the seed.

    pattern: one that it has, N:M; zeros are then stored where it holds fewer nonzeros. Unusable: it has not.
    """
    where = locate(_path(data))
    if where.fingerprint() != data.rpartition("-")[2]:
        raise Unusable(f"{where.text} is not the file it was as {data}: its content changed. Name it anew.")
    m, k = check_sides(where.text, *where.reader.shape(where))
    content = where.reader.read(where)
    if isinstance(pattern, NofM):
        content = filled(where.text, content, pattern, m, k)
    starts, columns, order = compress(where.text, content, m, k)
    if content.values is None:
        drawn = np.random.default_rng([seed, 1]).standard_normal(len(columns), np.float32)
        values = torch.from_numpy(drawn).to(dtype)
    else:
        values = converted(where.text, content.values[order], dtype)
    return from_positions(starts, columns, values, (m, k), pattern)


def _path(data: str) -> str:
    if data not in _paths:
        raise Unusable(f"no file is known for the data {data!r}. Name the file with --matrix FILE.")
    return _paths[data]


def filled(text: str, content: Content, pattern: NofM, m: int, k: int) -> Content:
    """With zeros stored where a group holds less than it may."""
    try:
        rows, columns = pattern.lacking(content.rows, content.columns, m, k)
    except Unusable as wrong:
        raise Unusable(f"{text} is not {pattern}: {wrong}") from None
    values = np.ones(len(content.rows)) if content.values is None else content.values
    return Content(
        np.concatenate([content.rows, rows]),
        np.concatenate([content.columns, columns]),
        np.concatenate([values, np.zeros(len(rows), values.dtype)]),
    )


def compress(text: str, content: Content, m: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """starts, columns, and the order that puts the entries' values in place."""
    rows, columns = content.rows, content.columns
    check_fill(text, m, k, len(rows))
    for name, numbers, side in (("row", rows, m), ("column", columns, k)):
        if numbers.min() < 0 or numbers.max() >= side:
            worst = numbers.min() if numbers.min() < 0 else numbers.max()
            raise Unusable(f"{text} has an entry in {name} {worst + 1} of {side}. Mend or replace the file.")
    flat = rows * np.int64(k) + columns
    order = np.argsort(flat, kind="stable")
    flat = flat[order]
    if len(twice := np.flatnonzero(flat[1:] == flat[:-1])):
        row, column = divmod(int(flat[twice[0]]), k)
        raise Unusable(
            f"{text} has two entries in row {row + 1}, column {column + 1}; which one is meant? "
            "Add them up, or drop one."
        )
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=m))))
    return starts, columns[order], order


def converted(text: str, values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """The values in the case's dtype, all finite."""
    wide = torch.from_numpy(np.ascontiguousarray(values, np.float64))
    if not wide.isfinite().all():
        raise Unusable(f"{text} holds NaN or infinite values; no answer could be checked. Mend the file.")
    made = wide.to(dtype)
    if not made.isfinite().all():
        largest, most = float(wide.abs().max()), torch.finfo(dtype).max
        raise Unusable(
            f"{text} holds values up to {largest:.3g}, which overflow {str(dtype).removeprefix('torch.')} "
            f"(at most {most:.3g}). Measure it in another dtype, or scale it."
        )
    return made
