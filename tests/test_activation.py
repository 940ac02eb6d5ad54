"""Sparse activations: what the ops ask, what kernels read, how cuts are found, and what batches share."""

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
    union = activations.union_share(reaching(cut, live).t())
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


# Cuts, and what they leave.

shares = st.sampled_from((0.0, 0.25, 0.5, 0.9, 0.99, 1.0))


@teal
@given(shares, st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_a_cut_leaves_what_was_asked_for_to_one_activation(share, tokens, neurons, seed):
    sample = drawn(tokens, neurons, seed=seed)
    kept = reaching(activations.even_cuts(sample, share), sample.t())
    assert abs(int(kept.sum()) - (1 - share) * sample.numel()) <= 1
    if share == 0:
        assert kept.all() and (activations.even_cuts(sample, share) == 0).all()


@teal
@pytest.mark.paper("cats")
def test_cuts_hold_on_other_tokens_too():
    for function in (lambda x: x, F.silu):
        cut = activations.even_cuts(function(drawn(400, 300)), 0.5)
        held_out = function(drawn(400, 300, seed=1))
        assert float(reaching(cut, held_out.t()).double().mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.paper("chess")
def test_equal_weights_make_all_cuts_equal():
    sample = drawn(50, 40)
    even = activations.even_cuts(sample, 0.6)
    assert torch.equal(activations.weighed_cuts(sample, torch.full((40,), 2.0), 0.6), even)
    assert not torch.equal(activations.weighed_cuts(sample, drawn(40, seed=1).abs(), 0.6), even)


def errors(w, x, *kept):
    """Of the outputs, for each of several choices: mean squares."""
    return [float((((x * one) @ w.t() - x @ w.t()) ** 2).mean()) for one in kept]


@teal
@pytest.mark.paper("chess")
@pytest.mark.paper("wina")
@pytest.mark.parametrize("seed", range(3))
def test_weighing_errs_less_than_magnitude_and_that_less_than_chance(seed):
    """On other tokens than the cuts are from, at an equal share."""
    scale = torch.linspace(-2, 2, 128).exp()
    w, sample, x = drawn(64, 128, seed=seed) * scale, drawn(256, 128, seed=7), drawn(256, 128, seed=8)
    norms = w.norm(dim=0)
    chance = drawn(256, 128, seed=9).argsort(1) < 64
    even = reaching(activations.even_cuts(sample, 0.5), x.t()).t()
    weighed = reaching(activations.weighed_cuts(sample, norms, 0.5), x.t()).t()
    each = activations.best(x, norms, 64)
    magnitude = activations.best(x, torch.ones(128), 64)
    found = errors(w, x, chance, even, weighed)
    assert found == sorted(found, reverse=True) and found[2] < 0.7 * found[1]
    found = errors(w, x, chance, magnitude, each)
    assert found == sorted(found, reverse=True) and found[2] < 0.7 * found[1]


@teal
def test_higher_cuts_err_more():
    w, x = drawn(64, 128), drawn(256, 128, seed=1)
    kept = [reaching(activations.even_cuts(x, share), x.t()).t() for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    found = errors(w, x, *kept)
    assert found[0] == 0 and all(one < other for one, other in pairwise(found))


@pytest.mark.paper("wina")
@pytest.mark.parametrize("seed", range(20))
def test_with_orthogonal_weights_the_weighed_choice_is_the_best_there_is(seed):
    w = torch.linalg.qr(drawn(8, 8, seed=seed))[0] * drawn(8, seed=seed + 50).exp()
    x = drawn(1, 8, seed=seed + 99)
    sets = torch.combinations(torch.arange(8), 3)
    every = torch.zeros(len(sets), 8).scatter_(1, sets, 1.0)
    left = (((1 - every) * x) @ w.t()).norm(dim=1)
    chosen = activations.best(x, w.norm(dim=0), 3)
    assert int(chosen.sum()) == 3
    assert torch.equal(every[left.argmin()].bool(), chosen[0])
    assert torch.equal(activations.best(x, torch.ones(8), 3)[0], x.abs()[0] >= x.abs()[0].sort().values[-3])


@pytest.mark.paper("scap")
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_mode_is_found_and_moving_to_it_loses_nothing(seed):
    tail = drawn(300, seed=seed).abs() * 5
    sample = torch.cat((drawn(1700, seed=seed + 10) * 0.1 - 0.28, tail))
    assert float(activations.mode(sample)) == pytest.approx(-0.28, abs=0.06)
    w, x = drawn(30, 50), drawn(20, 50, seed=1)
    for centre in (activations.mode(x), drawn(50, seed=2)):
        moved, bias = activations.centred(x, w, centre)
        torch.testing.assert_close(moved @ w.t() + bias, x @ w.t())


@pytest.mark.paper("scap")
@pytest.mark.parametrize("seed", range(3))
def test_centring_errs_less_where_activations_crowd_elsewhere(seed):
    w, x = drawn(64, 128, seed=seed), drawn(512, 128, seed=seed + 1) * 0.1 - 0.28
    x[:, ::8] = drawn(512, 16, seed=seed + 2)
    moved, bias = activations.centred(x, w, activations.mode(x))
    wanted = x @ w.t()

    def error(of, bias):
        kept = counting(activations.even_cuts(of, 0.7), of.t()).t()
        return float((kept @ w.t() + bias - wanted).norm())

    assert error(moved, bias) < 0.7 * error(x, 0.0)


@teal
def test_layers_share_sparsity_out_where_it_costs_least():
    weights, costs = (100, 300, 200), (1.0, 4.0, 2.0)
    errors = [lambda share, cost=cost: cost * share**2 for cost in costs]
    found = activations.shared_out(errors, weights, 0.5)
    assert sum(share * own for share, own in zip(found, weights, strict=True)) == pytest.approx(300)
    even = sum(error(0.5) for error in errors)
    assert sum(error(share) for error, share in zip(errors, found, strict=True)) < even
    assert activations.shared_out(errors, (1, 1, 1), 1.0, steps=60) == pytest.approx([1.0, 1.0, 1.0])
    assert activations.shared_out(errors, weights, 0.0) == [0.0, 0.0, 0.0]


@pytest.mark.paper("lazy-neuron")
@pytest.mark.paper("relu2")
def test_shares_are_counts():
    x = torch.tensor([[1.0, 0.0, -0.0, 2.0], [0.0, 0.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    assert activations.nonzero_share(x).tolist() == [0.5, 0.5, 0.0]
    assert activations.union_share(x != 0) == 0.75
    assert activations.reuse(x != 0) == 0.5
    assert activations.reuse(torch.ones(3, 4, dtype=torch.bool)) == 1.0
    assert activations.best(F.relu(drawn(5, 30)), torch.ones(30), 7).sum(1).tolist() == [7] * 5


@pytest.mark.paper("lazy-neuron")
def test_enough_of_the_best_is_all_of_a_relu_layer():
    w, x = drawn(20, 30), F.relu(drawn(6, 30, seed=1))
    enough = int((x > 0).sum(1).max())
    torch.testing.assert_close((x * activations.best(x, torch.ones(30), enough)) @ w.t(), x @ w.t())


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


@pytest.mark.paper("sparsing-law")
def test_the_sparsity_at_a_price_is_where_quality_has_risen_by_it():
    def perplexity(sparsity):
        return 10 * (1 + sparsity**4)

    found = [activations.affordable(perplexity, rise) for rise in (0.001, 0.01, 0.05, 0.1, 2.0)]
    assert found == sorted(found) and found[-1] == 1.0
    for rise, at in zip((0.001, 0.01, 0.05, 0.1), found, strict=False):
        assert perplexity(at) == pytest.approx(10 * (1 + rise), rel=2e-3)
    zeros = 0.6  # of a ReLU layer, which cost nothing
    assert activations.affordable(lambda share: 10 * (1 + max(0.0, share - zeros)), 0.0) == pytest.approx(
        zeros, abs=2e-3
    )
