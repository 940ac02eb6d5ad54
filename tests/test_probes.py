"""Native probes and flushing on this machine. Rates are checked for sense, never for size: others run too."""

import dataclasses
from contextlib import ExitStack
from ctypes import c_int64

import numpy as np
import pytest
import scipy.sparse
import torch

from suite.ceilings import measure
from suite.cpu import probes
from suite.cpu.device import Cpu
from suite.cpu.windows import windows
from suite.held import ranges

LINE = 64


@pytest.fixture(scope="module")
def library():
    library, why = probes.load()
    if library is None:
        pytest.skip(why)
    return library


@pytest.fixture
def nothing_compiles(monkeypatch):
    monkeypatch.setattr(probes, "load", lambda: (None, "needs a C++ compiler"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("suite.ceilings.cache_file", lambda *about: tmp_path / "ceilings.json")


def test_flush_counts_every_line(library):
    data = torch.arange(1 << 18, dtype=torch.int64)
    start = data.data_ptr()
    for offset, size in ((0, 64), (1, 63), (1, 64), (63, 2), (0, 1 << 21), (8, 1000)):
        lines = (start + offset + size - 1) // LINE - (start + offset) // LINE + 1
        for optimised in (False, "clflushopt" in Cpu().isa):
            assert probes.flush(library, [(start + offset, size)], optimised, 2) == lines
    assert probes.flush(library, [], False, 2) == 0
    twice = [(start, 128), (start, 128)]
    assert probes.flush(library, twice, False, 2) == 2 * probes.flush(library, twice[:1], False, 2)
    assert torch.equal(data, torch.arange(1 << 18, dtype=torch.int64))


def test_flush_keeps_what_was_just_written(library):
    data = np.zeros(1 << 16, np.int32)
    for value in range(5):
        data[:] = value
        Cpu().flush(data)
        assert (data == value).all()


def test_arithmetic_comes_to_something(library):
    assert probes.arithmetic(library, "float32_window", 10_000, 1) > 1e6
    for names in probes.ARITHMETIC.values():
        for name in names:
            assert probes.arithmetic(library, name, 100, 2) >= 0


def test_reading_takes_time(library):
    with probes.buffer(library, probes.GRAIN, 2) as address:
        one = (c_int64 * 1).from_address(address)
        assert one[0] != 0  # a page that was never written would be the system's shared page of zeros
        assert library.read_window(address, probes.GRAIN, 10, 2) > 0


def test_clock(library):
    clock = Cpu().clock_mhz()
    if Cpu().facts.vendor in probes.MULTIPLY_MAKERS:
        assert 200 < clock < 8000
    assert probes.clock_mhz("Unheard") is None


def test_ceilings_are_ordered_and_only_grow(library):
    cpu = Cpu()
    first = cpu.ceilings(0.0)
    assert first.flops["float32"] > 0 and first.bandwidth["memory"] > 0
    assert all(rate > 0 for rate in (*first.flops.values(), *first.bandwidth.values()))
    second = cpu.ceilings(0.0)
    for before, after in ((first.flops, second.flops), (first.bandwidth, second.bandwidth)):
        assert all(after[name] >= rate for name, rate in before.items())


def test_without_a_compiler_only_what_torch_can_tell(nothing_compiles):
    cpu = Cpu()
    cpu.memory = 1 << 27  # small, to be quick
    reached = cpu.ceilings(0.0)
    assert set(reached.bandwidth) == {"memory"} and reached.flops["float32"] > 0
    assert "int8" not in reached.flops
    assert cpu.clock_mhz() is None and cpu.noise()().clock_mhz is None


def test_emulated_types_have_no_ceiling(library):
    with ExitStack() as keep:
        found = {(kind, name) for kind, name, _ in windows(keep, None, 1, ("avx2",), {}, 1 << 24)}
    assert found == {("bandwidth", "memory"), ("flops", "float32")}
    assert measure(0.0, []).flops == {}


def test_eviction_instead(nothing_compiles):
    cpu = Cpu()
    assert cpu.flush_how == "overwritten with twice the last level"
    held = torch.ones(1000)
    cpu.flush((held,))
    assert held.sum() == 1000


def test_flush_how(library):
    assert Cpu().flush_how in ("clflushopt", "clflush", "dc civac")


@dataclasses.dataclass
class Layout:
    starts: torch.Tensor
    parts: dict
    name: str = "mine"


class Raw:
    address = 4096
    nbytes = 100


def sizes(held):
    return sorted(size for _, size in ranges(held))


def test_whatever_is_held_is_found():
    dense = torch.eye(64)
    assert sizes(dense) == [64 * 64 * 4]
    assert sizes((dense, [dense, (dense,)], None, 3, "x", torch.float32, dense.shape, np.float32(1))) == [
        64 * 64 * 4
    ]
    csr = dense.to_sparse_csr()
    assert sizes(csr) == [64 * 4, 64 * 8, 65 * 8]
    bsr = dense.to_sparse_bsr((16, 16))
    assert sizes(bsr) == [4 * 8, 5 * 8, 4 * 16 * 16 * 4]
    assert sizes(dense.to_sparse()) == [64 * 4, 2 * 64 * 8]
    assert sizes(scipy.sparse.csr_array(np.eye(64, dtype=np.float32))) == [64 * 4, 64 * 4, 65 * 4]
    assert len(sizes(scipy.sparse.coo_array(np.eye(8)))) == 3
    assert sizes(Raw()) == [100]
    assert sizes(Layout(dense, {"b": np.ones(3)})) == [24, 64 * 64 * 4]
    assert sizes((torch.empty(0), np.empty((0, 4)), torch.empty(3, 0))) == []


def test_views_are_what_they_span():
    whole = torch.zeros(10, 10)
    assert ranges(whole[2:4, 3]) == [(whole[2, 3].data_ptr(), 11 * 4)]
    assert sizes(whole.t()) == [400]
    assert sizes(whole[0, 0].expand(50)) == [4]
    array = np.zeros((10, 10))
    assert ranges(array[::-1, ::-1]) == [(array.ctypes.data, 800)]
    assert ranges(array[3:5, ::2]) == [(array[3:].ctypes.data, 19 * 8)]


def test_what_cannot_be_flushed_is_named():
    with pytest.raises(TypeError, match="a function cannot be flushed"):
        Cpu().flush((torch.ones(3), sizes))


def test_a_packed_weight_has_an_address():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    [(start, size)] = ranges(torch.eye(64).to_mkldnn())
    assert start and size >= 64 * 64 * 4
