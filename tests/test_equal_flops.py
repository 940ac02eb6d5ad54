"""Larger and sparse in the dense model's FLOPs: what the families promise, by their ledgers and by hand."""

import math
import re

import pytest
import torch
from lines import header, write
from torch import nn

from suite import report
from suite.kernel import Refused
from suite.method import PARTS
from suite.op import discover_parts
from suite.patterns.unstructured import Unstructured
from suite.reading.iso import penalties
from suite.reading.orderings import claimed
from suite.reading.scores import studies
from suite.record import read
from suite.registry import discover
from suite.studying.experiment import Experiment
from suite.studying.layers import Work
from suite.task import TASKS

discover_parts()
discover()

from suite.workloads.accuracy.feed import Feed  # noqa: E402
from suite.workloads.accuracy.transforms import layerwise  # noqa: E402
from suite.workloads.accuracy.transforms.widths import flops_of  # noqa: E402

pytestmark = [pytest.mark.paper("sparse-ift"), pytest.mark.usefixtures("one_thread")]
FAMILIES = ("wide", "parallel", "factorised", "doped")
MASKS = ("static", "set", "rigl")
STEPS = 30  # so that masks move once


@pytest.fixture(scope="module")
def experiments():
    """Of each task, trained for so short a time that only the books are of interest."""
    with pytest.MonkeyPatch.context() as patch:
        made = {}
        for task in ("digits_mlp", "digits_cnn", "digits_vit"):
            patch.setattr(TASKS[task].problem, "steps", STEPS)
            made[task] = Experiment(TASKS[task], 0, "made-up")
            made[task].scored = made[task].train_dense()
        yield made


def fresh(problem, family, sparsity):
    torch.manual_seed(0)
    return PARTS[family](problem, Unstructured(sparsity))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.75, 0.8])
@pytest.mark.parametrize("task", ["digits_mlp", "digits_cnn", "digits_vit"])
def test_it_takes_the_dense_models_flops(task, family, sparsity):
    problem = TASKS[task].problem(0)
    made = fresh(problem, family, sparsity)
    whole = Work(problem, problem.model())
    assert flops_of(problem, made, 1 - sparsity) == pytest.approx(whole.total, rel=0.02)
    if task == "digits_vit":
        assert whole.total > sum(whole.layers.values()), "attention's products are counted"


def test_attention_grows_with_the_width_and_the_layers_pay_for_it():
    problem = TASKS["digits_vit"].problem(0)
    parts = {}
    for name, model in (("dense", problem.model()), ("wide", fresh(problem, "wide", 0.8))):
        work = Work(problem, model)
        parts[name] = sum(work.layers.values()), work.total - sum(work.layers.values())
    assert parts["wide"][1] > 1.8 * parts["dense"][1]
    assert 0.2 * parts["wide"][0] < 0.95 * parts["dense"][0]
    assert 0.2 * parts["wide"][0] + parts["wide"][1] == pytest.approx(sum(parts["dense"]), rel=0.01)


@pytest.mark.parametrize("task", ["digits_mlp", "digits_cnn", "digits_vit"])
@pytest.mark.parametrize("family", ["wide", "parallel", "doped"])
def test_without_zeros_it_is_the_dense_model(task, family):
    problem = TASKS[task].problem(0)
    torch.manual_seed(0)
    dense = problem.model()
    made = fresh(problem, family, 0.0)
    assert made.state_dict().keys() == dense.state_dict().keys()
    assert all(torch.equal(made.state_dict()[name], of) for name, of in dense.state_dict().items())


@pytest.mark.parametrize("task", ["digits_mlp", "digits_cnn", "digits_vit"])
@pytest.mark.parametrize("family", FAMILIES)
def test_lines_hold_it_for_masks_of_every_kind(experiments, task, family):
    experiment = experiments[task]
    for mask in MASKS:
        line = experiment.line(f"random-uniform-{mask}-{family}", "unstructured@0.75")
        assert line.outcome == "ok", line.note
        assert line.iso == "infer_flops" and line.execution == "simulated"
        assert line.infer_flops == pytest.approx(experiment.scored.infer_flops, rel=0.02)
        assert line.train_tokens == experiment.scored.train_tokens
        within = 0.25 if mask == "rigl" else 0.02  # each change of RigL's costs a dense gradient
        assert line.train_flops == pytest.approx(experiment.scored.train_flops, rel=within)
        assert ("mask changes" in line.quality) == (mask != "static")
        sparse = [one["sparsity"] for one in line.layers if one["pattern"] != "dense"]
        assert sparse == pytest.approx([0.75] * len(sparse), abs=0.06)


@pytest.mark.parametrize(
    ("family", "sparsity", "says"),
    [
        ("parallel", 0.7, "3.33 branches of 30% make a layer: no whole number"),
        ("parallel", 0.9, "a layer of 10% in the dense FLOPs has over 9 times the weights"),
        ("factorised", 0.95, "a layer of 5% in the dense FLOPs has over 9 times the weights"),
        ("wide", 0.95, "no width up to 3 times is within 2%"),
    ],
)
def test_what_cannot_be_had_is_refused(experiments, family, sparsity, says):
    line = experiments["digits_mlp"].line(f"random-uniform-static-{family}", f"unstructured@{sparsity}")
    assert line.outcome == "refused" and says in line.note


def test_ranks_too_coarse_for_the_flops_are_refused():
    class Tiny(type(TASKS["digits_mlp"].problem(0))):
        def model(self, width=1.0):
            return nn.Sequential(nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 10))

    with pytest.raises(Refused, match="in whole neurons the nearest model is off by"):
        fresh(Tiny(0), "doped", 0.5)


# Parallel.


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(2, 4, 3, padding=1)])
def test_branches_sum_to_the_answer(make, relu):
    torch.manual_seed(0)
    layer = make()
    made = layerwise.Branches(layer, 3, relu)
    x = torch.randn(5, 6) if isinstance(layer, nn.Linear) else torch.randn(5, 2, 8, 8)
    parts = [branch(x) for branch in made.branches]
    assert len(parts) == 3 and parts[0].equal(layer(x)) and not parts[1].equal(parts[2])
    torch.testing.assert_close(made(x), sum(torch.relu(one) if relu else one for one in parts))
    if relu:
        assert torch.relu(made(x)).equal(made(x)), "the one that follows changes nothing"


def test_branches_behind_a_relu_are_more_than_one_matrix():
    """Those of a layer without one are not: their weights add up to one."""
    problem = TASKS["digits_mlp"].problem(0)
    made = fresh(problem, "parallel", 0.5)
    assert [one.relu for one in made if isinstance(one, layerwise.Branches)] == [True, True, False]
    last, x = made[-1], torch.randn(7, 100)
    whole = sum(one.weight for one in last.branches), sum(one.bias for one in last.branches)
    torch.testing.assert_close(last(x), nn.functional.linear(x, *whole))


def test_branches_of_a_feed_forward_layer_are_one_of_as_many_times_the_neurons():
    problem = TASKS["digits_vit"].problem(0)
    made = fresh(problem, "parallel", 0.75)
    feed, x = made.blocks[0].feed, torch.randn(3, 8, 32)
    assert isinstance(feed, Feed) and feed.down.in_features == 4 * 64
    said = feed.down.bias.expand(3, 8, 32)
    for part in range(4):
        rows = slice(64 * part, 64 * part + 64)
        hidden = nn.functional.gelu(nn.functional.linear(x, feed.up.weight[rows], feed.up.bias[rows]))
        said = said + hidden @ feed.down.weight[:, rows].mT
    torch.testing.assert_close(feed(x), said)


# Factorised and doped.


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_ranks_are_the_papers_to_one(sparsity):
    """Of 3 x 3 convolutions: 9 f_in f_out over (9 f_in + f_out), times 1 / (1 - s), or s beside the layer."""
    problem = TASKS["digits_cnn"].problem(0)
    factors, doped = (fresh(problem, family, sparsity) for family in ("factorised", "doped"))
    for at, (inputs, outputs) in ((1, (1, 8)), (4, (8, 16))):
        rank = 9 * inputs * outputs / (9 * inputs + outputs)
        assert abs(factors[at][0].out_channels - math.ceil(rank / (1 - sparsity))) <= 1
        assert abs(doped[at].down.shape[0] - math.floor(sparsity * rank)) <= 1


@pytest.mark.parametrize("make", [lambda: nn.Linear(96, 64), lambda: nn.Conv2d(12, 64, 3, padding=1)])
def test_sparse_factors_begin_with_a_dense_layers_variance(make):
    torch.manual_seed(0)
    layer, density = make(), 0.25
    made = layerwise.factors(layer, 200, density)
    x = torch.randn(500, 96) if isinstance(layer, nn.Linear) else torch.randn(50, 12, 6, 6)
    with torch.no_grad():
        for one in (made[0], made[2]):
            one.weight.mul_(torch.rand_like(one.weight) < density)
            one.bias.zero_()
        said = made(x)
        assert said.shape == layer(x).shape
        assert (said - said.mean((0,), keepdim=True)).std().item() == pytest.approx(
            layer(x).std().item(), rel=0.35
        )


def test_a_doped_layer_is_the_sparse_one_and_a_dense_product_beside_it(experiments):
    experiment = experiments["digits_mlp"]
    problem = experiment.problem
    made = fresh(problem, "doped", 0.8)
    layer, x = made[0], torch.randn(5, 64)
    alone = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), alone + x @ (layer.up @ layer.down).mT)
    assert {layer.up.requires_grad, layer.down.requires_grad} == {True}
    line = experiment.line("random-uniform-set-doped", "unstructured@0.8")
    thin = [one for one in line.layers if one["name"].endswith((".down", ".up"))]
    assert len(thin) == 6 and {one["pattern"] for one in thin} == {"dense"}
    sparse = [one for one in line.layers if one not in thin]
    flops = sum(2 * one["m"] * one["k"] * (1 - one["sparsity"]) for one in line.layers)
    assert flops == pytest.approx(line.infer_flops, rel=1e-3)
    numbers = sum(one["m"] * one["k"] for one in thin)
    kept = sum(one["m"] * one["k"] for one in sparse) * 0.2
    assert line.nonzeros == pytest.approx(kept + numbers, abs=1) and line.sparsity == pytest.approx(0.8)
    assert line.bytes == pytest.approx(4 * (kept + numbers + 410) + 50200 / 8, rel=1e-3)


# On the page.


def test_all_families_are_on_the_page_with_what_equal_flops_cost(experiments, tmp_path):
    experiment, lines = experiments["digits_mlp"], []
    for family in FAMILIES:
        lines.append(experiment.line(f"random-uniform-rigl-{family}", "unstructured@0.5"))
    lines.append(experiment.line("plain-narrow", "unstructured@0.5"))
    file = write(tmp_path / "study.jsonl", header(options={"study": []}), experiment.scored, *lines)
    (study,) = studies([read(file)])
    made = penalties(study, None)
    assert [one.method for one in made] == [f"random-uniform-rigl-{family}" for family in FAMILIES]
    assert all(one.flops == pytest.approx(1, abs=0.02) and one.bytes > 1 for one in made)
    report.write([file], tmp_path / "site")
    page = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "isoflop.html").read_text())
    for family in FAMILIES:
        assert re.search(rf"random-uniform-rigl-{family}\s+50 %", page)


def test_every_family_is_claimed_against_dense():
    rivals = {row["better"] for row in claimed() if row["id"] == "sparse-ift" and row["worse"] == "dense"}
    assert {f"random-uniform-rigl-{family}" for family in FAMILIES} <= rivals
