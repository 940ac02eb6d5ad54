"""Sources: files become the matrices they hold, under an id that is their content."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from files import BANNER, DENSE, ENDINGS, check, loaded, put, written
from safetensors.torch import save_file

from suite import sources
from suite.case import case, from_id
from suite.op import discover_parts
from suite.patterns.given import Given
from suite.registry import Unusable

discover_parts()


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


@pytest.mark.parametrize("dtype", ["f4", "f8", "g", "u2", "?", "i8"])
def test_an_archive_may_hold_any_real_numbers(tmp_path: Path, dtype: str) -> None:
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(np.eye(3).astype(dtype)))
    assert loaded(str(tmp_path / "a.npz")).dense.tolist() == np.eye(3).tolist()


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
