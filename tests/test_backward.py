"""Backward: gradients are those of a masked layer, at stored positions alone, and nothing dense is made."""

import tracemalloc
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from suite import conformance, native
from suite.case import case
from suite.check import Wrong, check, question
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.formats.columns import columns, transposed
from suite.kernel import KERNELS, imported, kernel, package
from suite.op import OPS, discover_parts, make_operands
from suite.ops import sddmm, spmm
from suite.patterns.rmat import Rmat
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.resident import Peak
from suite.sparse import with_values

pytestmark = pytest.mark.paper("sparseprop")

discover_parts()
discover(folders=("kernels",))

TILED = Path(conformance.__file__).parent.parent / "kernels/sparse_step/sparse_step_tiled.cpp"

compiles = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))


@pytest.fixture(scope="module")
def device():
    return Cpu()


@pytest.fixture
def tiled():
    return pytest.importorskip("suite.kernels.sparse_step.sparse_step_tiled")


def step(sparsity=0.9, m=130, k=70, n=33, pattern=None):
    return case("sparse_step", pattern or Unstructured(sparsity), m=m, k=k, n=n)


# The ops.


@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.97, 1.0])
def test_the_answer_is_what_autograd_makes_of_a_masked_layer(sparsity):
    pattern, values, x, dy = make_operands(step(sparsity))
    weight = with_values(pattern, values.double()).dense.requires_grad_()
    x = x.double().requires_grad_()
    y = (weight * pattern.dense.double()) @ x
    y.backward(dy.double())
    assert weight.grad is not None
    stored = pattern.dense.bool()
    assert not weight.grad[~stored].any()
    answer = OPS["sparse_step"].reference(pattern, values, x.detach(), dy)
    for mine, right in zip(answer, (y.detach(), x.grad, weight.grad[stored]), strict=True):
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize("sparsity", [0.5, 0.99])
def test_references_are_the_same_by_rows_and_by_panels(sparsity, monkeypatch):
    operands, answers = make_operands(step(sparsity)), []
    for density in (0.0, 1.1):
        for module in (spmm, sddmm):
            monkeypatch.setattr(module, "DENSE_REFERENCE", density)
            monkeypatch.setattr(module, "PANEL", 500)
        answers.append(OPS["sparse_step"].reference(*operands))
    for panels, rows in zip(*answers, strict=True):
        torch.testing.assert_close(panels, rows)


def test_the_values_of_a_mask_are_nothing_to_the_weight_gradient():
    mask, dy, x = make_operands(case("sddmm", Unstructured(0.5), m=20, k=30, n=5))
    other = with_values(mask, torch.full_like(mask.values, torch.nan))
    assert torch.equal(OPS["sddmm"].reference(mask, dy, x), OPS["sddmm"].reference(other, dy, x))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_each_part_of_a_step_is_checked(part):
    of = question(step(), make_operands(step()))
    answer = [one.float() for one in of.expected]
    assert check(tuple(answer), of) < 1
    answer[part] = answer[part] * 1.001
    with pytest.raises(Wrong, match=OPS["sparse_step"].answers[part]):
        check(tuple(answer), of)


def test_sixteen_bit_gradients_are_no_answer_in_float32():
    of = question(step(), make_operands(step()))
    with pytest.raises(Wrong):
        check(tuple(one.bfloat16().float() for one in of.expected), of)


# The format.


@pytest.mark.parametrize("pattern", [*map(Unstructured, (0.0, 0.7, 1.0)), Rmat(0.9)], ids=str)
def test_by_columns_every_value_is_where_its_place_says(pattern):
    a = make_operands(case("spmm_t", pattern, m=37, k=23, n=1))[0]
    made, turned = columns(a), transposed(a)
    assert torch.equal(turned.dense, a.dense.t())
    assert torch.equal(a.values[made.places], turned.values)
    assert made.metadata_bytes == 4 * (24 + 2 * a.nonzeros)


# The kernels: beyond what every kernel is asked.


@compiles
@pytest.mark.parametrize("n", [1, 15, 16, 17, 255, 256, 257, 272, 520])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_tiles_at_any_width_and_depth(n, count, tiled, device, monkeypatch):
    monkeypatch.setattr(tiled, "tiles", lambda *_: count)
    for sparsity in (0.3, 0.95):
        verdict = examine(tiled.sparse_step_tiled, Trial(step(sparsity, 40, 90, n)), device)
        assert verdict.outcome == "ok", verdict


@compiles
def test_columns_that_two_bytes_cannot_tell_apart_lie_in_tiles_of_their_own(tiled, device):
    wide = Trial(step(0.9999, 4, 2**16 + 5, 3))
    assert tiled.sparse_step_tiled.prepare(*make_operands(wide.case)).note["tiles"] == "2+1"
    assert examine(tiled.sparse_step_tiled, wide, device).outcome == "ok"


@compiles
@pytest.mark.parametrize(
    ("needs", "flags"),
    [
        ("avx512vl", ("-march=skylake-avx512",)),
        ("avx2", ("-march=haswell",)),
        ("avx2", ("-mno-avx512f",)),
        ("avx", ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")),
    ],
    ids=str,
)
def test_tiles_are_right_for_other_processors(needs, flags, tiled, device):
    if needs not in device.isa:
        pytest.skip(f"runs on x86 with {needs}")
    library = native.load(TILED, *flags)
    assert library.lanes() == {"avx512vl": 16, "avx2": 8, "avx": 4}[needs]

    @kernel(op="sparse_step", keep=False)
    def other(pattern, values, x, dy):
        return tiled.prepare(pattern, x, library)

    wide = [Trial(step(sparsity, 40, 90, n)) for sparsity in (0.3, 0.95) for n in (64, 65, 200)]
    verdicts = [examine(other, trial, device) for trial in (*cases_for(other), *wide)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@compiles
def test_threads_change_nothing(tiled):
    one = step(0.8, 600, 300, 48)
    operands, found, before = make_operands(one), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(tiled.sparse_step_tiled.prepare(*operands).run(*operands[1:]))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], other, strict=True))


@compiles
def test_executed_counts_registers_and_groups_that_are_filled_up(tiled):
    operands = make_operands(step(0.9, 64, 64, 5))
    made = tiled.sparse_step_tiled.prepare(*operands)
    lanes = tiled.compiled().lanes()
    groups = int((operands[0].row_lengths + 3).div(4, rounding_mode="floor").sum())
    width = -(-5 // lanes) * lanes
    assert made.note["tiles"] == "1+1"
    assert made.executed == 2 * width * (2 * operands[0].nonzeros + 4 * groups)


@pytest.mark.parametrize("name", ["spmm_t_csc_tiled", "sddmm_tiled", "mlp_epoch_tiled"])
def test_a_kernel_made_of_others_changes_with_them(name):
    prepare = KERNELS[name].prepare
    made_of = {"spmm_t_csc_tiled": "spmm.spmm_csr_tiled"}.get(name, "sparse_step.sparse_step_tiled")
    assert f"suite.kernels.{made_of}" in imported(prepare.__globals__, package(prepare))


# Memory.


class Largest(TorchDispatchMode):
    """The largest storage that torch makes meanwhile."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.layout == torch.strided:
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return made


def allocated(one, operands):
    """The largest buffer of torch's, all that NumPy holds at its highest, and what the process grows by."""
    peak = Peak()
    tracemalloc.start()
    try:
        with Largest() as largest:
            made = one.prepare(*operands)
            made.run(*(operands[at] for at in OPS[one.op].live))
        return largest.bytes, tracemalloc.get_traced_memory()[1], peak.bytes() or 0
    finally:
        tracemalloc.stop()


WIDE = {
    "spmm_t": {"m": 4096, "k": 4096, "n": 16},
    "sddmm": {"m": 4096, "k": 4096, "n": 16},
    "sparse_step": {"m": 4096, "k": 4096, "n": 16},
    "mlp_epoch": {"m": 8192, "k": 4096, "n": 16, "steps": 1},
}
DENSE = 4096 * 4096 * 4


@compiles
@pytest.mark.parametrize("name", ["sddmm_tiled", "sparse_step_tiled", "spmm_t_csc_tiled", "mlp_epoch_tiled"])
def test_nothing_of_the_dense_size_is_allocated(name):
    one = KERNELS[name]
    operands = make_operands(case(one.op, Unstructured(0.999), **WIDE[one.op]))
    allocated(one, operands)  # compiles, and imports what torch needs to look on
    assert max(allocated(one, operands)) < DENSE / 8


@compiles
@pytest.mark.parametrize("name", ["sddmm_dense_mm", "sparse_step_dense_mm"])
def test_the_counter_sees_what_is_dense(name):
    one = KERNELS[name]
    operands = make_operands(case(one.op, Unstructured(0.999), **WIDE[one.op]))
    assert allocated(one, operands)[0] >= DENSE


# The measured swap.


class Clock:
    """Time that passes only while a step takes some."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def step(self, *seconds):
        """A step that takes these in turn."""
        left = list(seconds)

        def step():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return step


@pytest.fixture
def swap():
    return pytest.importorskip("suite.kernels.sparse_step.sparse_step_swapped")


@pytest.mark.parametrize("sparse", [0.5, 0.99, 1.0, 1.01, 2.0])
@pytest.mark.parametrize("dense", [(1.0,), (1.0, 3.0), (3.0, 1.0)])
@pytest.mark.parametrize("sparsity", [0.79, 0.8, 0.99])
def test_a_layer_is_swapped_where_it_is_sparse_enough_and_faster_than_every_dense_one(
    sparse, dense, sparsity, swap
):
    clock = Clock()
    why = swap.stays(sparsity, clock.step(sparse), [clock.step(one) for one in dense], clock)
    assert (not why) == (sparsity >= 0.8 and sparse < min(dense))


def test_the_swap_goes_by_medians_and_not_by_the_first_step(swap):
    clock = Clock()
    late = clock.step(9.0, 0.5, 0.5, 9.0, 0.5)
    assert not swap.stays(0.9, late, [clock.step(1.0)], clock)
    lucky = clock.step(0.1, 0.1, 0.1, 2.0)
    assert "dense step was measured at 1e+03 ms, a sparse one at 2e+03 ms" in swap.stays(
        0.9, lucky, [clock.step(1.0)], clock
    )


@compiles
def test_a_swapped_layer_is_the_sparse_one_and_else_it_is_refused(swap, device, monkeypatch):
    trial = Trial(step(0.9))
    monkeypatch.setattr(swap, "stays", lambda *_: "")
    assert examine(swap.sparse_step_swapped, trial, device).outcome == "ok"
    monkeypatch.setattr(swap, "stays", lambda *_: "of the weather")
    verdict = examine(swap.sparse_step_swapped, trial, device)
    assert (verdict.outcome, verdict.note) == ("refused", "the dense layer stays: of the weather")
