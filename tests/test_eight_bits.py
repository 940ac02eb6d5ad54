"""Numbers of 8 bits: one scale a tensor, which is the dtype's; answers in bfloat16; measured where asked."""

from dataclasses import replace

import pytest
import torch

from suite import plan as planning
from suite.brought import brought
from suite.case import FLOAT8, INT8, case
from suite.check import Wrong, check, question
from suite.conformance import cases_for, examine, trials
from suite.cpu.device import Cpu
from suite.intact import Intact
from suite.kernel import KERNELS
from suite.op import OPS, discover_parts, faults, make_operands
from suite.patterns.given import Given
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable, discover
from suite.sources import add

discover_parts()
discover(folders=("kernels", "workloads"))

ONE = case("spmm", NofM(2, 4), FLOAT8, m=48, k=64, n=5)
WHOLE = case("spmm", NofM(2, 4), INT8, m=48, k=64, n=5)
SCALE = 2.0**-6


def test_standard_normal_numbers_fill_the_range_and_none_is_a_negative_zero():
    numbers = torch.randn(10**6, generator=torch.Generator().manual_seed(0))
    made = ONE.cast(numbers)
    assert made.dtype == torch.float8_e4m3fn
    back = made.float() * SCALE
    assert 224 < made.float().abs().max() < 448
    assert (back - numbers).abs().max() <= numbers.abs().max() / 16
    near = numbers.abs() > 2**-12
    assert ((back - numbers).abs() / numbers.abs())[near].max() <= 2**-4
    tiny = ONE.cast(torch.tensor([-1e-9, 1e-9, -100.0, 100.0])).float()
    assert tiny.tolist() == [0, 0, -448, 448] and not tiny[:2].signbit().any()


def test_the_answer_is_that_of_the_stored_numbers_and_both_scales():
    of = question(ONE, make_operands(ONE))
    a, b = of.operands
    exact = (a.dense.double() @ b.double()) * SCALE**2
    assert torch.equal(of.expected, exact)
    assert check(exact.to(torch.bfloat16), of) < 1
    with pytest.raises(Wrong, match=r"should be torch\.bfloat16"):
        check(exact.float(), of)
    with pytest.raises(Wrong):
        check((exact / SCALE).to(torch.bfloat16), of)  # one scale forgotten
    unrounded = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    with pytest.raises(Wrong):
        check((a.dense.double() * SCALE @ unrounded.double()).to(torch.bfloat16), of)


def test_other_live_operands_are_exact():
    of = question(ONE, make_operands(ONE))
    a, b = of.twin.operands
    assert b.dtype == torch.float8_e4m3fn
    assert torch.equal(of.twin.expected, (a.dense.double() @ b.double()) * SCALE**2)
    assert not torch.equal(of.twin.expected, of.expected)


@pytest.mark.parametrize("dtype", [FLOAT8, INT8])
def test_bytes_are_counted_as_they_are(dtype):
    one = replace(ONE, dtype=dtype)
    of = make_operands(one)
    op = OPS["spmm"]
    assert op.least_values(one, of) == of[0].nonzeros
    assert op.live_bytes(one, of) == 64 * 5 + 2 * 48 * 5


def test_ops_without_scales_say_so():
    assert faults(case("sddmm", Unstructured(0.5), FLOAT8, m=4, k=4, n=4)) == [
        "sddmm has no scales, which float8_e4m3fn needs"
    ]


def test_a_change_of_a_shared_operand_is_seen():
    _, b = make_operands(ONE)
    intact = Intact({"b": b})
    kept = b.clone()
    assert not intact.changed()
    b[0, 0] = 1.0 if float(b[0, 0]) != 1.0 else 2.0
    assert intact.changed() == ["b"] and torch.equal(b.float(), kept.float())


def test_a_file_that_goes_beyond_the_range_is_said(tmp_path):
    for largest, taken in ((6.5, True), (7.5, False)):
        file = tmp_path / f"{largest}.mtx"
        file.write_text(f"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 1.0\n2 2 {largest}\n")
        at = case("spmm", Given(), FLOAT8, data=add(str(file)), m=2, k=2, n=1)
        if taken:
            assert make_operands(at)[0].values.float().tolist() == [64, 416]
        else:
            with pytest.raises(
                Unusable, match=r"holds values up to 7\.5; float8_e4m3fn reaches 7 at its scale"
            ):
                make_operands(at)


def test_operands_that_somebody_brings_are_stored_numbers():
    a, b = torch.eye(4).to_sparse_csr(), torch.full((4, 2), 64.0).to(torch.float8_e4m3fn)
    at, of = brought("spmm", (a, b))
    assert (at.dtype, of[0].dtype) == (FLOAT8, torch.float8_e4m3fn)
    assert question(at, of).expected.tolist() == [[SCALE] * 2] * 4


def test_a_processor_measures_them_where_asked():
    """Not by itself: nothing that is sparse would be held against them."""
    assert not [one for one in planning.plan(["nm"], "default") if one.case.dtype == FLOAT8]
    asked = planning.plan(["nm"], "default", axes={"dtype": [FLOAT8]})
    assert asked and all(one.kernels == ("spmm_dense_scaled_mm",) for one in asked)
    assert [one for one in planning.plan(["nm"], "default", device_kind="cuda") if one.case.dtype == FLOAT8]


def test_dense_without_zeros_is_no_reason_to_measure_either(monkeypatch):
    dense = {name: one for name, one in planning.entries().items() if one.execution == "dense"}
    assert any(one.filled for one in dense.values())
    monkeypatch.setattr(planning, "entries", lambda: dense)
    with pytest.raises(Unusable, match="none of the kernels chosen"):
        planning.plan(["nm"], "default", device_kind="cuda")
    assert planning.plan(["nm"], "default", device_kind="cuda", kernels="spmm_filled_*")


def as_tensor_cores_sum(a, b):
    """32 products at a time, lined up with the largest, the running sum among them; of each 14 bits stay."""

    def cut(numbers, like):
        bit = torch.exp2(torch.floor(torch.log2(like.clamp(min=1e-30))) - 13)
        return torch.trunc(numbers / bit) * bit

    total = torch.zeros(len(a), b.shape[1], dtype=torch.float64)
    for at in range(0, a.shape[1], 32):
        products = a[:, at : at + 32, None] * b[None, at : at + 32]
        largest = torch.maximum(products.abs().amax(1), total.abs()) * 2
        total = cut(products, largest[:, None]).sum(1) + cut(total, largest)
        total = cut(total, total.abs())
    return total


@pytest.mark.parametrize("k", [32, 256, 700, 4096])
@pytest.mark.parametrize("pattern", [Unstructured(0.0), NofM(2, 4)], ids=str)
def test_sums_as_tensor_cores_keep_them_are_right(k, pattern):
    of = question(case := replace(ONE.with_sizes(k=k), pattern=pattern), make_operands(case))
    a, b = of.operands
    answer = as_tensor_cores_sum(a.dense.double(), b.double()) * SCALE**2
    assert check(answer.to(torch.bfloat16), of) < 1


def test_a_kernel_that_keeps_sums_in_sixteen_bits_is_wrong():
    """The tolerance is of what tensor cores keep, and that is more."""
    large = case("spmm", Unstructured(0.0), FLOAT8, m=4, k=4096, n=4)
    of = question(large, make_operands(large))
    a, b = of.operands
    total = torch.zeros(4, 4, dtype=torch.bfloat16)
    for at in range(large["k"]):
        total += torch.outer(a.dense[:, at].float(), b[at].float()) * SCALE**2
    with pytest.raises(Wrong):
        check(total, of)


def test_the_baseline_is_right_on_a_trial():
    one = KERNELS["spmm_dense_scaled_mm"]
    assert examine(one, trials("spmm", FLOAT8)[1], Cpu()).outcome == "ok"


# Whole numbers


def test_whole_numbers_are_the_nearest_ones_and_zero_only_where_the_number_is():
    numbers = torch.randn(10**6, generator=torch.Generator().manual_seed(0))
    made = WHOLE.cast(numbers)
    assert made.dtype == torch.int8 and made.abs().max() == 127 and made.all()
    away = (made.float() - numbers * 32).abs()
    plain = (numbers.abs() * 32 > 0.5) & (numbers.abs() * 32 < 127)
    assert away[plain].max() <= 0.5
    few = torch.tensor([-1e-9, 1e-9, 0.0, -0.0, -9.0, 9.0, 1.0])
    assert WHOLE.cast(few).tolist() == [-1, 1, 0, 0, -127, 127, 32]


def test_the_pattern_stays_what_it_was():
    a, b = make_operands(WHOLE.with_sizes(m=256, k=512))
    assert a.values.all() and b.all()
    assert ((a.dense.unflatten(1, (-1, 4)) != 0).sum(-1) == 2).all()


def test_sums_are_exact_and_the_answer_is_rounded_once():
    of = question(WHOLE, make_operands(WHOLE))
    a, b = of.operands
    exact = (a.dense.long() @ b.long()).double() / 32**2
    assert torch.equal(of.expected, exact)
    once = exact.to(torch.bfloat16)
    assert check(once, of) < 1
    with pytest.raises(Wrong, match=r"should be torch\.bfloat16"):
        check(exact.float(), of)
    with pytest.raises(Wrong):
        check((exact * 32).to(torch.bfloat16), of)  # one scale forgotten
    with pytest.raises(Wrong):
        check((exact + exact.abs().max() / 2**6).to(torch.bfloat16), of)
    other = of.twin.operands[1]
    assert torch.equal(other, -b.flip(1)) and not torch.equal(of.twin.expected, of.expected)
    assert torch.equal(of.twin.expected, (a.dense.long() @ other.long()).double() / 32**2)


@pytest.mark.parametrize("by", [2, -2])
def test_an_answer_two_of_its_steps_away_is_wrong(by):
    """The tolerance knows no error of sums."""
    of = question(large := WHOLE.with_sizes(k=4096), make_operands(large))
    right = of.expected.to(torch.bfloat16)
    assert check(right, of) < 1
    with pytest.raises(Wrong):
        check((right.view(torch.int16) + by).view(torch.bfloat16), of)


def test_a_change_of_a_whole_number_is_seen():
    _, b = make_operands(WHOLE)
    intact = Intact({"b": b})
    assert not intact.changed()
    b[0, 0] = -b[0, 0]
    assert intact.changed() == ["b"]


@pytest.mark.parametrize("name", sorted(set(OPS) - {"spmm", "stream_disk", "stream_memory"}))
def test_ops_without_scales_take_no_whole_numbers(name):
    """They say so, or first that these sizes are none of theirs. Streams are spmm's own product."""
    op = OPS[name]
    at = case(name, Unstructured(0.5), INT8, **dict.fromkeys(op.sizes, 16))
    assert not op.scaled
    assert faults(at) == (op.rules(at) or [f"{name} has no scales, which int8 needs"])


def test_sums_that_might_not_fit_are_no_case():
    assert not faults(WHOLE.with_sizes(k=133144)) and 133144 * 127**2 < 2**31 < 133145 * 127**2
    assert faults(WHOLE.with_sizes(k=133145 // 4 * 4 + 4)) == [
        "int32 holds sums of 133144 products of int8 for sure; this has k=133148"
    ]


def test_a_file_beyond_the_range_of_whole_numbers_is_said(tmp_path):
    for largest, taken in ((3.5, True), (4.5, False)):
        file = tmp_path / f"{largest}.mtx"
        file.write_text(f"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 1.0\n2 2 {largest}\n")
        at = case("spmm", Given(), INT8, data=add(str(file)), m=2, k=2, n=1)
        if taken:
            assert make_operands(at)[0].values.tolist() == [32, 112]
        else:
            with pytest.raises(Unusable, match=r"holds values up to 4\.5; int8 reaches 3\.97 at its scale"):
                make_operands(at)


def test_whole_numbers_that_somebody_brings_are_stored_ones():
    a, b = torch.eye(4).to_sparse_csr(), torch.full((4, 2), 64, dtype=torch.int8)
    at, of = brought("spmm", (a, b))
    assert (at.dtype, of[0].dtype) == (INT8, torch.int8)
    assert question(at, of).expected.tolist() == [[64 / 32**2] * 2] * 4
    with pytest.raises(Unusable, match="a holds numbers that int8 does not have"):
        brought("spmm", (torch.eye(4) / 2, b))
    with pytest.raises(Unusable, match="b holds -128, which has no negative"):
        brought("spmm", (a, torch.full((4, 2), -128, dtype=torch.int8)))
    with pytest.raises(Unusable, match="a holds -128, which has no negative"):
        brought("spmm", (-128 * torch.eye(4), b))


def test_a_processor_measures_whole_numbers_where_asked():
    assert not [one for one in planning.plan(["nm"], "default") if one.case.dtype == INT8]
    asked = planning.plan(["nm"], "default", axes={"dtype": [INT8]})
    assert asked and all(one.kernels == ("spmm_dense_int_mm",) for one in asked)
    gpu = [one for one in planning.plan(["nm"], "default", device_kind="cuda") if one.case.dtype == INT8]
    assert gpu and all("spmm_nm_cusparselt_direct" in one.kernels for one in gpu)


def test_the_baseline_of_whole_numbers_is_right_on_every_trial():
    one = KERNELS["spmm_dense_int_mm"]
    made = [examine(one, trial, Cpu()) for trial in cases_for(one)]
    assert {verdict.outcome for verdict in made} == {"ok"}, [one for one in made if one.outcome != "ok"][:3]
