"""Adapters and rounded groups: what is laid beside, on top of or in place of a pruned layer's weights."""

import pytest
import torch
from problems import EXAMPLES, HIDDEN, INPUTS, OUTPUTS, Small, sparsifier
from torch import nn

from suite.method import PARTS, named
from suite.op import discover_parts
from suite.patterns.block import Block
from suite.registry import discover
from suite.studying.experiment import Experiment, stored
from suite.studying.masks import best, legal
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy import curvature  # noqa: E402
from suite.workloads.accuracy.refiners import gqsa  # noqa: E402
from suite.workloads.accuracy.trainers import eora, lora, s2ft, sparselora  # noqa: E402

TUNED = ["lora", "sparselora", "lora_at_random", "s2ft", "s2ft_at_random"]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(method, pattern):
    made = sparsifier(method, pattern)
    made.method.parts["trainer"](made)
    made.settle()
    return made


def moments(k, seed=1):
    """Second moments of inputs that differ in size and move together."""
    x = drawn(200, k, seed=seed) @ drawn(k, k, seed=seed + 1)
    return curvature.damped(x.mT @ x / 200)


def error(change, h):
    return ((change.double() @ h) * change.double()).sum().item()


@pytest.fixture(scope="module")
def experiment():
    """A trained language model."""
    made = Experiment(TASKS["byte_lm"], 0, "made-up")
    assert made.train_dense().outcome == "ok"
    return made


@pytest.fixture(scope="module")
def layers(experiment):
    return [experiment.seen.layers[f"blocks.{at}.{name}"] for at, name in ((0, "q"), (1, "down"), (2, "up"))]


@pytest.mark.paper("gqsa")
@pytest.mark.parametrize(("rows", "columns", "k"), [(1, 4, 12), (1, 8, 12), (2, 4, 14)])
def test_groups_are_kept_or_dropped_whole_and_are_of_sixteen_values(rows, columns, k):
    """Widths that leave a ragged last group among them."""
    made = sparsifier("magnitude-uniform-gqsa", f"block{rows}x{columns}@0.5")
    layer, pattern = made.layers["0"], Block(rows, columns, 0.5)
    layer.module.weight = nn.Parameter(drawn(HIDDEN, k))
    layer.seen.moments = {"0": moments(k).float()}
    mask = best(pattern, layer.weight.abs())
    mask, weight = PARTS["gqsa"](layer, mask, pattern)
    assert legal(pattern, mask) and not weight[~mask].any()
    for row in weight:
        for group in row.split(columns):
            codes = group / group.abs().max() if group.any() else group
            assert len(codes.unique()) <= 16
            sizes = (group[group != 0].abs().sort().values).double()
            if len(sizes):
                scales = sizes[0] / torch.arange(1, 9)
                assert any(((sizes / one) - (sizes / one).round()).abs().max() < 1e-2 for one in scales)


@pytest.mark.paper("gqsa")
def test_half_of_all_groups_at_four_bits_are_two_bits_a_weight_and_what_describes_them():
    pattern = Block(1, 16, 0.5)
    mask = best(pattern, drawn(32, 64).abs())
    payload, scales, places = 32 * 64 * 2, 2 * (32 * 64 // 32), 32 * 64 // 16
    assert gqsa.packed(pattern, mask) == payload // 8 + scales + places // 8
    made = sparsifier("magnitude-uniform-gqsa", "block1x4@0.5")
    made.prune()
    assert stored(made, made.method) == sum(
        gqsa.packed(made.patterns[name], mask) for name, mask in made.masks.items()
    )
    plain = sparsifier("magnitude-uniform", "block1x4@0.5")
    plain.prune()
    assert stored(plain, plain.method) == 4 * sum(plain.nonzeros.values()) + sum(plain.sizes.values()) // 8


@pytest.mark.paper("gqsa")
@pytest.mark.parametrize("at", range(3))
def test_each_stage_lowers_the_error_of_a_trained_layer(layers, at):
    layer, pattern = layers[at], Block(1, 16, 0.5)
    h, weight = curvature.damped(layer.moments), layer.weight
    mask = best(pattern, PARTS["obs"](layer))
    _, adjusted = PARTS["compensate"](layer, mask, pattern)
    codes, scales = gqsa.coded(adjusted, layer.moments.diagonal(), 16, 4)
    first = (codes * scales.repeat_interleave(16, 1)).float()
    _, second = PARTS["gqsa"](layer, mask, pattern)
    assert error(second - weight, h) < error(first - weight, h)
    assert error(second - weight, h) < 0.7 * error(weight * mask - weight, h)
    codes, scales = gqsa.coded(weight, layer.moments.diagonal(), 16, 4)
    dense = (codes * scales.repeat_interleave(16, 1)).float()
    assert error(dense - weight, h) < 0.05 * error(weight, h)  # 4 bits alone, nothing dropped


@pytest.mark.paper("gqsa")
@pytest.mark.parametrize(("name", "bits"), [("w2", 2), ("w4", 4)])
def test_a_rival_of_few_bits_keeps_all_weights_and_is_stored_in_them(experiment, name, bits):
    made = experiment.sparsified(named(name), Block(1, 16, 0.5))
    weights = sum(made.sizes.values())
    assert stored(made, made.method) == weights * bits // 8 + 2 * weights // 16
    assert not made.masks and made.nonzeros == made.sizes and made.spent.flops == 0 < made.search_flops
    groups = made.layers["blocks.0.q"].weight.unflatten(1, (-1, 16)).flatten(0, 1)
    assert all(len(group.unique()) <= 2**bits for group in groups[:64])


@pytest.mark.paper("eora")
@pytest.mark.parametrize("rank", [0, 1, 3, 8])
def test_a_path_errs_by_what_it_discards_and_no_more_than_a_plain_one(rank):
    lost, h = drawn(8, 12, seed=5), moments(12)
    down, up = eora.path(lost, h, rank)
    sizes, turn = torch.linalg.eigh(h)
    values = torch.linalg.svdvals(lost.double() @ turn * sizes.sqrt())
    left = error(lost - up @ down, h)
    assert left == pytest.approx(values[rank:].square().sum().item(), rel=1e-6, abs=1e-6)
    plain_down, plain_up = eora.path(lost, torch.eye(12, dtype=torch.double), rank)
    assert left <= error(lost - plain_up @ plain_down, h) + 1e-6
    u, s, v = torch.linalg.svd(lost.double(), full_matrices=False)
    assert torch.allclose(plain_up @ plain_down, u[:, :rank] * s[:rank] @ v[:rank], atol=1e-6)
    if rank == 8:
        assert left < 1e-8 * error(lost, h)
    for seed in range(3):
        other = drawn(8, rank, seed=seed) @ drawn(rank, 12, seed=seed + 9)
        assert left <= error(lost - other, h) + 1e-6


@pytest.mark.paper("eora")
@pytest.mark.parametrize("method", ["magnitude-uniform-eora", "magnitude-uniform-plain_svd"])
def test_paths_stand_beside_the_mask_and_are_counted(method):
    made, base = sparsifier(method, "2:4"), sparsifier("magnitude-uniform", "2:4")
    made.method.parts["trainer"](made)
    base.prune()
    x, weights = made.problem.x, 0
    for name, layer in made.layers.items():
        assert legal(made.pattern, made.masks[name])
        assert torch.equal(layer.weight, base.layers[name].weight)
        weights += layer.module.down.numel() + layer.module.up.numel()
    first = made.model[0]
    whole = first.weight + first.up @ first.down
    assert torch.allclose(first(x), x @ whole.mT + first.bias, atol=1e-4)
    assert made.forward_flops == base.forward_flops + 2 * weights
    assert made.spent.examples == 0 and made.method.training == "none"
    with torch.no_grad():
        dense = sparsifier("magnitude-uniform", "2:4").model[0](x)
        assert (first(x) - dense).square().mean() < (base.model[0](x) - dense).square().mean()


def test_another_model_has_no_paths_of_the_one_before():
    made = sparsifier("magnitude-uniform-eora", "2:4")
    made.method.parts["trainer"](made)
    made.become(Small().model())
    assert made.forward_flops == sparsifier("magnitude-uniform", "2:4").forward_flops


@pytest.mark.paper("sparselora", "s2ft", "sr-ste")
@pytest.mark.parametrize("pattern", ["unstructured@0.5", "2:4", "block2x2@0.5"])
@pytest.mark.parametrize("name", TUNED)
def test_what_is_tuned_and_merged_keeps_its_zeros_and_its_pattern(name, pattern):
    made, seen = sparsifier(f"magnitude-uniform-{name}", pattern), []
    verify = made.verify
    made.verify = lambda: (seen.append(1), verify())
    made.method.parts["trainer"](made)
    made.settle()
    assert len(seen) >= 20  # at every step
    base = sparsifier("magnitude-uniform", pattern)
    base.prune()
    changed = 0
    for at, layer in made.layers.items():
        assert legal(made.patterns[at], made.masks[at]) and torch.equal(made.masks[at], base.masks[at])
        assert not layer.weight[~made.masks[at]].any()
        changed += int((layer.weight != base.layers[at].weight).sum())
        assert torch.equal(layer.module.bias, base.layers[at].module.bias)
    assert changed


@pytest.mark.paper("sparselora")
def test_a_merge_without_the_mask_is_found(monkeypatch):
    monkeypatch.setattr(lora.Adapter, "product", lambda self: self.up @ self.down)
    with pytest.raises(ValueError, match="has weights outside its mask"):
        trained("magnitude-uniform-lora", "2:4")


@pytest.mark.paper("sparselora")
def test_an_adapters_gradients_are_those_of_what_it_is_made_of():
    made = sparsifier("magnitude-uniform-lora", "2:4")
    made.prune()
    adapter = lora.Adapter(made, "0")
    adapter.up = drawn(*adapter.up.shape).requires_grad_()
    adapter.down.requires_grad_()
    x = made.problem.x
    loss = (x @ (adapter.base + adapter.product()).mT).square().mean()
    up, down = torch.autograd.grad(loss, (adapter.up, adapter.down))
    weight = (adapter.base + adapter.product()).detach().requires_grad_()
    (found,) = torch.autograd.grad((x @ weight.mT).square().mean(), weight)
    with torch.no_grad():
        adapter.learn(found)
    assert torch.allclose(adapter.up.grad, up, atol=1e-5) and torch.allclose(
        adapter.down.grad, down, atol=1e-5
    )


@pytest.mark.paper("sparselora")
@pytest.mark.parametrize("name", ["sparselora", "lora_at_random"])
def test_with_all_channels_it_is_the_whole_step(name, monkeypatch):
    monkeypatch.setattr(sparselora, "KEEP", 1.0)
    whole = trained("magnitude-uniform-lora", "unstructured@0.5")
    if name == "lora_at_random":  # its channels are drawn from other numbers than the batches
        monkeypatch.setattr(torch, "rand", lambda *size, generator=None: torch.ones(*size))
    made = trained(f"magnitude-uniform-{name}", "unstructured@0.5")
    for at, layer in made.layers.items():
        assert torch.allclose(layer.weight, whole.layers[at].weight, atol=1e-6)


@pytest.mark.paper("sparselora")
def test_channels_that_are_left_out_are_those_of_a_masked_product(monkeypatch):
    """Outputs, and the gradients of inputs, of a model, half of its channels their adapter alone."""
    monkeypatch.setattr(sparselora, "RANK", 99)  # all ranks: the oracle
    made = sparsifier("magnitude-uniform-sparselora", "unstructured@0.5")
    made.prune()
    adapters = {name: lora.Adapter(made, name) for name in made.layers}
    for name, one in adapters.items():
        one.up = drawn(*one.up.shape)
        made.layers[name].weight.copy_(one.base + one.product())
    x = made.problem.x.clone().requires_grad_()
    step = sparselora.Sparse(lambda group, x: group.estimate(x))
    (group,) = sparselora.groups(made, adapters)
    gone = {name: torch.zeros_like(mask) for name, mask in made.masks.items()}
    hook = step.hook(made, adapters, group, gone)
    out = made.model(x)
    (found,) = torch.autograd.grad(out.square().sum(), x)
    hook.remove()
    first, second = (made.layers[name].module for name in adapters)
    spoken = torch.relu(x.detach() @ adapters["0"].base.mT + first.bias.detach())
    strengths = torch.linalg.vector_norm(spoken, dim=0)
    torch.testing.assert_close(group.estimate(x.detach()), strengths)
    kept = torch.zeros(HIDDEN)
    kept[strengths.topk(HIDDEN // 2).indices] = 1
    weights = [adapters["0"].base * kept[:, None], adapters["2"].base * kept]
    weights = [one + adapters[name].product() for one, name in zip(weights, "02", strict=True)]
    expected = torch.relu(x @ weights[0].mT + first.bias) @ weights[1].mT + second.bias
    assert torch.allclose(out, expected, atol=1e-4)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.paper("sparselora")
def test_a_layer_that_reads_one_group_and_writes_another_loses_each_weight_once():
    model = nn.Sequential(*[part for _ in range(3) for part in (nn.Linear(12, 12), nn.ReLU())][:-1])
    problem = Small()
    problem.y = torch.zeros(len(problem.x), 12)
    made = sparsifier("magnitude-uniform-sparselora", "unstructured@0.0", problem, model)
    made.prune()
    adapters = {name: lora.Adapter(made, name) for name in made.layers}
    step = sparselora.Sparse(lambda group, _: -torch.arange(12.0))
    gone = {name: torch.zeros_like(mask) for name, mask in made.masks.items()}
    for group in sparselora.groups(made, adapters):
        step.hook(made, adapters, group, gone)
    model(problem.x)
    base, left = adapters["2"].base, made.layers["2"].weight
    assert torch.equal(left[:6, :6], base[:6, :6]) and int(left.count_nonzero()) == 36


@pytest.mark.paper("sparselora")
def test_a_neuron_far_below_zero_is_not_chosen_however_large_it_is():
    model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS))
    with torch.no_grad():
        model[0].bias[: HIDDEN // 2] = -1000.0
    made = sparsifier("magnitude-uniform-sparselora", "unstructured@0.0", model=model)
    made.prune()
    (group,) = sparselora.groups(made, {name: lora.Adapter(made, name) for name in made.layers})
    worth = group.estimate(made.problem.x)
    assert int(worth[: HIDDEN // 2].count_nonzero()) == 0 and bool((worth[HIDDEN // 2 :] > 0).all())


@pytest.mark.paper("sparselora")
def test_a_step_costs_the_channels_it_multiplies_and_its_estimate():
    made, whole = (
        trained(f"magnitude-uniform-{name}", "unstructured@0.5") for name in ("sparselora", "lora")
    )
    halved = 2 * sum(made.nonzeros.values())
    ranks = min(sparselora.RANK, INPUTS)
    estimate = 2 * ranks * (INPUTS + HIDDEN)
    sparse = made.spent.examples - 2 * 16  # the first two of twenty steps are whole
    assert whole.spent.flops == 3 * whole.spent.examples * whole.forward_flops
    assert made.spent.flops == whole.spent.flops + sparse * (estimate - 3 * halved / 2)
    assert made.spent.examples == 20 * 16 < 20 * EXAMPLES


@pytest.mark.paper("s2ft")
def test_only_the_chosen_columns_are_trained_and_by_the_whole_gradient(monkeypatch):
    made = sparsifier("magnitude-uniform-s2ft", "unstructured@0.3")
    made.method.parts["trainer"](made)
    base = sparsifier("magnitude-uniform", "unstructured@0.3")
    base.prune()
    assert torch.equal(made.layers["0"].weight, base.layers["0"].weight)
    moved = (made.layers["2"].weight != base.layers["2"].weight).any(0)
    count = round(s2ft.TRAINED * HIDDEN)
    assert int(moved.sum()) == count
    states = made._optimizer.state.values()
    assert sum(one["exp_avg"].numel() for one in states) == count * OUTPUTS
    found = base.gradients()
    problem = Small()
    x, y = next(iter(problem.batches(torch.Generator().manual_seed(1))))
    loss = problem.loss(base.model, (x, y))
    (whole,) = torch.autograd.grad(loss, base.model[2].weight)
    assert torch.allclose(found["2"], whole, atol=1e-6)
    trained_weights = int(made.masks["2"][:, moved].sum())
    each = 2 * made.forward_flops + 2 * trained_weights
    assert made.spent.flops == made.spent.examples * each


@pytest.mark.paper("eora", "sparselora")
@pytest.mark.parametrize("name", ["eora", "lora", "sparselora"])
def test_convolutions_have_paths_and_adapters_too(name):
    """Of a model of two, so small that it is trained here."""
    task = TASKS["digits_cnn"]
    torch.manual_seed(0)
    problem = task.problem(0)
    problem.steps = 8
    model = problem.model()
    made = sparsifier(f"magnitude-uniform-{name}", "unstructured@0.5", problem, model)
    conv, x = model[1], drawn(3, 1, 8, 8)
    with torch.no_grad():
        dense = conv(x)
    made.method.parts["trainer"](made)
    made.settle()
    if name == "eora":
        with torch.no_grad():
            whole = (conv.weight.flatten(1) + conv.up @ conv.down).view_as(conv.weight)
            expected = nn.functional.conv2d(x, whole, conv.bias, padding=1)
            assert torch.allclose(conv(x), expected, atol=1e-5) and not torch.allclose(dense, expected)
    else:
        assert made.spent.steps == 4
