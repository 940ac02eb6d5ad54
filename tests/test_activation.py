"""Sparse activations: what the ops ask, what kernels read, and what batches share. Rules: test_neurons.py."""

from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import activations, conformance, native
from suite.case import case
from suite.check import question
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.kernel import KERNELS, Prepared, kernel
from suite.op import OPS, discover_parts, make_operands
from suite.ops.actmm import counting, reaching
from suite.patterns.hot import Hot
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.stated import ledger

discover_parts()
discover(folders=("kernels",))

BOTH = ("actmm", "actmm_up")
OURS = {"actmm": "actmm_axpy", "actmm_up": "actmm_up_dots"}
HERE = Path(conformance.__file__).parent.parent / "kernels"

compiled = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
either = pytest.mark.parametrize("op", BOTH)
teal = pytest.mark.paper("teal")


@pytest.fixture(scope="module")
def device():
    return Cpu()


@pytest.fixture
def threads():
    """Set how many there are; they are as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# The ops.


@either
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_reaches_its_cut_is_what_the_pattern_says(op, dtype):
    of = case(op, Unstructured(0.7), dtype, m=60, k=50, n=9)
    operands = make_operands(of)
    starts, columns = of.pattern.positions(*OPS[op].shape(of), of.seed)
    found = OPS[op].sparse(operands)
    assert torch.equal(found.starts, torch.from_numpy(starts).int())
    assert torch.equal(found.columns, torch.from_numpy(columns))
    assert (operands[-1] != 0).all(), "what does not count is no zero, so that multiplying it shows"
    assert len(operands[1].unique()) > 2


@pytest.mark.paper("polar-sparsity")
@either
def test_a_line_states_the_union_of_the_batch(op):
    of = case(op, Unstructured(0.9), m=300, k=200, n=8)
    operands = make_operands(of)
    _, cut, *_, live = operands
    union = float(reaching(cut, live).any(1).double().mean())
    stated = ledger(of, operands)
    assert stated["structure"]["empty_rows"] == pytest.approx(1 - union, abs=1e-4)
    assert stated["sparsity"] == pytest.approx(0.9)
    assert stated["flops_useful"] == pytest.approx(0.1 * stated["flops_nominal"])


@either
def test_the_other_live_operands_are_of_other_neurons_and_not_as_many(op):
    of = case(op, Unstructured(0.8), m=200, k=300, n=1)
    asked = question(of, make_operands(of))
    one, other = (reaching(each.operands[1], each.operands[-1]) for each in (asked, asked.twin))
    assert not torch.equal(one, other) and int(one.sum()) != int(other.sum())
    assert asked.whole.twin.expected.shape == asked.expected.shape


@teal
@pytest.mark.paper("cats")
@pytest.mark.paper("chess")
@compiled
@pytest.mark.parametrize("n", [1, 5])
def test_a_kernel_equals_the_dense_product_of_what_counts(n):
    w, x, gate = drawn(70, 90), drawn(90, n, seed=1), F.silu(drawn(70, n, seed=2))
    for cut in (torch.zeros(90), torch.full((90,), 0.5), drawn(90, seed=3).abs(), torch.full((90,), 9.0)):
        answer = KERNELS["actmm_axpy"].prepare(w, cut, x).run(x)
        torch.testing.assert_close(answer, w @ counting(cut, x))
        held = KERNELS["actmm_up_dots"].prepare(w, cut[:70], x, gate)
        token_major = x.t().contiguous().t(), gate.t().contiguous().t()
        torch.testing.assert_close(held.run(*token_major), counting(cut[:70], gate) * (w @ x))


@compiled
@either
def test_work_and_bytes_are_those_of_the_union(op):
    of = case(op, Hot(0.9), "bfloat16", m=640, k=640, n=8)
    operands = make_operands(of)
    one = KERNELS[OURS[op]]
    arranged = one.arrange(operands, OPS[op].live)
    made = one.prepare(*arranged)
    made.run(*(arranged[at] for at in OPS[op].live))
    union = int(reaching(operands[1], operands[-1]).any(1).sum())
    assert made.values() == union * 640 * 2 == OPS[op].least_values(of, operands)
    assert 2 * union * 640 * 8 <= made.executed() < 2 * (union + 16) * 640 * 8


@compiled
@either
@pytest.mark.parametrize("several", [2, 3, 16])
def test_threads_share_the_neurons_that_count(op, several, threads, device):
    threads(several)
    for n, sparsity in ((1, 0.9), (1, 1.0), (3, 0.5), (9, 0.97)):
        for dtype in ("float32", "bfloat16"):
            trial = Trial(case(op, Unstructured(sparsity), dtype, m=129, k=131, n=n))
            assert examine(KERNELS[OURS[op]], trial, device).outcome == "ok"


@compiled
@either
@pytest.mark.parametrize(
    "flags", [("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")], ids=" ".join
)
def test_kernels_are_right_for_lesser_processors(op, flags, device):
    if device.isa and "avx2" not in device.isa:
        pytest.skip("these are flags for x86 with AVX2")
    module = pytest.importorskip(f"suite.kernels.{op}.{OURS[op]}")
    assert native.load(HERE / op / f"{OURS[op]}.cpp", *flags).lanes() < 16
    order = KERNELS[OURS[op]].live_order

    @kernel(op=op, dtypes=("float32", "bfloat16"), live_order=order, keep=False)
    def lesser(*operands):
        return module.prepare(*operands, *flags)

    verdicts = [examine(lesser, trial, device) for trial in islice(cases_for(lesser), 0, None, 3)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


# Kernels that are wrong, each in its own way.


def keeping_its_neurons(w, cut, x):
    live = reaching(cut, x).any(1)
    return lambda x: w[:, live] @ counting(cut, x)[live]


def multiplying_all_of_the_union(w, cut, x):
    def run(x):
        live = reaching(cut, x).any(1)
        return w[:, live] @ x[live]

    return run


def ignoring_cuts(w, cut, x):
    return lambda x: w @ x


def taking_zeros_for_silence(w, cut, x):
    return lambda x: w @ x.where(x != 0, 0)


def reading_less(w, cut, x):
    least = OPS["actmm"].least_values(None, (w, cut, x))
    return Prepared(lambda x: w @ counting(cut, x), values=least - 1, metadata=0, holds=(w,))


@pytest.mark.parametrize(
    "prepare",
    [
        keeping_its_neurons,
        multiplying_all_of_the_union,
        ignoring_cuts,
        taking_zeros_for_silence,
        reading_less,
    ],
    ids=lambda prepare: prepare.__name__,
)
def test_a_wrong_kernel_is_found_out(prepare, device):
    trial = Trial(case("actmm", Unstructured(0.7), m=40, k=60, n=3))
    verdict = examine(kernel(op="actmm", keep=False)(prepare), trial, device)
    assert verdict.outcome == "wrong", verdict


# What a batch shares.


@pytest.mark.paper("lazy-neuron")
@pytest.mark.paper("relu2")
def test_what_a_line_states_of_activations_is_counted():
    """Four neurons and three tokens, by hand; with ReLU and a small cut, zeros are what is silent."""
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-0.0, 3.0, 0.0], [2.0, 4.0, 0.0]])
    w = drawn(5, 4)
    for cut in (torch.full((4,), 1e-3), activations.least(x)):
        operands = (w, cut, x)
        of = case("actmm", Unstructured(0.5), m=5, k=4, n=3)
        stated = ledger(of, operands)
        assert stated["sparsity"] == pytest.approx(1 - 4 / 12)
        assert stated["structure"]["empty_rows"] == 0.25  # one neuron that no token uses
        assert stated["flops_useful"] == 2 * 5 * 4
        contribution = (x[:, None] * w.t()[:, :, None]).norm(dim=1) > 0
        assert torch.equal(contribution, reaching(cut, x)), "by zeros, or by what neurons add: the same"


@pytest.mark.paper("relu2")
@given(st.integers(2, 9), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_reuse_is_the_overlap_of_neighbours(tokens, neurons, seed):
    counting = drawn(neurons, tokens, seed=seed) > 0.3
    sets = [{at for at in range(neurons) if counting[at, token]} for token in range(tokens)]
    shared = sum(len(now & before) for before, now in pairwise(sets))
    assert activations.reuse(counting) == pytest.approx(shared / max(1, sum(map(len, sets[1:]))))


@pytest.mark.paper("polar-sparsity")
@pytest.mark.parametrize("n", [1, 2, 8, 16])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95])
def test_independent_tokens_use_together_what_the_law_says(n, sparsity):
    union = live_rows(Unstructured(sparsity), n)
    assert union == pytest.approx(activations.union_law(1 - sparsity, n), abs=0.01)
    if n > 1:
        assert live_rows(Hot(sparsity), n) < union - 0.005


def live_rows(pattern, n, m=11008):
    """The share of rows with a nonzero."""
    starts, _ = pattern.positions(m, n, seed=3)
    return float((starts[1:] > starts[:-1]).mean())
