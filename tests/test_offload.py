"""Offloaded caches: pages come as they lie, bytes are those of the formulas, nothing stays between calls."""

import errno
import os
import re
from ctypes import c_int64
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import begun, ended
from lines import header, write
from vendors import OLD, Gpu

from suite import held, native, report
from suite.case import case
from suite.check import check, question
from suite.commands import load
from suite.cpu.device import Cpu
from suite.kernel import KERNELS
from suite.measure import Effort
from suite.op import make_operands
from suite.ops import decode
from suite.patterns.chosen import Chosen
from suite.patterns.unstructured import Unstructured
from suite.reading.selected import selected
from suite.report import view_of
from suite.selection import by_query, from_map, pages_kept
from suite.selector import SELECTORS, entries, ready
from suite.visit import Visit
from suite.workload import WORKLOADS

load()

far = pytest.importorskip("suite.kernels.decode_offload.far")
fetching = pytest.importorskip("suite.kernels.decode_offload.fetching")
gather = pytest.importorskip("suite.kernels.decode.decode_gather")
media = pytest.importorskip("suite.kernels.stream.media")
shadowed = pytest.importorskip("suite.workloads.selectors.shadow")

MISSING = [*native.missing(), *media.no_disk()]
DISK = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
PLACES = (pytest.param(far.Disk, marks=DISK), far.Host)
SELECTING = sorted(name for name, one in SELECTORS.items() if "decode_offload" in one.ops)
OURS = "decode_offload_disk"


@pytest.fixture(autouse=True)
def pinned(monkeypatch):
    """Where there is no GPU, no memory is pinned for one."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda one: one)


def point(sparsity=0.75, dtype="bfloat16", n=1, h=4, g=4, t=512, d=128, b=16, data="blend", seed=0):
    return case("decode_offload", Chosen(sparsity), dtype, seed, data, n=n, h=h, g=g, t=t, d=d, b=b)


def of(name, one):
    """An entry on a case: prepared, with its operands, and the question it is asked."""
    kernel = entries()[name]
    asked = question(one, make_operands(one)).of(kernel)
    return ready(kernel, one, asked.operands), asked


@pytest.mark.paper("double-sparsity", "shadowkv")
@pytest.mark.parametrize("place", PLACES)
@settings(deadline=None, max_examples=15)
@given(
    pages=st.integers(1, 40),
    page=st.sampled_from((1, 7, 16)),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    asked=st.lists(st.integers(0, 10**6), max_size=60),
    most=st.integers(0, 9),
)
def test_pages_come_as_they_lie(place, pages, page, dtype, asked, most):
    """In any order, some more than once, neighbours among them; more than there was room for."""
    k, v = (torch.randn(2, 3, pages * page, 16).to(dtype) for _ in "kv")
    there, wanted = place(k, v, page, most), torch.tensor([one % (6 * pages) for one in asked]).long()
    for keys in (True, False):
        found = there.bring(wanted, keys)
        for one, whole in zip(found, (k, v), strict=True):
            if one is not None:
                assert one.equal(whole.reshape(6 * pages, -1)[wanted])
        assert (found[0] is None) == (not keys)


@DISK
def test_a_disk_is_read_past_the_systems_cache_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(media.tempfile, "tempdir", str(tmp_path))
    there = far.Disk(*torch.randn(2, 1, 1, 64, 16), 16, 2)
    assert not list(tmp_path.iterdir())
    fcntl = pytest.importorskip("fcntl")
    assert fcntl.fcntl(there.file.fileno(), fcntl.F_GETFL) & os.O_DIRECT


@DISK
def test_what_one_call_does_not_write_the_next_ones_do(monkeypatch):
    """The system writes 2 GiB at most; here two blocks."""
    write, most = os.pwrite, 2 * media.BLOCK
    monkeypatch.setattr(far.os, "pwrite", lambda file, window, at: write(file, window[:most], at))
    k, v = torch.randn(2, 1, 1, 5 * 256, 16)
    there = far.Disk(k, v, 256, 5)
    for found, one in zip(there.bring(torch.arange(5), True), (k, v), strict=True):
        assert found.equal(one.reshape(5, -1))


@DISK
@pytest.mark.parametrize("name", [OURS, f"{OURS}+pages", f"{OURS}+shadow", f"{OURS}_dense"])
def test_nothing_stays_from_call_to_call(name):
    """Once the file holds nothing but zeros, so does the answer; a file that ends is an error."""
    files, kept = [], far.Disk.write

    def noted(disk, *arguments):
        files.append(disk.file)
        kept(disk, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(far.Disk, "write", noted)
        one = point() if "+" in name else replace(point(), pattern=Unstructured(0.5))
        made, asked = of(name, one)
    check(made.run(asked.operands[3]), asked)
    size = os.fstat(files[0].fileno()).st_size
    os.pwrite(files[0].fileno(), memoryview(media.room(size).zero_().numpy()), 0)
    assert not made.run(asked.operands[3]).any()
    files[0].truncate(0)
    with pytest.raises(OSError, match="pages of the cache were not read"):
        made.run(asked.operands[3])


TOLD = """
#include <cstdarg>
static long told, closed;  // how often ends were asked for; queues that were closed
static long pretended(long number, ...) {
  va_list given;
  va_start(given, number);
  va_arg(given, aio_context_t);
  const long count = va_arg(given, long);
  va_end(given);
  if (number == SYS_io_submit) return count;
  if (number == SYS_io_destroy) return ++closed, 0;
  errno = ++told < 3 ? EINTR : EINVAL;
  return -1;
}
#define syscall pretended
extern "C" long queues_closed() { return told == 3 ? closed : -1; }
"""


@DISK
def test_reads_of_whose_end_the_system_tells_nothing_are_an_error(tmp_path):
    """A signal in between is none. The queue is closed, which waits for what could still write."""
    source = tmp_path / "reads.cpp"
    written = (Path(far.__file__).parent / "reads.cpp").read_text()
    source.write_text(written.replace("namespace {", TOLD + "namespace {", 1))
    library, starts, to = native.load(source), torch.zeros(2, dtype=torch.int64), torch.zeros(8)
    read = native.bind(library.read_parts, 0, 0, starts, 2, 16, to, returns=c_int64)
    assert read() == -errno.EINVAL
    assert library.queues_closed() == 1


@DISK
@pytest.mark.parametrize("place", PLACES)
def test_what_grows_is_emptied_from_the_caches_too(place):
    """One row keeps more than any did before: what is held is what was written last, and is right."""
    k, v, q = (torch.randn(1, 2, *size) for size in ((512, 32), (512, 32), (32,)))
    library = native.load(gather.SOURCE)
    few = by_query(torch.rand(1, 2, 32), point(1 - 1 / 32, n=1, h=2, g=2, d=32))
    many = from_map(torch.eye(2, dtype=torch.bool)[:, :1, None].expand(2, 1, 32).contiguous(), few.pattern)
    made = fetching.fetched(few, k, v, q, place, lambda *operands: gather.gather(library, *operands))
    before = held.size(made.holds)
    for found, grows in ((few, False), (many, True)):
        torch.testing.assert_close(
            made.run(q, found), decode.reference(found, k, v, q).float(), rtol=1e-4, atol=1e-5
        )
        assert (held.size(made.holds) > before) == grows


# Bytes.


def read(name, one):
    """Far and near, of a call."""
    made, asked = of(name, one)
    check(made.run(asked.operands[3]), asked)
    assert callable(made.values)
    return made.values(), asked.operands[0].read


@DISK
@pytest.mark.paper("double-sparsity", "shadowkv", "lserve")
def test_bytes_of_a_step_are_those_of_the_formulas():
    """n r + 2 k d; all of 2 n d; k d beside keys of rank r and a landmark a page: of each group."""
    one, size = point(1 - 1 / 16, t=1024), 2
    n, kept, d, groups = 1024, 64, 128, 4
    labels = d // 16
    assert pages_kept(one) * 16 == kept
    for name, near in (
        ("double_sparsity", n * labels),
        ("pages", n // 16 * 2 * d),
        ("recent", 0),
        ("random_tokens", 0),
    ):
        assert read(f"{OURS}+{name}", one) == (groups * 2 * kept * d * size, groups * near * size), name
    rank = d // 4
    near = n // 16 * d + rank * d + kept * rank
    assert read(f"{OURS}+shadow", one) == (groups * kept * d * size, groups * near * size)
    made, asked = of(f"{OURS}_dense", one)
    made.run(asked.operands[3])
    assert made.values == groups * 2 * n * d * size


@DISK
def test_a_page_shorter_than_a_block_costs_one():
    far_bytes, _ = read(f"{OURS}+recent", point(t=512, b=1))
    assert far_bytes == 4 * 128 * 2 * media.BLOCK


@DISK
def test_what_several_heads_of_a_group_look_at_comes_once():
    one = replace(point(h=8, g=2, t=256), pattern=Unstructured(0.5))
    made, asked = of(OURS, one)
    check(made.run(asked.operands[3]), asked)
    a, k, *_ = asked.operands
    assert made.values() == decode.bytes_read(a, k) == decode.distinct(a, 2, 1) * 16 * 2 * 128 * 2


@pytest.mark.paper("shadowkv")
@pytest.mark.parametrize("name", [name for name in SELECTING if not SELECTORS[name].control])
def test_what_stays_near_is_what_is_held(name):
    """All of it, but for numbers of pages and channels; so many times more sequences fit."""
    one = point(1 - 1 / 16, n=2, t=1024)
    _, k, v, q = make_operands(one)
    select = SELECTORS[name].prepare(one, k, v)
    found = select(q)
    cache = [each for each in select.holds if each.dtype == k.dtype]
    assert found.near == held.size(cache)
    assert all(each.data_ptr() not in (k.data_ptr(), v.data_ptr()) for each in cache), "it keeps what is far"
    share = found.near / (k.nbytes + v.nbytes)
    d, b = 128, 16
    formulas = {
        "double_sparsity": 1 / 16 / 2,
        "pages": 1 / b,
        "shadow": (1 / 4 + 1 / b + d // 4 / 1024) / 2,
    }
    assert share == pytest.approx(formulas[name])


@pytest.mark.paper("shadowkv")
def test_of_low_rank_keys_six_times_as_many_sequences_fit():
    """Whatever the memory: how many fit is its bytes over those of one, and values take none of it."""
    one = point(1 - 1 / 16, t=4096)
    _, k, v, q = make_operands(one)
    near = SELECTORS["shadow"].prepare(one, k, v)(q).near
    for memory in (2**26, 2**30):
        assert memory // near >= 6 * (memory // (k.nbytes + v.nbytes))


# Answers.


@DISK
@pytest.mark.paper("shadowkv", "double-sparsity")
@pytest.mark.parametrize("place", PLACES)
def test_full_rank_and_all_pages_are_dense_attention(place):
    one = point(0.0, "float32", n=2, h=8, g=4, t=256, d=32)
    a, k, v, q = make_operands(one)
    library = native.load(gather.SOURCE)
    made = fetching.fetched(a, k, v, q, place, lambda *operands: gather.gather(library, *operands))
    found = shadowed.shadow.prepare(one, k, v, rank=32)(q)
    assert found.v is None and not found.k.equal(k)
    expected = decode.in_full(k, v, q.double()).float()
    torch.testing.assert_close(made.run(q, found), expected, rtol=1e-4, atol=1e-5)
    every = SELECTORS["double_sparsity"].prepare(one, k, v)(q)
    torch.testing.assert_close(made.run(q, every), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decode.reference(found, k, v, q).float(), expected, rtol=1e-4, atol=1e-5)


@DISK
def test_a_visit_checks_times_and_judges_each_of_them():
    one = point(0.5, t=256)
    fitting = [each for each in entries().values() if each.fits(one) and each.on == "cpu"]
    lines = list(Visit(Cpu(1), 1, effort=Effort(cap=0.001)).results("w", one, fitting))
    assert {line.selector for line in lines if line.selector} == set(SELECTING)
    assert [line.kernel for line in lines if line.dense] == [f"{OURS}_dense"]
    for line in lines:
        assert line.outcome == "ok", (line.kernel, line.selector, line.note)
        if line.selector:
            assert set(line.quality) == {"recall", "error", "cosine", "near"}
            assert line.bytes_values < 2 * 4 * 256 * 128 * 2
    near = {line.selector: line.quality["near"] for line in lines if line.selector}
    assert near["recent"] == near["random_tokens"] == 0 and near["oracle_tokens"] == 0.5
    assert 0 < near["double_sparsity"] < near["pages"] < near["shadow"] < 0.25


def test_the_cache_in_fast_memory_stands_beside():
    for extent in ("default", "full"):
        cases = list(WORKLOADS["kv_offload"].cases(extent))
        for one, near in zip(cases[::2], cases[1::2], strict=True):
            assert (one.op, near.op) == ("decode_offload", "decode") and replace(one, op="decode") == near
    assert set(WORKLOADS["kv_offload"].cases("default")) & set(WORKLOADS["kv"].cases("default"))


def test_temporary_files_in_memory_are_refused(monkeypatch):
    monkeypatch.setattr(media, "filesystem", lambda folder: "tmpfs")
    media._no_disk.cache_clear()
    try:
        (said,) = KERNELS[OURS].refusals(point(), Cpu(1))
    finally:
        media._no_disk.cache_clear()
    assert "needs a disk" in said


@pytest.mark.skipif(bool(native.missing()), reason="needs a compiler")
def test_a_system_without_such_reads_is_refused(monkeypatch):
    far.queue.cache_clear()
    monkeypatch.setattr(native, "bind", lambda *_, **__: lambda: -38)
    try:
        with pytest.raises(far.Refused, match=r"needs many reads of a disk at a time \(io_setup\): Function"):
            far.queue()
    finally:
        far.queue.cache_clear()


# On a GPU.


def test_a_gpu_that_is_too_old_is_refused():
    for name in ("decode_offload_host", "decode_offload_host_dense"):
        kernel = KERNELS[name]
        assert kernel.on == "cuda"
        assert "needs sm_80, which Made Up G75 lacks" in kernel.refusals(point(), OLD)
        assert not any("sm_80" in said for said in kernel.refusals(point(), Gpu()))


@pytest.mark.paper("double-sparsity", "shadowkv")
def test_from_a_hosts_memory_they_are_right_in_the_interpreter():
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    told = ended(begun("interpreter_offload.py"))
    assert len(told) == 7
    assert [one for one in told if one[2] != "ok"] == []


# The page.


@DISK
def test_the_page_says_how_many_more_sequences_fit(tmp_path):
    one, names = point(0.5, t=256), (f"{OURS}_dense", f"{OURS}+shadow", f"{OURS}+random_tokens")
    lines = Visit(Cpu(1), 1, effort=Effort(cap=0.001)).results(
        "kv_offload", one, [entries()[x] for x in names]
    )
    file = write(tmp_path / "run.jsonl", header(workloads={"kv_offload": 1}), *lines)
    view = view_of([file])
    table = selected(view.frame, view.rows).set_index("selector")
    assert table.loc["random_tokens", "near"] == 0 and table.loc["shadow", "near"] == pytest.approx(
        0.219, abs=0.001
    )
    report.write([file], tmp_path / "site")
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "selection.html").read_text()))
    assert "sequences that fit" in said and "21.9 %" in said and "4.6x" in said and "nan" not in said
