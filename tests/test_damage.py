"""Damaged files: one clear sentence, whatever is wrong, and no memory for what a header only claims."""

import gzip
import io
import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from files import BANNER, ENDINGS, check, loaded, put, written
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from suite import sources
from suite.case import case
from suite.op import discover_parts, make_operands
from suite.patterns.given import Given
from suite.registry import Unusable

discover_parts()


def safetensors(header: object, content: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def npz(**arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.savez(made, allow_pickle=True, **arrays)
    return made.getvalue()


def lying_npz() -> bytes:
    """An array whose header claims 8 TB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    made = io.BytesIO(csr([1.0], [0], [0, 1], (1, 1)))
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(new := io.BytesIO(), "w") as archive:
        for name in old.namelist():
            archive.writestr(name, header.getvalue() if name == "data.npy" else old.read(name))
    return new.getvalue()


def csr(values: list, columns: list, starts: list, shape: tuple) -> bytes:
    return npz(
        format=np.array(b"csr"),
        data=np.array(values),
        indices=np.array(columns, np.int32),
        indptr=np.array(starts, np.int32),
        shape=np.array(shape),
    )


def mtx(kind: str, rest: str) -> str:
    return f"%%MatrixMarket matrix {kind}\n{rest}"


VALID_GZ = gzip.compress((BANNER + "2 2 2\n1 1 1\n2 2 2\n").encode() * 50)

DAMAGED: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.mtx", "", "is empty: 0 bytes"),
    "ending": (
        "a.csv",
        "1,2",
        "is not of a known format. Known endings: .mtx, .mtx.gz, .npz, .safetensors, .smtx",
    ),
    "no banner": ("a.mtx", "2 2 1\n1 1 1\n", "the first line is b'2 2 1"),
    "binary": ("a.mtx", bytes(range(256)) * 9, "the first line is"),
    "vector": ("a.mtx", "%%MatrixMarket vector coordinate real general\n", "the first line is"),
    "layout": ("a.mtx", mtx("list real general", "1 1 1\n"), "the layout is 'list'"),
    "complex": (
        "a.mtx",
        mtx("coordinate complex general", "1 1 1\n1 1 1 1\n"),
        "only real matrices are measured",
    ),
    "hermitian": (
        "a.mtx",
        mtx("coordinate real hermitian", "1 1 1\n1 1 1\n"),
        "only real matrices are measured",
    ),
    "field": (
        "a.mtx",
        mtx("coordinate text general", "1 1 1\n1 1 1\n"),
        "coordinate text is no kind of entries",
    ),
    "symmetry": ("a.mtx", mtx("coordinate real odd", "1 1 1\n1 1 1\n"), "the symmetry is 'odd'"),
    "no sizes": ("a.mtx", BANNER + "% only\n% comments\n", "the line of sizes is b''"),
    "two sizes": ("a.mtx", BANNER + "2 2\n1 1 1\n", "the line of sizes is b'2 2"),
    "word sizes": ("a.mtx", BANNER + "two 2 1\n", "the line of sizes is b'two 2 1"),
    "negative": ("a.mtx", BANNER + "-2 2 1\n1 1 1\n", "sizes cannot be negative"),
    "not square": ("a.mtx", mtx("coordinate real symmetric", "2 3 1\n1 1 1\n"), "must be square"),
    "no rows": ("a.mtx", BANNER + "0 2 0\n", "is 0 x 2: empty"),
    "no entries": ("a.mtx", BANNER + "2 2 0\n", "has no nonzeros"),
    "too many": ("a.mtx", BANNER + "2 2 5\n" + "1 1 1\n" * 5, "claims 5 entries, and 2 x 2 has 4 positions"),
    "10^12 entries": ("a.mtx", BANNER + "10000000 10000000 1000000000000\n1 1 1\n", "truncated or damaged"),
    "10^15 rows": (
        "a.mtx",
        BANNER + "1000000000000000 5 1\n1 1 1\n",
        "sides up to 2147483647 can be measured",
    ),
    "10^9 rows": ("a.mtx", BANNER + "1000000000 5 1\n1 1 1\n", "too few for such sides"),
    "10^9 array": ("a.mtx", mtx("array real general", "1000000000 1000000000\n1\n"), "truncated or damaged"),
    "truncated": ("a.mtx", BANNER + "9 9 3\n1 1 1.0\n2 2 2.0\n", "claims 3 entries and has 2"),
    "half a line": ("a.mtx", BANNER + "9 9 2\n1 1 1.0\n2 \n", "claims 2 entries and has 1"),
    "more": ("a.mtx", BANNER + "9 9 1\n1 1 1\n2 2 2\n", "claims 1 entries and has more"),
    "words": ("a.mtx", BANNER + "9 9 2\n1 1 one\n2 2 two\n", "'one' is not a number"),
    "row 10": ("a.mtx", BANNER + "9 9 1\n10 1 1\n", "an entry in row 10, column 1, and is 9 x 9"),
    "row 0": ("a.mtx", BANNER + "9 9 1\n0 1 1\n", "an entry in row 0, column 1, and is 9 x 9"),
    "half a row": ("a.mtx", BANNER + "9 9 1\n1.5 1 1\n", "not whole numbers"),
    "nan": ("a.mtx", BANNER + "2 2 2\n1 1 nan\n2 2 1\n", "holds NaN or infinite values"),
    "inf": ("a.mtx", BANNER + "2 2 2\n1 1 inf\n2 2 1\n", "holds NaN or infinite values"),
    "twice": ("a.mtx", BANNER + "2 2 2\n1 2 1\n1 2 1\n", "two entries in row 1, column 2"),
    "both halves": (
        "a.mtx",
        mtx("coordinate real symmetric", "2 2 2\n1 2 1\n2 1 1\n"),
        "two entries in row 1, column 2",
    ),
    "skew diagonal": (
        "a.mtx",
        mtx("coordinate real skew-symmetric", "2 2 2\n1 1 1\n2 1 1\n"),
        "on its diagonal",
    ),
    "not gzip": ("a.mtx.gz", BANNER + "2 2 1\n1 1 1\n", "does not decompress"),
    "cut gzip": ("a.mtx.gz", VALID_GZ[: len(VALID_GZ) // 2], "does not decompress"),
    "gzip lies": (
        "a.mtx.gz",
        gzip.compress((BANNER + "10000000 10000000 1000000000000\n1 1 1\n").encode()),
        "truncated or damaged",
    ),
    "smtx header": ("a.smtx", "2 2 1\n0 1 1\n0\n", "should be like '512, 512, 26214'"),
    "smtx negative": ("a.smtx", "2, 2, -1\n0 1 1\n0\n", "claims -1 nonzeros"),
    "smtx negative rows": ("a.smtx", "-2, 2, 1\n0 1 1\n0\n", "cannot be negative"),
    "smtx lies": ("a.smtx", "1000000000000000, 5, 1\n0 1\n0\n", "truncated or damaged"),
    "smtx entries lie": ("a.smtx", "2, 5, 1000000000000\n0 1 1\n0\n", "truncated or damaged"),
    "smtx starts": ("a.smtx", "2, 2, 1\n0 1\n0\n", "has 2 row starts, should have 3"),
    "smtx columns": ("a.smtx", "2, 2, 2\n0 1 2\n0\n", "has 1 columns, should have 2"),
    "smtx descends": ("a.smtx", "2, 2, 2\n0 3 2\n0 1\n", "row starts must ascend from 0 to 2"),
    "smtx words": ("a.smtx", "2, 2, 2\n0 1 2\n0 x\n", "among its columns, invalid literal"),
    "smtx huge": ("a.smtx", f"2, 2, 2\n0 1 2\n0 {10**30}\n", "among its columns,"),
    "smtx outside": ("a.smtx", "2, 2, 2\n0 1 2\n0 2\n", "an entry in column 3 of 2"),
    "smtx below": ("a.smtx", "2, 2, 2\n0 1 2\n0 -1\n", "an entry in column 0 of 2"),
    "smtx twice": ("a.smtx", "2, 2, 2\n0 2 2\n0 0\n", "two entries in row 1, column 1"),
    "smtx longer": ("a.smtx", "2, 2, 2\n0 1 2\n0 1\n1 1\n", "more than three lines"),
    "smtx wide": ("a.smtx", f"2, {10**15}, 2\n0 1 2\n0 1\n", "sides up to 2147483647"),
    "not a zip": ("a.npz", "PK?", "is not a sparse matrix that can be read"),
    "cut zip": ("a.npz", csr([1.0], [0], [0, 1], (1, 1))[:300], "is not a sparse matrix that can be read"),
    "dense npz": ("a.npz", npz(a=np.eye(3)), "it has no arrays `format` and `shape`"),
    "pickled npz": (
        "a.npz",
        npz(format=np.array(b"csr"), shape=np.array([object()])),
        "is not a sparse matrix",
    ),
    "npz lies": ("a.npz", lying_npz(), "data.npy claims 8000000000000 bytes"),
    "npz 10^15": ("a.npz", csr([1.0], [0], [0, 1], (10**15, 1)), "sides up to 2147483647"),
    "npz 10^9": ("a.npz", csr([1.0], [0], [0, 1], (10**9, 1)), "too few for such sides"),
    "npz outside": ("a.npz", csr([1.0], [7], [0, 1], (1, 1)), "is not a sparse matrix that can be read"),
    "npz starts": ("a.npz", csr([1.0], [0], [0, 9], (1, 1)), "is not a sparse matrix that can be read"),
    "npz twice": ("a.npz", csr([1.0, 2.0], [0, 0], [0, 2], (1, 1)), "two entries in row 1, column 1"),
    "npz complex": ("a.npz", csr([1j], [0], [0, 1], (1, 1)), "holds complex128; only real"),
    "npz nan": ("a.npz", csr([np.nan], [0], [0, 1], (1, 1)), "holds NaN or infinite values"),
    "npz flat": ("a.npz", csr([1.0], [0], [0, 1], (1,)), "has 1 dimensions, should have 2"),
    "not safetensors": ("a.safetensors", "hello there, this is text", "is not a safetensors file"),
    "safetensors lies": (
        "a.safetensors",
        safetensors(
            {"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}, b"0000"
        ),
        "is not a safetensors file that can be read",
    ),
    "safetensors header lies": (
        "a.safetensors",
        (2**60).to_bytes(8, "little") + b"{}",
        "is not a safetensors file",
    ),
    "no matrix": (
        "a.safetensors",
        safetensors({"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"0000"),
        "has no two-dimensional tensor",
    ),
    "zeros": (
        "a.safetensors",
        safetensors({"b": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}, bytes(4)),
        "has no nonzeros",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, fault: str) -> None:
    name, content, says = DAMAGED[fault]
    text = put(tmp_path, name, content)
    tracemalloc.start()
    with pytest.raises(Unusable) as told:
        loaded(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sentence = str(told.value)
    assert says in sentence and name in sentence
    assert sentence.endswith(".") and "\n" not in sentence and ".." not in sentence.replace("'..'", "")
    assert peak < 150e6, "memory was taken by what the header claims"


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_an_archive_with_a_flipped_bit(tmp_path: Path, at: float) -> None:
    file = tmp_path / "a.npz"
    scipy.sparse.save_npz(
        file, scipy.sparse.random_array((500, 500), density=0.5, format="csr"), compressed=False
    )
    content = bytearray(file.read_bytes())
    content[int(at * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(Unusable, match=r"a\.npz is not a sparse matrix that can be read: Bad CRC-32 .*\."):
        loaded(str(file))


def test_a_case_of_other_sizes_than_its_file(tmp_path: Path) -> None:
    data = sources.add(put(tmp_path, "a.mtx", BANNER + "2 3 1\n1 1 1\n"))
    with pytest.raises(Unusable, match=r"is 2 x 3\. Give the case these sizes\."):
        make_operands(case("spmm", Given(), data=data, m=2, k=2, n=1))


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"there is no file .*gone\.mtx\. Check the path\."):
        sources.add(str(tmp_path / "gone.mtx"))
    (tmp_path / "folder.mtx").mkdir()
    with pytest.raises(Unusable, match=r"folder\.mtx is a directory\. Name a file in it\."):
        sources.add(str(tmp_path / "folder.mtx"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file(tmp_path: Path) -> None:
    text = put(tmp_path, "a.mtx", BANNER)
    Path(text).chmod(0)
    with pytest.raises(Unusable, match="cannot be read: Permission denied"):
        sources.add(text)


def test_values_that_overflow_name_the_dtype(tmp_path: Path) -> None:
    text = put(tmp_path, "a.mtx", BANNER + "2 2 1\n1 1 -1e5\n")
    assert loaded(text, torch.bfloat16).nonzeros == 1
    with pytest.raises(Unusable, match=r"values up to 1e\+05, which overflow float16 \(at most 6\.55e\+04\)"):
        loaded(text, torch.float16)
    with pytest.raises(Unusable, match="overflow float32"):
        loaded(put(tmp_path, "b.mtx", BANNER + "2 2 1\n1 1 1e300\n"))


def test_a_tensor_must_be_named(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({f"layers.{i}.weight": torch.eye(2) for i in range(12)} | {"bias": torch.ones(2)}, file)
    with pytest.raises(
        Unusable, match=r"has 12 matrices; name one, as in .*:layers\.0\.weight\. .* and 4 more\."
    ):
        sources.add(str(file))
    with pytest.raises(
        Unusable, match=r"has no tensor 'layers\.0\.wieght'\. Did you mean layers\.0\.weight\?"
    ):
        sources.add(f"{file}:layers.0.wieght")
    with pytest.raises(Unusable, match=r"a\.safetensors:bias is not two-dimensional"):
        sources.add(f"{file}:bias")


@pytest.mark.parametrize("ending", ENDINGS)
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_any_damage_is_survived(
    tmp_path_factory: pytest.TempPathFactory, ending: str, data: st.DataObject
) -> None:
    """Cut anywhere, or with any bytes changed: a matrix comes out, or one sentence, nothing else."""
    folder = tmp_path_factory.mktemp("damaged", numbered=True)
    file = Path(written(folder, ending))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        check(loaded(str(file)))
    except Unusable as told:
        assert "\n" not in str(told)
