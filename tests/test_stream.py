"""Streaming: a form comes back bit by bit, takes the bytes of its formula, and is brought over each call."""

import os
import tempfile
import zlib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import conformance, native
from suite.case import case
from suite.check import check
from suite.conformance import Trial, examine, posed
from suite.cpu.device import Cpu
from suite.formats.bitmap import PAST
from suite.kernel import KERNELS, kernel
from suite.op import discover_parts
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.sparse import Sparse, from_positions

pytestmark = pytest.mark.paper("endor")

discover_parts()
discover(folders=("kernels",))

if missing := native.missing():
    pytest.skip("; ".join(missing), allow_module_level=True)

fcntl = pytest.importorskip("fcntl")
media = pytest.importorskip("suite.kernels.stream.media")
rows = pytest.importorskip("suite.kernels.stream.rows")
streaming = pytest.importorskip("suite.kernels.stream.streaming")

SOURCE = Path(conformance.__file__).parent.parent / "kernels/stream/rows.cpp"
LESSER = (("-mno-avx512bf16", "-mno-avx512vbmi2"), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx"))
TWO_OF_FOUR = NofM(2, 4)
DISK = pytest.mark.skipif(bool(media.no_disk()), reason="; ".join(media.no_disk()))
MEDIA = (media.Memory, pytest.param(media.Disk, marks=DISK))


def of_medium(medium: str) -> set[str]:
    """What comes after the medium in the names of its kernels."""
    return {name.removeprefix(medium) for name in KERNELS if name.startswith(medium)}


FORMS = {
    name: import_module(f"suite.kernels.stream.stream_memory_{name}").FORM
    for name in sorted(of_medium("stream_memory_"))
}
UNPACKED = [name for name in FORMS if name not in ("dense", "bitmap_fused")]


@pytest.fixture(scope="module")
def device():
    return Cpu()


def test_every_form_goes_by_both_media():
    assert of_medium("stream_disk_") == set(FORMS)


@st.composite
def matrices(draw):
    """Any mask, rows of nothing and of everything among them, or 2:4; values of every sign, zeros of both."""
    m, k, seed = draw(st.integers(1, 40)), 4 * draw(st.integers(1, 50)), draw(st.integers(0, 2**16))
    pattern = draw(st.sampled_from((Unstructured(0.5), TWO_OF_FOUR)))
    rng = np.random.default_rng(seed)
    if pattern == TWO_OF_FOUR:
        starts, columns = pattern.positions(m, k, seed)
    else:
        mask = rng.random((m, k)) < draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))
        mask[rng.random(m) < 0.2] = False
        mask[rng.random(m) < 0.2] = True
        at, columns = mask.nonzero()
        starts = np.searchsorted(at, np.arange(m + 1))
    values = torch.from_numpy(rng.standard_normal(len(columns)))
    values[::5], values[1::5] = -0.0, 0.0
    dtype = draw(st.sampled_from((torch.float32, torch.bfloat16)))
    return from_positions(starts, columns, values.to(dtype), (m, k), pattern)


def there_and_back(form: str, a: Sparse) -> torch.Tensor:
    """The dense rows, by way of what is kept, joined into bytes and taken apart in a buffer of garbage."""
    kept = FORMS[form].keep(a)
    size = streaming.places(kept)[-1]
    buffer = media.room(size + media.PAST).fill_(255)
    buffer[:size] = streaming.joined(kept)
    dense = torch.full(a.shape, torch.nan, dtype=a.dtype)
    out = torch.empty(1, a.shape[0], dtype=a.dtype).t()
    FORMS[form].ready(streaming.parted(buffer, kept), dense, out).unpack()
    return dense


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    return one.double().numpy().tobytes() == other.double().numpy().tobytes()


@pytest.mark.parametrize("form", UNPACKED)
@settings(deadline=None, max_examples=50)
@given(a=matrices())
def test_what_is_unpacked_is_what_was_kept_bit_by_bit(form, a):
    if form != "pairs" or a.pattern == TWO_OF_FOUR:
        assert same(there_and_back(form, a), a.dense)


@pytest.mark.parametrize("form", ["bitmap", "pairs"])
@pytest.mark.parametrize("flags", LESSER, ids=" ".join)
def test_lesser_processors_unpack_the_same(form, flags, device, monkeypatch):
    if "avx512_vbmi2" not in device.isa:
        pytest.skip("these are flags for x86 with all of AVX-512")
    made = native.load(SOURCE, *flags)
    monkeypatch.setattr(rows, "library", lambda: made)
    for dtype in ("float32", "bfloat16"):
        for k in (4, 60, 64, 200):
            a = posed(Trial(case("spmm", TWO_OF_FOUR, dtype, m=9, k=k, n=1))).operands[0]
            assert same(there_and_back(form, a), a.dense)


@pytest.mark.parametrize("flags", [(), *LESSER], ids=" ".join)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_product_of_a_few_columns_is_right_for_every_processor(flags, dtype, device):
    if flags and "avx512_vbmi2" not in device.isa:
        pytest.skip("these are flags for x86 with all of AVX-512")
    made = native.load(SOURCE, *flags)

    @kernel(op="spmm", dtypes=(dtype,), keep=False, live_order="columns")
    def product(a, b):
        out = b.new_empty(b.shape[1], a.shape[0]).t()
        multiply = rows.multiply(a.dense, out, made)

        def run(b):
            multiply(b)
            return out

        return run

    for m, k, n in ((1, 1, 1), (7, 100, 3), (9, 31, 4), (5, 64, 9), (64, 200, 16), (3, 1, 5)):
        verdict = examine(product, Trial(case("spmm", Unstructured(0.3), dtype, m=m, k=k, n=n)), device)
        assert verdict.outcome == "ok", verdict


@pytest.mark.parametrize("name", [name for name in KERNELS if name.startswith("stream_")])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_a_weight_of_many_bands_is_multiplied_like_one_of_few(name, n, device, monkeypatch):
    monkeypatch.setattr(streaming, "BAND", 2**12)
    one = KERNELS[name]
    for m, pattern in ((130, TWO_OF_FOUR), (96, Unstructured(0.8)), (70, Unstructured(1.0))):
        if one.fits(asked := case(one.op, pattern, "bfloat16", m=m, k=72, n=n)):
            verdict = examine(one, Trial(asked), device)
            assert verdict.outcome in ("ok", "refused"), verdict


def streamed(form: str, medium, pattern=TWO_OF_FOUR):
    """A question, the kernel of a form and a medium prepared for it, and the medium itself."""
    asked = posed(Trial(case("stream_memory", pattern, "bfloat16", m=64, k=48, n=1)))
    made = []

    def kept(parts):
        made.append(medium(parts))
        return made[0]

    return asked, streaming.streamed(*asked.operands, FORMS[form], kept), made[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("medium", MEDIA)
def test_nothing_stays_from_call_to_call(form, medium):
    asked, prepared, there = streamed(form, medium)
    *_, dense, out = prepared.holds
    for one in (there.staging, dense, out):
        one.fill_(255)
    check(prepared.run(asked.operands[1]), asked)
    if isinstance(there, media.Memory):
        for part in there.parts:
            part.zero_()
    else:
        flags = fcntl.fcntl(there.file.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(there.file.fileno(), fcntl.F_SETFL, flags & ~os.O_DIRECT)
        os.pwrite(there.file.fileno(), bytes(there.starts[-1]), 0)
    if form == "zlib":
        with pytest.raises(zlib.error):
            prepared.run(asked.operands[1])
    else:
        assert not prepared.run(asked.operands[1]).any()


@DISK
def test_a_disk_is_read_past_the_systems_cache_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    there = media.Disk([torch.arange(200, dtype=torch.uint8), torch.full((5000,), 7, dtype=torch.uint8)])
    assert fcntl.fcntl(there.file.fileno(), fcntl.F_GETFL) & os.O_DIRECT
    assert not list(tmp_path.iterdir())
    there.bring(1)
    assert there.staging[:5000].eq(7).all()
    there.bring(0)
    assert there.staging[:200].tolist() == list(range(200))


def test_temporary_files_in_memory_are_no_disk(tmp_path, monkeypatch):
    if media.DIRECT is None:
        pytest.skip("no system reads past its cache here")
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 {os.major(device)}:{os.minor(device)} / /tmp rw shared:1 - tmpfs tmpfs rw\n")
    monkeypatch.setattr(media, "MOUNTS", mounts)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert media.no_disk() == [
        "needs a disk, and temporary files are in memory here (tmpfs): set TMPDIR to a folder on a disk"
    ]


SHARES = {  # of the dense size, at 16 bits and density d; starts of rows and slack apart
    "dense": lambda d: 1,
    "csr": lambda d: 3 * d,
    "csr_short": lambda d: 2 * d,
    "bitmap": lambda d: d + 1 / 16,
    "bitmap_fused": lambda d: d + 1 / 16,
    "pairs": lambda d: 0.5625,
}
STARTS = {"csr": 4, "csr_short": 4, "bitmap": 8, "bitmap_fused": 8}  # bytes of one


@pytest.mark.parametrize("form", SHARES)
@pytest.mark.parametrize("pattern", [TWO_OF_FOUR, Unstructured(0.75)], ids=str)
def test_bytes_are_those_of_the_formula(form, pattern):
    if form == "pairs" and pattern != TWO_OF_FOUR:
        pytest.skip("pairs take 2:4 alone")
    m, k = 128, 256
    a = posed(Trial(case("spmm", pattern, "bfloat16", m=m, k=k, n=1))).operands[0]
    kept = sum(one.nbytes for one in FORMS[form].keep(a))
    slack = PAST if form.startswith("bitmap") else 0
    starts = STARTS.get(form, 0) * ((m // 32 if form == "bitmap_fused" else m) + 1 if form in STARTS else 0)
    assert kept - slack - starts == SHARES[form](1 - a.sparsity) * m * k * 2


@pytest.mark.parametrize(("form", "dtype", "bound"), [("csr", "float32", 2.0), ("bitmap", "bfloat16", 3.2)])
def test_three_quarters_gone_a_decoder_is_bounded_by_its_bytes(form, dtype, bound):
    """Starts of rows, which are kept last, apart."""
    m, k = 128, 256
    a = posed(Trial(case("spmm", Unstructured(0.75), dtype, m=m, k=k, n=1))).operands[0]
    *kept, _ = FORMS[form].keep(a)
    slack = PAST if form == "bitmap" else 0
    assert a.dense.nbytes / (sum(one.nbytes for one in kept) - slack) == bound


def test_a_note_says_how_long_each_stage_took_and_how_quick_unpacking_is():
    _, prepared, _ = streamed("bitmap", media.Memory)
    assert list(prepared.note) == ["transfer_ms", "unpack_ms", "multiply_ms", "unpack_gbs", "copy_gbs"]
    assert all(float(value) > 0 for value in prepared.note.values())
    _, prepared, _ = streamed("dense", media.Memory)
    assert list(prepared.note) == ["transfer_ms", "unpack_ms", "multiply_ms"]


def test_pairs_take_two_of_four_alone(device):
    one = KERNELS["stream_memory_pairs"]
    other = case("stream_memory", NofM(1, 4), "bfloat16", m=64, k=64, n=1)
    assert one.refusals(other, device) == ["takes 2:4 alone; got 1:4"]
    assert not one.fits(case("stream_memory", Unstructured(0.5), "bfloat16", m=64, k=64, n=1))


def test_columns_beyond_16_bits_are_refused(device):
    wide = case("stream_memory", Unstructured(0.5), "bfloat16", m=2, k=2**16 + 4, n=1)
    assert KERNELS["stream_memory_csr_short"].refusals(wide, device) == [
        "counts columns in 16 bits, to 65536; got 65540"
    ]
