"""Sources: files become the matrices they hold, and damaged files one clear sentence."""

import gzip
import io
import json
import os
import re
import shlex
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from suite import sources
from suite.case import case, from_id
from suite.op import discover_parts, make_operands
from suite.patterns.given import Given
from suite.registry import Unusable
from suite.sparse import Sparse

discover_parts()

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


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_format_gives_the_same_matrix(tmp_path: Path, ending: str, dtype: torch.dtype) -> None:
    text = written(tmp_path, ending)
    a = loaded(text, dtype)
    check(a)
    assert a.dtype == dtype and sources.shape(sources.add(text)) == a.shape == DENSE.shape
    if ending == ".smtx":
        assert ((a.dense != 0).numpy() == (DENSE != 0)).all()
    else:
        assert (a.dense.float().numpy() == DENSE).all()


def test_every_ending_is_tried_here() -> None:
    from suite.sources.reader import readers

    assert set(readers()) == set(ENDINGS)


def test_endings_in_capitals_are_endings(tmp_path: Path) -> None:
    a = loaded(put(tmp_path, "A.MTX", BANNER + "1 2 1\n1 2 5\n"))
    assert a.dense.tolist() == [[0, 5]]


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        ("symmetric", [[1, 2], [2, 0]]),
        ("skew-symmetric", [[0, -2], [2, 0]]),
        ("general", [[1, 0], [2, 0]]),
    ],
)
def test_symmetry_is_written_out(tmp_path: Path, ending: str, says: list) -> None:
    entries = "2 1 2\n" if ending == "skew-symmetric" else "1 1 1\n2 1 2\n"
    count = entries.count("\n")
    text = put(
        tmp_path, "a.mtx", f"%%MatrixMarket matrix coordinate integer {ending}\n% c\n\n2 2 {count}\n{entries}"
    )
    assert loaded(text).dense.tolist() == says


def test_an_array_file_keeps_what_is_not_zero(tmp_path: Path) -> None:
    a = loaded(put(tmp_path, "a.mtx", "%%MatrixMarket matrix array real general\n2 2\n1\n0\n0\n4\n"))
    assert a.nonzeros == 2 and a.dense.tolist() == [[1, 0], [0, 4]]


@pytest.mark.parametrize(
    ("symmetry", "entries", "says"),
    [
        ("symmetric", "1\n2\n3\n4\n0\n6\n", [[1, 2, 3], [2, 4, 0], [3, 0, 6]]),
        ("skew-symmetric", "2\n3\n4\n", [[0, -2, -3], [2, 0, -4], [3, 4, 0]]),
        ("general", "1\n2\n3\n4\n5\n6\n7\n8\n0\n", [[1, 4, 7], [2, 5, 8], [3, 6, 0]]),
    ],
)
def test_an_array_file_is_written_column_by_column(
    tmp_path: Path, symmetry: str, entries: str, says: list
) -> None:
    text = put(tmp_path, "a.mtx", f"%%MatrixMarket matrix array real {symmetry}\n3 3\n{entries}")
    assert loaded(text).dense.tolist() == says


def test_a_stored_zero_is_a_nonzero_but_not_in_a_layer(tmp_path: Path) -> None:
    assert loaded(put(tmp_path, "a.mtx", BANNER + "2 2 2\n1 1 0\n2 2 1\n")).nonzeros == 2
    scipy.sparse.save_npz(
        tmp_path / "a.npz", scipy.sparse.csr_array(([0.0, 1.0], [0, 1], [0, 1, 2]), shape=(2, 2))
    )
    assert loaded(str(tmp_path / "a.npz")).nonzeros == 2
    save_file({"w": torch.tensor([[0.0, -0.0], [0.0, 1.0]])}, tmp_path / "a.safetensors")
    assert loaded(str(tmp_path / "a.safetensors")).nonzeros == 1


@pytest.mark.parametrize("name", ["a.smtx", "a.mtx"])
def test_values_a_file_lacks_are_drawn_from_the_seed(tmp_path: Path, name: str) -> None:
    smtx = "2, 50, 60\n0 30 60\n" + " ".join(map(str, (*range(30), *range(30)))) + "\n"
    entries = "".join(f"{row} {column}\n" for row in (1, 2) for column in range(1, 31))
    mtx = f"%%MatrixMarket matrix coordinate pattern general\n2 50 60\n{entries}"
    data = sources.add(put(tmp_path, name, smtx if name == "a.smtx" else mtx))
    first, again, other = (sources.load(data, torch.float32, seed).values for seed in (0, 0, 1))
    assert (first == again).all() and not (first == other).any()
    assert (first < 0).any() and (first > 0).any() and float(first.std()) == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_every_sparse_array_of_scipy(tmp_path: Path, kind: str) -> None:
    made = scipy.sparse.coo_array(DENSE).asformat(kind)
    scipy.sparse.save_npz(tmp_path / "a.npz", made)
    a = loaded(str(tmp_path / "a.npz"))
    check(a)
    assert (a.dense.numpy() == DENSE).all()


def test_a_layer_is_named_after_its_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.eye(3), "b.weight": torch.ones(2, 3), "bias": torch.ones(3)}, file)
    data = sources.add(f"{file}:b.weight")
    assert re.fullmatch(r"model\.safetensors:b\.weight-[0-9a-f]{8}", data)
    assert sources.load(data, torch.float32, 0).dense.tolist() == torch.ones(2, 3).tolist()
    assert sources.add(f"{file}:a.weight") != data


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.float8_e4m3fn]
)
def test_a_layer_may_be_of_any_real_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"w": torch.tensor([[0.0, 2.0], [-1.0, 0.0]]).to(dtype)}, tmp_path / "a.safetensors")
    assert loaded(str(tmp_path / "a.safetensors")).dense.tolist() == [[0, 2], [-1, 0]]


def test_the_id_is_the_content_wherever_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    content = BANNER + "2 2 1\n1 1 1\n"
    data = sources.add(put(tmp_path, "a.mtx", content))
    assert sources.add(put(tmp_path / "sub", "a.mtx", content)) == data
    assert sources.add(put(tmp_path, "a.mtx", content + "\n")) != data


@pytest.mark.parametrize(
    "name", ["my matrix/x,y=1.mtx", "ümlaut (2).mtx", "-.mtx", "..mtx", "a:b.mtx", "a" * 200 + ".mtx"]
)
def test_ids_are_fit_for_a_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    data = sources.add(put(tmp_path, name, BANNER + "2 2 1\n1 1 1\n"))
    assert shlex.quote(data) == data and re.fullmatch(r"[^/ ]+-[0-9a-f]{8}", data)
    made = case("spmm", Given(), m=2, k=2, n=1, data=data)
    assert from_id(str(made)) == made


@pytest.mark.parametrize("name", ["my matrix,y=1.mtx", "ümlaut (2).mtx", "-.mtx", "~a:b%20.mtx"])
def test_an_id_tells_what_to_call_its_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = sources.add(put(tmp_path, name, BANNER + "2 2 1\n1 1 1\n"))
    assert sources.argument(data).removeprefix("./") == name
    assert not sources.argument(data).startswith("-")
    assert sources.add(sources.argument(data)) == data


def test_a_home_that_is_not_here_is_the_users_mistake() -> None:
    with pytest.raises(Unusable, match=r"there is no file ~nobody-at-all/a\.mtx\. Check the path\."):
        sources.add("~nobody-at-all/a.mtx")


def test_an_id_tells_what_to_call_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"a/b weight": torch.eye(3), "b": torch.eye(3)}, tmp_path / "my model.safetensors")
    data = sources.add("my model.safetensors:a/b weight")
    assert re.fullmatch(r"my%20model\.safetensors:a%2Fb%20weight-[0-9a-f]{8}", data)
    assert sources.argument(data) == "my model.safetensors:a/b weight"


def test_a_child_uses_what_its_parent_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a.mtx", BANNER + "2 2 1\n1 1 1\n")
    data = sources.add("a.mtx")
    told = sources.known()
    assert Path(told[data]).is_absolute()
    monkeypatch.setattr(sources, "_paths", {})
    monkeypatch.chdir("/")
    with pytest.raises(Unusable, match=f"no file is known for the data '{data}'"):
        sources.load(data, torch.float32, 0)
    sources.use(told)
    assert sources.load(data, torch.float32, 0).nonzeros == 1


def test_a_file_that_changed_is_not_the_same_data(tmp_path: Path) -> None:
    data = sources.add(put(tmp_path, "a.mtx", BANNER + "2 2 1\n1 1 1\n"))
    put(tmp_path, "a.mtx", BANNER + "2 2 1\n1 1 2\n")
    with pytest.raises(Unusable, match="its content changed"):
        sources.load(data, torch.float32, 0)


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


@pytest.mark.parametrize("dtype", ["f4", "f8", "g", "u2", "?", "i8"])
def test_an_archive_may_hold_any_real_numbers(tmp_path: Path, dtype: str) -> None:
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(np.eye(3).astype(dtype)))
    assert loaded(str(tmp_path / "a.npz")).dense.tolist() == np.eye(3).tolist()


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


BITES: dict[str, Callable[[Path], str]] = {
    ending: (lambda folder, e=ending: written(folder, e)) for ending in ENDINGS
}


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


MATRICES = os.environ.get("SPARSEMARK_MATRICES", "")


@pytest.mark.skipif(not MATRICES, reason="SPARSEMARK_MATRICES names no folder of Matrix Market files")
def test_real_matrices_are_what_scipy_reads() -> None:
    files = sorted(Path(MATRICES).glob("*.mtx"))
    assert files, f"no .mtx file in {MATRICES}"
    for file in files:
        a, expected = loaded(str(file)), scipy.io.mmread(file).tocsr()
        check(a)
        assert a.shape == expected.shape and a.nonzeros == expected.nnz
        if scipy.io.mminfo(file)[4] != "pattern":
            assert abs(a.scipy(np.float64) - expected).max() <= 1e-6 * abs(expected).max()
