"""Kernel: what its hash covers, the order operands come in, and what a bare run is."""

import inspect
import sys
from importlib import import_module

import pytest
import torch

from suite import kernel as whole
from suite import native
from suite.kernel import kernel, prepared
from suite.op import discover_parts
from suite.registry import discover

discover_parts()

CELL = """
def prepare(a, b):
    return lambda b: a.dense @ b * {factor}
"""


def cell(factor):
    """A function as a notebook makes it: its file is none."""
    names = {}
    exec(compile(CELL.format(factor=factor), "<cell>", "exec"), names)
    return kernel(op="spmm", keep=False)(names["prepare"])


def test_cells_of_a_notebook_hash_by_what_they_do():
    assert cell(2).hash == cell(2).hash != cell(3).hash


def test_a_cell_whose_text_is_known_hashes_by_it(monkeypatch):
    texts = iter(["def one(): ...", "def one():  # other"])
    monkeypatch.setattr("inspect.getsource", lambda _: next(texts))
    assert cell(2).hash != cell(2).hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Two kernels of a package; the first uses a neighbour, which uses another."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "inner.py").write_text("def half(a):\n    return a\n")
    (folder / "layout.py").write_text(
        "from strangers.inner import half\n\ndef convert(a):\n    return half(a)\n"
    )
    begin = "from sparsemark import kernel\n{}\n@kernel(op='spmm', keep=False)\ndef {}(a, b): ...\n"
    (folder / "near.py").write_text(begin.format("from strangers.layout import convert\n", "near"))
    (folder / "alone.py").write_text(begin.format("", "alone"))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("strangers")]:
        del sys.modules[name]


def hashes():
    for name in [name for name in sys.modules if name.startswith("strangers.")]:
        del sys.modules[name]
    return [getattr(import_module(f"strangers.{name}"), name).hash for name in ("near", "alone")]


@pytest.mark.parametrize("changed", ["layout", "inner"])
def test_a_changed_neighbour_is_another_kernel(package, changed):
    near, alone = hashes()
    file = package / f"{changed}.py"
    file.write_text(file.read_text() + "# changed\n")
    assert hashes()[0] != near
    assert hashes()[1] == alone


def test_native_source_beside_it_is_part_of_it(package):
    near, alone = hashes()
    (package / "alone.cpp").write_text("int main;")
    assert hashes() != [near, alone]


@pytest.mark.parametrize("edited", ["near.h", "far.h"])
def test_an_edited_header_is_another_kernel(package, monkeypatch, edited):
    monkeypatch.setattr(native, "HEADERS", package / "shared")
    files = {"near.h": package / "near.h", "far.h": package / "shared" / "far.h"}
    files["far.h"].parent.mkdir()
    (package / "alone.cpp").write_text('#include "near.h"\n')
    files["near.h"].write_text('#include "far.h"\n')
    files["far.h"].write_text("int main;")
    near, alone = hashes()
    files[edited].write_text(files[edited].read_text() + "// edited\n")
    assert hashes()[0] == near
    assert hashes()[1] != alone


def test_a_kernel_of_cpus_is_the_same_where_nothing_of_gpus_is_installed():
    """Else its hash, and with it what was measured, would hang on whether Triton is there."""
    discover(folders=("kernels",))
    for one in [one for one in whole.KERNELS.values() if one.on == "cpu"]:
        function = inspect.unwrap(one.prepare)
        parts = whole.imported(function.__globals__, whole.package(function))
        assert not [name for name in parts if "triton" in name], one.name


def test_a_changed_layout_of_the_suite_is_another_kernel(monkeypatch):
    bsr, tiled = import_module("suite.formats.bsr"), import_module("suite.formats.tiled")

    def prepare(a, b): ...

    read, seen = whole.beside, []
    monkeypatch.setattr(whole, "beside", lambda file: seen.append(file.name) or read(file))
    before = kernel(op="spmm", keep=False)(prepare).hash
    monkeypatch.setitem(globals(), "layout", tiled.tiled)
    monkeypatch.setitem(globals(), "blocks", bsr)
    assert kernel(op="spmm", keep=False)(prepare).hash != before
    assert seen == ["test_kernel.py", "test_kernel.py", "bsr.py", "dense.py", "tiled.py"]


@pytest.mark.parametrize(("order", "strides"), [("rows", (5, 1)), ("columns", (1, 3))])
def test_live_operands_are_arranged_and_fixed_ones_left(order, strides):
    one = kernel(op="spmm", keep=False, live_order=order)(lambda a, b: None)
    fixed, live = torch.rand(4, 3), torch.rand(3, 5)
    same, arranged = one.arrange((fixed, live), (1,))
    assert same is fixed and arranged.stride() == strides and torch.equal(arranged, live)


def test_a_bare_run_hides_what_it_keeps():
    one = kernel(op="spmm", keep=False)(lambda a, b: lambda b: b)
    assert prepared(one, (None, None)).hidden
