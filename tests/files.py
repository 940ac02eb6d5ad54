"""Files that hold a matrix, and what holds for every matrix that was read from one."""

import gzip
import io
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import save_file

from suite import sources
from suite.patterns.given import Given
from suite.sparse import Sparse

DENSE = np.array([[0, 2.5, 0], [-1, 0, 3], [0, 0, 0], [4, 0, 0]], np.float32)
BANNER = "%%MatrixMarket matrix coordinate real general\n"


def put(folder: Path, name: str, content: str | bytes) -> str:
    """A file of that content."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def loaded(text: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Sparse:
    return sources.load(sources.add(text), dtype, seed)


def check(a: Sparse) -> None:
    """What holds for every Sparse."""
    m, k = a.shape
    assert a.starts.dtype == a.columns.dtype == torch.int32
    assert len(a.starts) == m + 1 and int(a.starts[0]) == 0 and int(a.starts[-1]) == a.nonzeros
    assert int(a.columns.min()) >= 0 and int(a.columns.max()) < k
    flat = torch.repeat_interleave(torch.arange(m), a.row_lengths) * k + a.columns
    assert (flat.diff() > 0).all()
    assert a.pattern == Given()


def written(folder: Path, ending: str) -> str:
    """DENSE in a format."""
    file = folder / f"a{ending}"
    if ending == ".mtx":
        scipy.io.mmwrite(file, scipy.sparse.coo_array(DENSE))
    elif ending == ".mtx.gz":
        text = io.BytesIO()
        scipy.io.mmwrite(text, scipy.sparse.coo_array(DENSE))
        file.write_bytes(gzip.compress(text.getvalue()))
    elif ending == ".npz":
        scipy.sparse.save_npz(file, scipy.sparse.csr_array(DENSE))
    elif ending == ".safetensors":
        save_file({"layer.weight": torch.from_numpy(DENSE)}, file)
    elif ending == ".smtx":
        file.write_text("4, 3, 4\n0 1 3 3 4 \n1 0 2 0 \n")
    return str(file)


ENDINGS = (".mtx", ".mtx.gz", ".npz", ".safetensors", ".smtx")
