"""Parts: what single papers' allocators, refiners and trainers promise, on models reckoned by hand."""

import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from problems import Small, sparsifier
from torch import nn

from suite.method import PARTS, methods, named
from suite.op import discover_parts
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.study import StudyOptions, plan
from suite.studying.experiment import Experiment
from suite.studying.layers import Seen
from suite.studying.masks import legal
from suite.studying.quality import gini, pq_index
from suite.studying.sparsifier import Sparsifier
from suite.studying.updates import updates
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy.allocators import evopress  # noqa: E402
from suite.workloads.accuracy.classifier import Classifier  # noqa: E402
from suite.workloads.accuracy.tasks import digits_features  # noqa: E402
from suite.workloads.accuracy.trainers import maskllm, pgf_nm, sap, searched, squarehead  # noqa: E402


def weights(made):
    return {name: layer.weight.clone() for name, layer in made.layers.items()}


def trained(method, pattern, **more):
    """The sparsifier of a method with a trainer, over."""
    made = sparsifier(method, pattern, **more)
    made.method.parts["trainer"](made)
    made.settle()
    return made


def search(sparsity=0.6, problem=None, model=None):
    made = sparsifier("magnitude-evopress", f"unstructured@{sparsity}", problem, model)
    scores = {name: PARTS["magnitude"](layer) for name, layer in made.layers.items()}
    return made, evopress.Search(made.layers, scores, sparsity)


@pytest.mark.paper("evopress")
def test_every_generation_keeps_the_budget_and_uniform_is_the_first():
    made, found = search()
    before = weights(made)
    total = round(0.4 * sum(found.sizes.values()))
    one = found.uniform
    for name, size in found.sizes.items():
        assert abs(one[name] - 0.4 * size) <= 1
    for _ in range(200):
        one = found.moved(one)
        assert sum(one.values()) == total
        assert all(0 <= one[name] <= size for name, size in found.sizes.items())
    found.distance(one)
    assert all(torch.equal(layer.weight, before[name]) for name, layer in made.layers.items())


@pytest.mark.paper("evopress")
@pytest.mark.parametrize("seed", range(3))
def test_what_evolution_finds_is_never_worse_than_uniform_where_it_looks(seed):
    made = sparsifier("magnitude-evopress", "unstructured@0.6", seed=seed)
    scores = {name: PARTS["magnitude"](layer) for name, layer in made.layers.items()}
    found = evopress.Search(made.layers, scores, 0.6)
    shares = PARTS["evopress"](made.layers, scores, 0.6)
    kept = {name: round((1 - share) * found.sizes[name]) for name, share in shares.items()}
    assert found.distance(kept) <= found.distance(found.uniform)
    assert found.distance(found.sizes) == pytest.approx(0, abs=1e-9)


@pytest.mark.paper("evopress")
def test_every_model_that_evolution_asks_is_paid_for():
    """Of two batches the first stages see the first one; all candidates keep as many weights."""
    made = sparsifier("magnitude-evopress", "unstructured@0.5")
    made.prune()
    first, both = 40, 64
    stages = (evopress.OFFSPRING + evopress.STAGES[0][0]) * first + evopress.STAGES[1][0] * both
    kept = sum(made.nonzeros.values())
    assert made.search_flops == both * made.work.total + (both + evopress.GENERATIONS * stages) * 2 * kept
    assert made.spent.flops == made.spent.examples == 0


@pytest.mark.parametrize(("criterion", "passes"), [("magnitude", 0), ("wanda", 1), ("gradient", 3)])
def test_calibration_is_paid_for_by_whom_it_tells_something(criterion, passes):
    """Once, however many layers ask; and again by the next method, though what it asks is known by then."""
    problem = Small()
    for _ in range(2):
        made = sparsifier(f"{criterion}-uniform", "unstructured@0.5", problem)
        made.prune()
        assert made.search_flops == passes * 64 * made.work.total
    copied = Seen(problem, made.model, made.generator, copied=made._seen)
    again = Sparsifier(problem, made.model, made.method, made.pattern, copied)
    again.prune()
    assert again.search_flops == passes * 64 * again.work.total


@pytest.mark.paper("evopress")
def test_the_sum_of_layers_errors_misleads_where_the_whole_model_does_not():
    """Half of the first layer is large, and the second does not look at it."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    problem = Small()
    problem.x, problem.y = torch.eye(2).repeat(32, 1), torch.zeros(64, 1)
    problem.apart = lambda answers, dense: (answers - dense).square().mean()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[9.0, 8.0], [7.0, 6.0]]))
        model[1].weight.copy_(torch.tensor([[1.0, 0.0]]))
    _, found = search(0.5, problem, model)
    right, wrong = {"0": 2, "1": 1}, {"0": 3, "1": 0}

    def errors(kept):
        left_out = (found.weights[name] * (found.places[name] >= kept[name]) for name in kept)
        return sum(one.square().sum().item() for one in left_out)

    assert errors(wrong) < errors(right)
    assert found.distance(right) == 0 < found.distance(wrong)


@pytest.mark.paper("maskllm", "pgf-nm")
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "1:8", "2:5"])
def test_a_learned_mask_is_legal_and_leaves_the_weights_as_they_were(pattern):
    """2:5 and 1:8 leave a ragged last group in layers of 12 and 16 inputs."""
    made = sparsifier("magnitude-uniform-maskllm", pattern)
    before = weights(made)
    made.method.parts["trainer"](made)
    made.settle()
    for name, layer in made.layers.items():
        assert legal(made.pattern, made.masks[name])
        assert torch.equal(layer.weight, before[name] * made.masks[name])
    assert made.spent.flops == 3 * made.work.total * made.spent.examples


@pytest.mark.paper("maskllm")
def test_the_ways_are_all_there_are_and_certain_logits_are_drawn_as_they_are():
    ways = maskllm.ways(NofM(2, 4))
    assert len(ways) == math.comb(4, 2) and len(ways.unique(dim=0)) == 6 and (ways.sum(1) == 2).all()
    choice = maskllm.Choice(NofM(2, 4), torch.tensor([[True, True, False, False, True, False, False, True]]))
    assert torch.equal(choice.likeliest(), torch.tensor([[1, 1, 0, 0, 1, 0, 0, 1]]).bool())
    choice.logits = torch.tensor([[[0.0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]]) * 1e4
    soft = choice.drawn(1.0, torch.Generator().manual_seed(0))
    assert torch.equal(soft > 0.5, choice.likeliest()) and soft.max() == 1
    with pytest.raises(maskllm.Refused, match="12870 ways"):
        maskllm.ways(NofM(8, 16))


@pytest.mark.paper("maskllm")
def test_a_learned_mask_loses_less_than_the_one_it_began_from():
    problem = Small()
    losses = {}
    for name in ("magnitude-uniform", "magnitude-uniform-maskllm"):
        made = sparsifier(name, "2:4", problem)
        trainer = made.method.parts.get("trainer")
        trainer(made) if trainer else made.prune()
        before = sparsifier(name, "2:4", problem).model
        losses[name] = problem.loss(made.model, (problem.x, problem.y)).item()
        assert before is not made.model
    assert losses["magnitude-uniform-maskllm"] < losses["magnitude-uniform"]


@pytest.mark.paper("pgf-nm")
@pytest.mark.parametrize(("share", "same"), [(0.0, "magnitude-uniform-ste"), (1.0, "plain")])
def test_at_its_ends_fading_is_the_straight_through_estimator_and_dense_training(share, same, monkeypatch):
    monkeypatch.setattr(pgf_nm, "left", lambda done: share)
    made, other = trained("magnitude-uniform-pgf_nm", "2:4"), sparsifier(same, "2:4")
    other.method.parts["trainer"](other)
    for name, layer in made.layers.items():
        assert torch.equal(layer.weight, other.layers[name].weight * made.masks[name])
        assert legal(NofM(2, 4), made.masks[name])


@pytest.mark.paper("pgf-nm")
def test_what_is_masked_fades_in_a_straight_line_to_nothing(monkeypatch):
    assert [pgf_nm.left(at) for at in (0, pgf_nm.BEGIN, pgf_nm.END, 1)] == [1, 1, 0, 0]
    assert pgf_nm.left((pgf_nm.BEGIN + pgf_nm.END) / 2) == pytest.approx(0.5)
    made, seen = sparsifier("magnitude-uniform-pgf_nm", "1:4"), []
    step = made.step_through
    made.step_through = lambda left: (seen.append(left), step(left=left))
    made.method.parts["trainer"](made)
    assert seen == [pgf_nm.left(step / 40) for step in range(40)] and seen[-1] == 0


@pytest.mark.paper("sr-ste")
def test_changes_of_masks_are_counted_and_a_pull_on_what_is_masked_makes_them_fewer():
    moved = {}
    for name in ("ste", "sr_ste"):
        made, masks = sparsifier(f"magnitude-uniform-{name}", "1:4"), []
        step = made.step_through
        made.step_through = lambda step=step, made=made, masks=masks, **more: (
            step(**more),
            masks.append(dict(made.masks)),
        )
        made.method.parts["trainer"](made)
        masks.append(made.masks)
        moved[name] = made.spent.moved
        assert moved[name] == sum(
            before[at].ne(after[at]).sum().item() for before, after in pairwise(masks) for at in before
        )
    assert 0 < moved["sr_ste"] <= moved["ste"]


@pytest.mark.paper("squarehead")
def test_a_model_is_not_apart_from_itself_and_no_layer_counts_for_its_size():
    problem = Small()
    torch.manual_seed(0)
    teacher, batch = problem.model(), (problem.x, problem.y)
    assert squarehead.distance(problem, copy.deepcopy(teacher), teacher, batch).item() == 0
    silent = copy.deepcopy(teacher)
    for one in silent.parameters():
        nn.init.zeros_(one)
    alone = squarehead.distance(problem, silent, teacher, batch, layers=False)
    assert squarehead.distance(problem, silent, teacher, batch).item() == pytest.approx(alone.item() + 1)


@pytest.mark.paper("squarehead")
def test_the_teacher_is_paid_for_and_is_not_trained():
    made, plain = (
        trained(f"magnitude-global-{name}", "unstructured@0.5") for name in ("squarehead", "finetune")
    )
    assert made.spent.examples == plain.spent.examples
    assert made.spent.flops == plain.spent.flops + made.spent.examples * made.work.total


@pytest.mark.paper("random-search")
def test_a_search_among_one_is_the_random_control(monkeypatch):
    monkeypatch.setattr(searched, "DRAWS", 1)
    one, other = (trained(f"random-uniform-{name}", "unstructured@0.7") for name in ("searched", "static"))
    assert all(torch.equal(one.layers[name].weight, other.layers[name].weight) for name in one.layers)


@pytest.mark.paper("random-search")
def test_every_candidate_has_its_sparsity_and_is_paid_for():
    made, seen = sparsifier("random-uniform-searched", "unstructured@0.75"), []
    use = made.use
    made.use = lambda masks: (seen.append(masks), use(masks))
    made.method.parts["trainer"](made)
    assert len(seen) == searched.DRAWS + 1 and any(seen[-1] is one for one in seen[:-1])
    for masks in seen:
        assert sum(int(one.sum()) for one in masks.values()) == sum(made.sizes.values()) // 4
    assert made.search_flops == searched.DRAWS * len(made.problem.x) * made.forward_flops
    assert made.spent.flops == 3 * made.spent.examples * made.forward_flops


@pytest.mark.paper("pq-index")
def test_sap_prunes_as_far_as_the_index_says_and_no_further_than_asked():
    drawn = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    index = pq_index(drawn)
    assert sap.ratio(index) == pytest.approx(1 - (1 - index))  # of p 1/2, q 1 and no slack it is the index
    assert sap.ratio(0.0) == 0 and sap.ratio(1 - 1e-9) == sap.BETA
    made, seen = sparsifier("magnitude-global-sap", "unstructured@0.9"), []
    prune = made.prune
    made.prune = lambda sparsity: (seen.append(sparsity), prune(sparsity))
    made.method.parts["trainer"](made)
    made.settle()
    assert seen == sorted(seen) and len(seen) == sap.ROUNDS and seen[-1] == pytest.approx(0.9)
    for before, after in zip([0.0, *seen[:-2]], seen[:-1], strict=True):
        assert (1 - after) / (1 - before) >= 1 - sap.BETA - 1e-9


def test_methods_of_long_studies_are_in_those_alone_unless_named():
    def planned(extent, *globs):
        lots = plan(StudyOptions(tasks=("digits_mlp",), extent=extent, methods=globs, seeds=1))
        return {trial.method for trial in lots[0].trials}

    assert "magnitude-uniform-maskllm" in planned("full") - planned("default")
    assert "magnitude-evopress" in planned("default") - planned("smoke")
    assert planned("default", "*-maskllm") == {"magnitude-uniform-maskllm"}
    assert not named("magnitude-uniform-maskllm").belongs("default")
    assert all(one.belongs("full") for one in methods())


@pytest.fixture(scope="module")
def planted():
    """Features of which every third says something of others; an autoencoder that cannot hold them all."""

    class Planted(digits_features.digits_features.problem):
        steps, rate = 300, 1e-2

        def __init__(self, seed):
            drawn = torch.Generator().manual_seed(seed)
            shared = torch.randn(600, 4, generator=drawn)
            x = 0.5 * torch.randn(600, 48, generator=drawn)
            x[:, ::3] = 0.5 * shared @ torch.randn(4, 16, generator=drawn) / 2
            y = (shared[:, 0] > 0).long() + 2 * (shared[:, 1] > 0).long()
            Classifier.__init__(self, "planted", (x[:400], y[:400]), (x[400:], y[400:]), seed)

        def model(self, width=0.04):
            return super().model(width)

    task = replace(TASKS["digits_features"], name="planted_features", problem=Planted)
    experiment = Experiment(task, 0, "made-up")
    assert experiment.train_dense().outcome == "ok"
    return experiment


@pytest.mark.paper("quickselection")
def test_features_that_say_something_of_others_rank_above_noise(planted):
    made = planted.sparsified(named("random-erk-set"), Unstructured(0.8))
    found = digits_features.strongest(made.model)
    assert len(found) == 16 and not (found[:8] % 3).any() and (found % 3 == 0).sum() >= 10
    measured = planted.problem.measure(made.model, planted.dense)
    assert measured["accuracy"] > measured["by any"] and measured["shared with dense"] <= 1
    assert planted.problem.measure(planted.dense, planted.dense)["shared with dense"] == 1


@pytest.mark.paper("quickselection", "random-pruning")
def test_weights_move_and_none_is_lost(planted):
    made = planted.sparsified(named("random-erk-set"), Unstructured(0.8))
    fixed = planted.sparsified(named("random-erk-static"), Unstructured(0.8))
    for name, mask in made.masks.items():
        assert mask.sum() == fixed.masks[name].sum() and not torch.equal(mask, fixed.masks[name])


@pytest.mark.paper("high-sparsity-llama")
def test_a_second_order_mask_stays_through_the_training_after_it():
    base, made = (
        sparsifier(f"obs-uniform-compensate{more}", "unstructured@0.7") for more in ("", "-finetune")
    )
    base.prune()
    made.method.parts["trainer"](made)
    made.settle()
    assert all(torch.equal(made.masks[name], mask) for name, mask in base.masks.items())
    assert made.spent.examples == 20 * 16
    assert made.spent.flops == 3 * made.spent.examples * made.forward_flops
    loss = {
        one: made.problem.loss(one.model, (made.problem.x, made.problem.y)).item() for one in (base, made)
    }
    assert loss[made] < loss[base]


@pytest.mark.paper("s2ft")
def test_what_tuning_changed_is_counted():
    """A planted change of two columns, and of one direction: what is masked counts for nothing."""
    before, mask = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), torch.ones(6, 8).bool()
    mask[:, 7] = False
    columns = before.clone()
    columns[:, :2] += torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    columns[:, 7] = 0
    assert updates([(before, columns, mask)]) == {"update sparsity": 5 / 7, "update rank": 2 / 6}
    direction = before + torch.outer(torch.arange(1, 7), torch.arange(1, 9))
    every = torch.ones_like(mask)
    assert updates([(before, direction, every)]) == {"update sparsity": 0, "update rank": 1 / 6}
    assert updates([(before, before, every)]) == {"update sparsity": 1, "update rank": 0}
    assert updates([]) == {}


def test_ginis_index_knows_equal_from_unequal():
    assert gini(torch.tensor([2.0, -2.0, 2.0])) == pytest.approx(0)
    assert gini(torch.eye(8)[0]) == pytest.approx(1 - 1 / 8)
    drawn = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert gini(7 * drawn) == pytest.approx(gini(drawn)) == pytest.approx(gini(drawn.repeat(3)))
    pairs = (drawn.abs()[:, None] - drawn.abs()).abs().double().mean()
    assert gini(drawn) == pytest.approx((pairs / drawn.abs().double().mean() / 2).item())


@pytest.mark.paper("s2ft", "sparselora")
def test_a_tuned_models_score_says_what_was_changed():
    experiment = Experiment(TASKS["linear_recovery"], 0, "made-up")
    experiment.train_dense()
    tuned = experiment.line("magnitude-uniform-finetune", "unstructured@0.5").quality
    assert 0 <= tuned["update sparsity"] < 1 and 0 < tuned["update rank"] <= 1 and 0 < tuned["gini"] < 1
    assert "update rank" not in experiment.line("magnitude-uniform", "unstructured@0.5").quality
