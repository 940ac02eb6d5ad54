"""Training: a truly sparse network goes the way of the masked dense one, in memory by its nonzeros."""

import pytest
import torch

from suite import held as memory
from suite import native
from suite.case import case
from suite.check import Wrong, check, question
from suite.kernel import KERNELS
from suite.op import OPS, discover_parts, make_operands
from suite.ops import mlp_epoch
from suite.ops.mlp_epoch import MOMENTUM, RATE, masked_dense
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable, discover
from suite.sparse import from_positions, with_values
from suite.workload import WORKLOADS

pytestmark = pytest.mark.paper("nerva")

discover_parts()
discover(folders=("kernels", "workloads"))

MADE = [one for one in KERNELS.values() if one.op == "mlp_epoch" and one.on == "cpu"]
FULL = Unstructured(0.0)
SIZES = {"m": 192, "k": 64, "n": 32, "steps": 40}


def network(sparsity=0.8, **sizes):
    return case("mlp_epoch", Unstructured(sparsity), **(SIZES | sizes))


@pytest.fixture(scope="module")
def asked():
    one = network()
    return question(one, make_operands(one))


def by_autograd(pattern, values, x):
    """The epoch as a program would have it, weights times masks, with torch's own gradients and optimiser."""
    k = pattern.shape[1]
    weights = torch.nn.Parameter(with_values(pattern, values).dense.clone())
    mask = pattern.dense.to(values.dtype)
    optimiser = torch.optim.SGD([weights], lr=RATE, momentum=MOMENTUM)
    losses = []
    for batch in x:
        h = batch
        layers = (weights * mask).split(k)
        for layer in layers[:-1]:
            h = torch.nn.functional.softsign(layer @ h)
        loss = ((layers[-1] @ h - batch) ** 2).sum() / (2 * batch.shape[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    assert not weights.detach()[mask == 0].any()
    return torch.stack(losses), weights.detach()[mask != 0]


@pytest.mark.parametrize("sparsity", [0.0, 0.8, 0.99])
@pytest.mark.parametrize("layers", [2, 3, 5])
def test_the_reference_is_what_autograd_and_its_optimiser_do(sparsity, layers):
    pattern, values, x = make_operands(network(sparsity, m=64 * layers))
    values, x = values.double(), x.double()
    for mine, right in zip(
        OPS["mlp_epoch"].reference(pattern, values, x), by_autograd(pattern, values, x), strict=True
    ):
        torch.testing.assert_close(mine, right)


def test_a_network_learns(asked):
    losses, values = asked.expected
    assert losses[-5:].mean() < 0.95 * losses[:5].mean()
    assert (values - asked.operands[1]).abs().mean() > 0.01


@pytest.mark.parametrize("one", MADE, ids=str)
def test_every_kernel_goes_the_way_of_the_masked_dense_network(one, asked):
    if native.missing() and one.refuse:
        pytest.skip("; ".join(native.missing()))
    operands = one.arrange(asked.operands, OPS["mlp_epoch"].live)
    starts, columns = operands[0].starts.clone(), operands[0].columns.clone()
    answer = one.prepare(*operands).run(*operands[1:])
    assert check(answer, asked) < 1
    assert torch.equal(operands[0].starts, starts) and torch.equal(operands[0].columns, columns)
    assert answer[1].shape == operands[1].shape


def unmasked(pattern, values, x):
    """One whose zeros learn too; what is at the stored positions in the end."""
    m, k = pattern.shape
    every = from_positions(*FULL.positions(m, k, 0), torch.ones(m * k), (m, k), FULL)
    losses, learnt = masked_dense(every, with_values(pattern, values).dense.flatten(), x)
    return losses, learnt[pattern.dense.flatten() != 0]


def forgetful(pattern, values, x):
    """One that leaves out a nonzero of middling size."""
    values = values.clone()
    values[values.abs().argsort()[len(values) // 2]] = 0
    return masked_dense(pattern, values, x)


@pytest.mark.parametrize("spoilt", [{"RATE": RATE * 1.01}, {"MOMENTUM": 0.0}, {"MOMENTUM": 0.89}], ids=str)
def test_another_rate_or_momentum_is_another_trajectory(spoilt, asked, monkeypatch):
    for name, value in spoilt.items():
        monkeypatch.setattr(mlp_epoch, name, value)
    with pytest.raises(Wrong):
        check(masked_dense(*asked.operands), asked)


@pytest.mark.parametrize("wrong", [unmasked, forgetful])
def test_a_network_of_other_weights_is_found_out(wrong, asked):
    with pytest.raises(Wrong):
        check(wrong(*asked.operands), asked)


def test_half_as_many_bits_are_too_few(asked):
    pattern, *live = asked.operands
    losses, values = masked_dense(pattern, *(one.bfloat16() for one in live))
    with pytest.raises(Wrong):
        check((losses.float(), values.float()), asked)


def test_the_twin_is_another_question_with_its_own_answer(asked):
    again = OPS["mlp_epoch"].reference(*asked.twin.operands)
    for mine, right in zip(again, asked.twin.expected, strict=True):
        torch.testing.assert_close(mine, right)
    with pytest.raises(Wrong):
        check(tuple(one.float() for one in asked.expected), asked.twin)


def test_token_major_batches_are_each_in_one_piece(asked):
    _, values, x = KERNELS["mlp_epoch_dense_mm"].arrange(asked.operands, OPS["mlp_epoch"].live)
    assert torch.equal(x, asked.operands[2]) and x.mT.is_contiguous()
    assert values is asked.operands[1]


@pytest.mark.parametrize("sizes", [{"m": 100}, {"m": 64}, {"m": 32}])
def test_a_network_has_two_whole_layers_at_least(sizes):
    with pytest.raises(Unusable, match="give it two whole layers of k units or more"):
        make_operands(network(**sizes))


@pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
def test_parameters_and_optimiser_take_memory_by_nonzeros():
    stored, held = {}, {}
    for sparsity in (0.5, 0.9, 0.99):
        pattern, *live = make_operands(network(sparsity, m=512, k=256, n=16, steps=1))
        made = KERNELS["mlp_epoch_tiled"].prepare(pattern, *live)
        assert made.values == 2 * 4 * pattern.nonzeros
        stored[sparsity] = made.values + made.metadata
        held[sparsity] = memory.size(made.holds)
        assert stored[sparsity] < 32 * pattern.nonzeros
    assert held[0.9] - held[0.99] < 0.25 * (held[0.5] - held[0.99])
    dense = KERNELS["mlp_epoch_dense_mm"].prepare(pattern, *live)
    assert dense.values == 2 * 4 * 512 * 256 > 10 * stored[0.99]


@pytest.mark.parametrize("extent", ["smoke", "default", "full"])
def test_the_workload_asks_what_kernels_can_answer(extent):
    cases = list(WORKLOADS["train"].cases(extent))
    assert len(cases) == len(set(cases)) <= {"smoke": 2, "default": 5}.get(extent, 10**3)
    for one in cases:
        assert any(each.fits(one) and each.dense for each in KERNELS.values())
        assert any(each.fits(one) and not each.dense for each in KERNELS.values())
