"""Tiles that are dense or 2:4, and bits that are unpacked before use: where numbers stand, what is stored."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import case
from suite.check import check, question
from suite.conformance import Trial, posed
from suite.cpu.device import Cpu
from suite.formats.patch import patched, spread, unpatched
from suite.kernel import KERNELS
from suite.op import OPS, discover_parts, make_operands
from suite.patterns.n_of_m import NofM
from suite.patterns.patch import Patch
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.studying.experiment import Experiment
from suite.studying.masks import best, legal
from suite.task import TASKS

discover_parts()
discover(folders=("kernels", "workloads"))

papers = pytest.mark.paper("patch")
patches = st.builds(
    Patch, st.sampled_from((4, 8, 12)), st.sampled_from((8, 16, 24)), st.sampled_from((0, 0.3, 0.5, 1))
)


def operands(pattern, m, k, dtype="float32", n=3):
    return make_operands(case("spmm", pattern, dtype, m=m, k=k, n=n))


@papers
@given(patches, st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_tiles_are_whole_or_two_of_four_and_half_their_share_is_the_sparsity(pattern, down, across, seed):
    m, k = down * pattern.rows, across * pattern.columns
    starts, columns = pattern.positions(m, k, seed)
    mask = np.zeros((m, k), bool)
    mask[np.repeat(np.arange(m), np.diff(starts)), columns] = True
    tiles = mask.reshape(down, pattern.rows, across, pattern.columns).swapaxes(1, 2)
    fours = tiles.reshape(down, across, pattern.rows, -1, 4).sum(-1)
    dense, halved = (fours == 4).all((-1, -2)), (fours == 2).all((-1, -2))
    assert (dense ^ halved).all()
    assert halved.sum() == pytest.approx(pattern.share * halved.size, abs=0.5)
    assert 1 - mask.mean() == pytest.approx(halved.mean() / 2) == pattern.sparsity_of(m, k)


@papers
def test_at_the_ends_it_is_dense_and_it_is_two_of_four():
    assert Patch(16, 16, 0.0).count(64, 48) == 64 * 48
    for ours, theirs in zip(
        Patch(16, 16, 1.0).positions(64, 48, 3), NofM(2, 4).positions(64, 48, 3), strict=True
    ):
        assert (ours == theirs).all()


@papers
@given(patches, st.integers(1, 40), st.integers(1, 40), st.sampled_from(((4, 8), (8, 16), (16, 8))))
@settings(max_examples=40, deadline=None)
def test_what_is_stored_comes_back(pattern, m, k, tile):
    a, _ = operands(pattern, m, k)
    a.values[::5] = -0.0
    back = unpatched(patched(a, *tile), a.pattern)
    for name in ("starts", "columns", "values"):
        assert torch.equal(getattr(back, name), getattr(a, name))
    assert torch.equal(back.values.signbit(), a.values.signbit())


def test_any_matrix_has_the_form_and_dense_rows_are_stored_whole():
    a, _ = operands(Unstructured(0.5), 30, 50)
    assert torch.equal(unpatched(patched(a, 8, 8), a.pattern).values, a.values)
    empty, _ = operands(Unstructured(1.0), 30, 50)
    assert not len(patched(empty, 8, 8).dense.values) and not len(patched(empty, 8, 8).halved.values)


@papers
@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_bytes_are_those_of_the_formula(dtype, size):
    a, _ = operands(Patch(16, 16, 0.5), 64, 64, dtype)
    held = patched(a, 16, 16)
    assert len(held.dense.columns) == len(held.halved.columns) == 8
    assert held.value_bytes == (8 * 256 + 8 * 128) * size
    assert held.metadata_bytes == 8 * 256 // 8 + 2 * (5 + 8) * 4
    assert spread(held.halved).shape == held.dense.values.shape
    each = held.halved.values[0].nbytes + held.halved.places[0].nbytes
    assert each / held.dense.values[0].nbytes == {4: 17 / 32, 2: 9 / 16}[size]


@papers
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_its_product_is_the_masked_dense_one_and_its_work_that_of_the_nonzeros(share):
    of = case("spmm", Patch(16, 32, share), m=96, k=128, n=64)
    a, b = make_operands(of)
    made = KERNELS["spmm_patch_panels"].prepare(a, b)
    check(made.run(b), question(of, (a, b)))
    assert made.executed == OPS["spmm"].useful(of, (a, b)) == 2 * 96 * 128 * (1 - share / 2) * 64
    assert made.values == 4 * a.nonzeros


def test_tiles_that_no_register_fits_are_refused():
    (reason,) = KERNELS["spmm_patch_panels"].refusals(
        case("spmm", Patch(12, 8, 0.5), m=48, k=48, n=9), Cpu(1)
    )
    assert reason == "needs tiles of 8 x 2 and multiples, got 12 x 8"


@papers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", [80, 89, 90], ids="sm_{}".format)
def test_halved_tiles_go_to_the_tensor_cores_from_registers(architecture, monkeypatch, tmp_path):
    compiling = pytest.importorskip("compiling", reason="needs triton: pip install triton")
    of = case("spmm", Patch(64, 64, 0.5), "bfloat16", m=256, k=384, n=256)
    (one,) = compiling.compiler(monkeypatch)(KERNELS["spmm_patch_triton"], of, architecture)
    registers, stack = compiling.resources(one.asm["cubin"], tmp_path)
    assert one.metadata.shared <= compiling.SHARED[architecture] and stack <= 32, registers
    assert "mma" in one.asm["ptx"]


@papers
def test_whole_tiles_are_counted_as_executed():
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    a, b = operands(Patch(48, 32, 0.5), 96, 128, "float16", n=20)
    made = KERNELS["spmm_patch_triton"].prepare(a, b)
    assert made.note["algorithm"] == "16x32"
    assert made.executed == 2 * 96 * 128 * 32 and made.values == 2 * a.nonzeros


@pytest.mark.paper("endor")
@given(st.integers(1, 70), st.integers(1, 200), st.sampled_from((0.0, 0.5, 0.93, 1.0)))
@settings(max_examples=20, deadline=None)
def test_bits_that_are_unpacked_say_where_each_chunk_begins(m, k, sparsity):
    """Bytes: the values, a bit for each position of rows that are whole words, a number for each chunk."""
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    from suite.kernels.spmm.spread_triton import CHUNK, WORD, bits_of

    a, _ = operands(Unstructured(sparsity), m, k)
    held, wide = bits_of(a, "cpu"), -(-k // WORD) * WORD
    padded = torch.zeros(m, wide)
    padded[:, :k] = a.dense
    flat = padded.flatten()
    firsts = [int((flat[:at] != 0).sum()) for at in range(0, m * wide, CHUNK)]
    assert held.firsts.tolist() == firsts and held.dense.shape == padded.shape
    assert torch.equal(held.values[: held.nonzeros], a.values)
    assert held.value_bytes == 4 * a.nonzeros
    assert held.metadata_bytes == m * wide // 8 + 4 * len(firsts) + 64


def test_trials_have_both_kinds():
    trial = Trial(case("spmm", Patch(16, 16, 0.5), m=64, k=48, n=17))
    held = patched(posed(trial).operands[0], 16, 16)
    assert len(held.dense.values) == len(held.halved.values) == 6


# Learned


@papers
@given(patches, st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_best_mask_is_legal_exact_and_no_other_is(pattern, m, k, seed):
    mask = best(pattern, torch.rand(m, k, generator=torch.Generator().manual_seed(seed)))
    assert legal(pattern, mask) and int(mask.sum()) == pattern.count(m, k)
    mask[seed % m, seed % k] ^= True
    assert not legal(pattern, mask)


@papers
def test_the_best_mask_leaves_those_tiles_dense_that_lose_most():
    scores = torch.rand(8, 16)
    scores[:4, 8:] += 9
    mask = best(Patch(4, 8, 0.75), scores)
    assert mask[:4, 8:].all() and torch.equal(mask, best(NofM(2, 4), scores) | (scores > 9))


def test_as_many_but_not_two_of_four_is_not_legal():
    mask = best(Patch(4, 8, 0.5), torch.rand(8, 16))
    dense = mask.view(2, 4, 2, 8).transpose(1, 2).all((-1, -2)).nonzero()[0]
    down, right = (dense * torch.tensor([4, 8])).tolist()
    mask[down : down + 4, right : right + 8] = torch.tensor([True, False]).repeat(16).view(4, 8)
    assert not legal(Patch(4, 8, 0.5), mask) and legal(Patch(4, 8, 0.75), mask)


@pytest.fixture(scope="module")
def lines():
    """By share of 2:4 tiles: what the criterion's tiles and the learned ones lose at each seed."""
    experiments = [Experiment(TASKS["digits_mlp"], seed, "cpu") for seed in range(3)]
    dense = [one.train_dense() for one in experiments]

    def of(method, share):
        return [one.line(method, f"patch16x16@{share}") for one in experiments]

    return SimpleNamespace(dense=dense, of=of)


@papers
def test_learned_tiles_lose_less_than_those_of_magnitude_and_the_weights_stay(lines):
    learned, magnitude = lines.of("magnitude-uniform-patch", 0.5), lines.of("magnitude-uniform", 0.5)
    random = lines.of("random-uniform", 0.5)
    for ours, theirs, any_ in zip(learned, magnitude, random, strict=True):
        assert ours.outcome == "ok" and ours.training == "mask"
        assert ours.sparsity == theirs.sparsity == pytest.approx(0.25, abs=0.001)
        assert ours.quality["kl"] < theirs.quality["kl"] < any_.quality["kl"]


@papers
def test_the_more_tiles_stay_dense_the_less_is_lost(lines):
    lost = [sum(one.quality["kl"] for one in lines.of("magnitude-uniform", share)) for share in (0, 0.5, 1)]
    assert lost[0] == pytest.approx(0, abs=1e-6) and lost[0] < lost[1] < lost[2]
