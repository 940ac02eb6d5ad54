"""Methods: what their parts promise, on models small enough to reckon by hand."""

from importlib import import_module
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import HIDDEN, INPUTS, OUTPUTS, Small, sparsifier
from torch import nn

from suite.method import KINDS, PARTS, methods, named
from suite.op import discover_parts
from suite.patterns.block import Block
from suite.patterns.fan_in import FanIn
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.registry import Unusable, discover
from suite.studying import quality
from suite.studying.layers import Seen, Work, counting
from suite.studying.masks import best, legal
from suite.studying.sparsifier import Sparsifier, apportioned

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy import curvature  # noqa: E402
from suite.workloads.accuracy.trainers import gradual, regrown, sr_ste  # noqa: E402

sides = st.integers(1, 12)
sparsities = st.sampled_from((0.0, 0.3, 0.5, 0.9, 1.0))
PATTERNS = st.one_of(
    st.builds(Unstructured, sparsities),
    st.builds(FanIn, sparsities),
    st.builds(Block, st.integers(1, 4), st.integers(1, 4), sparsities),
    st.integers(2, 5).flatmap(lambda m: st.builds(NofM, st.integers(1, m - 1), st.just(m))),
)


@settings(max_examples=60, deadline=None)
@given(PATTERNS, sides, sides, st.integers(0, 99))
def test_a_best_mask_is_legal_and_exact(pattern, m, k, seed):
    scores = torch.randn(m, k, generator=torch.Generator().manual_seed(seed))
    mask = best(pattern, scores)
    assert mask.shape == (m, k) and legal(pattern, mask)
    assert int(mask.sum()) == pattern.count(m, k)


@settings(max_examples=60, deadline=None)
@given(PATTERNS, sides, sides, st.integers(0, 99))
def test_what_is_not_of_the_pattern_is_not_legal(pattern, m, k, seed):
    mask = best(pattern, torch.randn(m, k, generator=torch.Generator().manual_seed(seed)))
    mask[seed % m, seed % k] ^= True
    assert not legal(pattern, mask)


@pytest.mark.parametrize("pattern", [Unstructured(0.6), NofM(2, 4), Block(1, 2, 0.5), FanIn(0.5)], ids=str)
def test_a_best_mask_is_the_best_of_all(pattern):
    """Held against every mask of as many nonzeros; blocks and groups bind, so `legal` picks among them."""
    scores = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    flat, count = scores.flatten(), pattern.count(2, 4)
    reached = []
    for places in combinations(range(8), count):
        mask = torch.zeros(8, dtype=torch.bool)
        mask[list(places)] = True
        if legal(pattern, mask.view(2, 4)):
            reached.append(flat[mask].sum().item())
    assert scores[best(pattern, scores)].sum().item() == pytest.approx(max(reached))


@pytest.mark.paper("sr-ste", "pgf-nm")
def test_the_legal_two_of_four_are_six():
    rows = torch.tensor(list(combinations(range(4), 2)))
    masks = torch.zeros(6, 4, dtype=torch.bool).scatter_(1, rows, True)
    assert legal(NofM(2, 4), masks) and len(masks.unique(dim=0)) == 6


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 99))
def test_shares_are_rounded_to_the_whole_exactly(sizes, sparsity, seed):
    named_sizes = {str(at): size for at, size in enumerate(sizes)}
    wanted = {name: (1 - sparsity) * size for name, size in named_sizes.items()}
    kept = apportioned(wanted, named_sizes, sparsity)
    assert sum(kept.values()) == round((1 - sparsity) * sum(sizes))
    assert all(abs(kept[name] - wanted[name]) <= 1 for name in kept)


def test_an_allocator_off_its_share_is_found():
    with pytest.raises(ValueError, match="keeps 90 units where 50"):
        apportioned({"a": 90.0}, {"a": 100}, 0.5)


@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        (one.name, str(pattern))
        for one in methods()
        for pattern in (Unstructured(0.5), NofM(2, 4), Block(4, 4, 0.5))
        if one.prunes and one.fits(pattern)
    ],
)
def test_every_method_keeps_to_its_pattern_and_budget(method, pattern):
    """Legality and zeros are held after every step by the sparsifier itself; here, what it ends with."""
    made = sparsifier(method, pattern)
    if "transform" in made.method.parts:
        torch.manual_seed(0)
        problem = Small()
        made = sparsifier(method, pattern, problem, made.method.parts["transform"](problem, made.pattern))
    trainer = made.method.parts.get("trainer")
    trainer(made) if trainer else made.prune()
    made.verify()
    for name, layer in made.layers.items():
        assert legal(made.patterns[name], made.masks[name])
        assert not layer.weight[~made.masks[name]].any()
    total = sum(made.sizes.values())
    if pattern.startswith("unstructured"):
        asked = sum((1 - made.patterns[name].sparsity) * size for name, size in made.sizes.items())
        assert asked == pytest.approx((1 - made.sparsity) * total, abs=0.5)
    if all(isinstance(one, Unstructured) for one in made.patterns.values()):
        assert sum(made.nonzeros.values()) == round((1 - made.sparsity) * total)


@pytest.mark.parametrize("method", [one.name for one in methods() if one.prunes and one.training == "none"])
def test_training_free_methods_are_reproducible_and_count_no_training(method):
    pattern = next(one for one in (Unstructured(0.7), Block(4, 4, 0.5)) if named(method).fits(one))
    first, second = (sparsifier(method, str(pattern)) for _ in range(2))
    first.prune(), second.prune()
    assert all(torch.equal(first.masks[name], second.masks[name]) for name in first.masks)
    assert first.spent.flops == first.spent.examples == 0


@pytest.mark.parametrize(
    "method",
    [one.name for one in methods() if one.prunes and one.training == "none" and "refiner" not in one.parts],
)
@pytest.mark.paper("essential-sparsity", "random-pruning")
def test_what_a_mask_keeps_is_bit_identical(method):
    made = sparsifier(method, "unstructured@0.5")
    before = {name: layer.weight.clone() for name, layer in made.layers.items()}
    made.prune()
    for name, layer in made.layers.items():
        assert torch.equal(layer.weight, before[name] * made.masks[name])


@pytest.mark.paper("essential-sparsity")
def test_masks_of_one_ranking_are_nested():
    masks = []
    for sparsity in (0.3, 0.6, 0.9):
        made = sparsifier("magnitude-global", f"unstructured@{sparsity}")
        made.prune()
        masks.append(torch.cat([mask.flatten() for mask in made.masks.values()]))
    assert not (masks[1] & ~masks[0]).any() and not (masks[2] & ~masks[1]).any()


@pytest.mark.paper("hidden-structures")
def test_uniform_is_the_same_in_each_layer_and_global_is_not():
    shares = {}
    for allocator in ("uniform", "global", "erk"):
        made = sparsifier(f"magnitude-{allocator}", "unstructured@0.75")
        made.layers["2"].weight.mul_(3)
        made.prune()
        shares[allocator] = [made.nonzeros[name] / size for name, size in made.sizes.items()]
        assert sum(made.nonzeros.values()) == round(0.25 * sum(made.sizes.values()))
    assert shares["uniform"] == [0.25, 0.25]
    assert shares["global"][1] > shares["uniform"][1] > shares["global"][0]
    by_rule = [(INPUTS + HIDDEN) / (INPUTS * HIDDEN), (HIDDEN + OUTPUTS) / (HIDDEN * OUTPUTS)]
    assert shares["erk"][1] / shares["erk"][0] == pytest.approx(by_rule[1] / by_rule[0], rel=0.05)


@pytest.mark.paper("random-pruning")
def test_copied_shares_are_those_of_global_magnitude():
    whole, copied = (sparsifier(one, "unstructured@0.8") for one in ("magnitude-global", "random-copied"))
    whole.prune(), copied.prune()
    assert whole.nonzeros == copied.nonzeros


def test_what_criteria_see_is_right():
    problem = Small()
    torch.manual_seed(0)
    model = problem.model()
    layers = Seen(problem, model, torch.Generator()).layers
    x = problem.x.double()
    assert torch.allclose(layers["0"].moments.double(), x.T @ x / len(x), rtol=1e-5)
    hidden = model[:2](problem.x).detach()
    assert torch.allclose(layers["2"].norms, hidden.square().mean(0).sqrt(), rtol=1e-5)
    losses = [problem.loss(model, batch) for batch in problem.calibration()]
    (sum(losses) / len(losses)).backward()
    assert torch.allclose(layers["2"].gradient, model[2].weight.grad, rtol=1e-5)


def test_a_convolutions_inputs_make_its_outputs():
    torch.manual_seed(0)
    problem, x = Small(), torch.randn(3, 2, 6, 6)
    problem.calibration = lambda: [(x, x)]
    problem.loss = lambda model, batch: model(batch[0]).square().mean()
    conv = nn.Conv2d(2, 5, 3, padding=1, stride=2, bias=False)
    layer = Seen(problem, nn.Sequential(conv), torch.Generator()).layers["0"]
    energy = conv(x).square().sum().item()  # sum over rows of w M wT, times the number of rows
    assert ((layer.weight @ layer.moments) * layer.weight).sum().item() * 3 * 9 == pytest.approx(
        energy, rel=1e-4
    )
    work = Work(problem, nn.Sequential(conv))
    assert work.rows["0"] == 9 and work.total == 2 * 9 * 5 * 18


def test_obs_is_the_exact_cost_of_one_weight():
    """Against least squares with that weight held at zero."""
    made = sparsifier("obs-uniform", "unstructured@0.5")
    layer = made.layers["0"]
    h, w = curvature.damped(layer.moments), layer.weight[0].double()
    scores = PARTS["obs"](layer)[0]
    for out in range(INPUTS):
        rest = [at for at in range(INPUTS) if at != out]
        change = torch.linalg.solve(h[rest][:, rest], h[rest, out] * w[out])
        d = torch.zeros_like(w).index_put((torch.tensor(rest),), change)
        d[out] = -w[out]
        assert (d @ h @ d).item() == pytest.approx(scores[out].item(), rel=1e-4)


def test_wanda_ranks_within_rows():
    made = sparsifier("wanda-uniform", "unstructured@0.5")
    made.prune()
    assert all(set(mask.sum(1).tolist()) == {mask.shape[1] // 2} for mask in made.masks.values())


def error(made, before):
    """Of each row's output on the calibration data, before any change."""
    found = {}
    for name, layer in made.layers.items():
        d = (layer.weight - before[name]).double()
        found[name] = ((d @ made.moments[name].double()) * d).sum(1)
    return found


def refined(method, pattern):
    """A base method's sparsifier and the refined one's, of one model, with what the layers saw before."""
    both = []
    for name in (method.rpartition("-")[0], method):
        made = sparsifier(name, pattern)
        before = {name: layer.weight.clone() for name, layer in made.layers.items()}
        made.moments = {name: layer.moments for name, layer in made.layers.items()}
        made.prune()
        both.append((made, error(made, before), before))
    return both


@pytest.mark.paper("dsnot")
@pytest.mark.parametrize("pattern", ["unstructured@0.6", "2:4", "1:4", "fanin@0.5"])
def test_dsnot_lowers_the_error_and_swaps_only(pattern):
    (base, at_first, before), (made, after, _) = refined("magnitude-uniform-dsnot", pattern)
    for name, layer in made.layers.items():
        assert torch.equal(layer.weight, before[name] * made.masks[name])
        assert torch.equal(made.masks[name].sum(1), base.masks[name].sum(1))
        assert (after[name] <= at_first[name] * (1 + 1e-6)).all()
    assert after["0"].sum() < 0.9 * at_first["0"].sum()


@pytest.mark.paper("dsnot")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dsnot_errs_less_than_as_many_swaps_at_random(seed):
    (base, at_first, before), (made, after, _) = refined("magnitude-uniform-dsnot", "unstructured@0.6")
    drawn = torch.Generator().manual_seed(seed)
    for name, mask in made.masks.items():
        swapped, was = base.masks[name].clone(), base.masks[name]
        for row, moved in enumerate((mask & ~was).sum(1).tolist()):
            for place in (was[row], ~was[row]):
                able = place.nonzero()[:, 0]
                swapped[row, able[torch.randperm(len(able), generator=drawn)[:moved]]] ^= True
        assert torch.equal(swapped.sum(1), was.sum(1))
        gone = before[name].double() * ~swapped
        by_luck = ((gone @ made.moments[name].double()) * gone).sum()
        assert after[name].sum() < by_luck
    assert after["0"].sum() < at_first["0"].sum()


@pytest.mark.paper("dsnot")
def test_a_round_of_dsnot_multiplies_no_matrices(monkeypatch):
    """One product with the moments, however many swaps follow: a round is linear in the weights."""
    module = import_module("suite.workloads.accuracy.refiners.dsnot")
    layer = sparsifier("magnitude-uniform", "unstructured@0.6").layers["0"]
    layer.moments  # noqa: B018  counted apart
    mask = best(Unstructured(0.6), layer.weight.abs())
    found = []
    for rounds in (1, 50):
        monkeypatch.setattr(module, "ROUNDS", rounds)
        with counting() as counter:
            refined_mask, _ = PARTS["dsnot"](layer, mask, Unstructured(0.6))
        found.append((counter.get_total_flops(), refined_mask))
    (once, first), (often, last) = found
    assert once == often == 2 * INPUTS * INPUTS * HIDDEN and not torch.equal(first, last)


@pytest.mark.parametrize("pattern", ["unstructured@0.6", "2:4"])
def test_compensation_is_least_squares_over_the_weights_that_stay(pattern):
    (base, at_first, before), (made, after, _) = refined("magnitude-uniform-compensate", pattern)
    assert all(torch.equal(base.masks[name], made.masks[name]) for name in base.masks)
    for name, layer in made.layers.items():
        assert (after[name] <= at_first[name] * (1 + 1e-6)).all()
        h = curvature.damped(made.moments[name])
        for row, dense, mask in zip(layer.weight, before[name].double(), made.masks[name], strict=True):
            best = torch.linalg.solve(h[mask][:, mask], h[mask] @ dense)
            assert torch.allclose(row[mask].double(), best, rtol=1e-3, atol=1e-4)


@pytest.mark.paper("sr-ste")
def test_without_its_pull_sr_ste_is_ste_bit_for_bit(monkeypatch):
    monkeypatch.setattr(sr_ste, "PULL", 0.0)
    one, other = (sparsifier(f"magnitude-uniform-{name}", "2:4") for name in ("ste", "sr_ste"))
    for each in (one, other):
        each.method.parts["trainer"](each)
    assert all(torch.equal(one.layers[name].weight, other.layers[name].weight) for name in one.layers)


@pytest.mark.paper("sr-ste")
def test_sr_ste_decays_what_is_masked_alone():
    """One step of plain gradient descent, reckoned by hand."""
    made = sparsifier("magnitude-uniform-sr_ste", "2:4")
    before = {name: layer.weight.clone() for name, layer in made.layers.items()}
    for _ in made.schedule(1 / 40):
        made._optimizer = torch.optim.SGD(made.model.parameters(), 0.1)
        made.step_through(decay=0.5)
    plain = sparsifier("magnitude-uniform-ste", "2:4")
    for _ in plain.schedule(1 / 40):
        plain._optimizer = torch.optim.SGD(plain.model.parameters(), 0.1)
        plain.step_through()
    for name, mask in made.masks.items():
        pulled = plain.layers[name].weight - 0.1 * 0.5 * before[name] * ~mask
        assert torch.allclose(made.layers[name].weight, pulled, atol=1e-7)


@pytest.mark.paper("gmp-iso-memory")
def test_gradual_pruning_follows_its_cubic_and_is_nested():
    made, seen = sparsifier("magnitude-global-gradual", "unstructured@0.9"), []
    prune = made.prune

    def watched(sparsity=None):
        prune(sparsity)
        seen.append((sparsity, sum(made.nonzeros.values()), dict(made.masks)))

    made.prune = watched
    made.method.parts["trainer"](made)
    total = sum(made.sizes.values())
    for sparsity, nonzeros, _ in seen:
        assert nonzeros == round((1 - sparsity) * total)
    for (_, _, earlier), (_, _, later) in pairwise(seen):
        assert not any((later[name] & ~earlier[name]).any() for name in later)
    assert seen[-1][0] == pytest.approx(0.9) and seen[0][0] < 0.2
    assert gradual.sparsity_at(0.8, gradual.ROUNDS / 2) == pytest.approx(0.8 * 0.875)


@pytest.mark.paper("random-pruning")
def test_a_static_mask_never_moves():
    made = sparsifier("random-erk-static", "unstructured@0.8")
    made.prune()
    before = dict(made.masks)
    for _ in made.schedule():
        made.step()
    assert all(made.masks[name] is before[name] for name in before)


@given(st.floats(0, 1), st.sampled_from((0.0, 0.1, 0.5, 1.0)), st.integers(0, 99))
def test_regrowth_drops_the_smallest_and_grows_the_best(share, density, seed):
    drawn = torch.Generator().manual_seed(seed)
    weight, scores = torch.randn(4, 5, generator=drawn), torch.rand(4, 5, generator=drawn)
    mask = best(Unstructured(1 - density), scores.flip(0))
    after = regrown.moved(weight * mask, mask, share, scores)
    assert after.sum() == mask.sum()
    dropped, stayed, grown = mask & ~after, mask & after, after & ~mask
    assert int(grown.sum()) == min(round(share * int(mask.sum())), 20 - int(mask.sum()))
    if dropped.any() and stayed.any():
        assert weight[dropped].abs().max() <= weight[stayed].abs().min()
    if grown.any() and (~mask & ~after).any():
        assert scores[grown].min() >= scores[~mask & ~after].max()


def test_grown_weights_begin_at_zero_and_so_does_what_the_optimiser_knows():
    made = sparsifier("random-erk-set", "unstructured@0.5")
    made.prune()
    for step, _ in enumerate(made.schedule()):
        made.step()
        if step == 10:
            old = made.masks["0"]
            made.use(
                made.masks | {"0": regrown.moved(made.layers["0"].weight, old, 0.5, torch.rand(old.shape))}
            )
            new = made.masks["0"] & ~old
            state = made._optimizer.state[made.layers["0"].parameter]
            assert new.any() and not made.layers["0"].weight[new].any() and not state["exp_avg"][new].any()


@pytest.mark.paper("sparse-ift", "gmp-iso-memory")
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.6])
def test_wide_and_narrow_models_cost_what_they_say(sparsity):
    problem = Small()
    flops = 2 * (INPUTS * HIDDEN + HIDDEN * OUTPUTS)
    torch.manual_seed(0)
    wide = PARTS["wide"](problem, Unstructured(sparsity))
    sizes = [layer.weight.numel() for layer in problem.layers(wide).values()]
    assert 2 * (1 - sparsity) * sum(sizes) == pytest.approx(flops, rel=0.02)
    if not sparsity:
        assert wide[0].out_features == HIDDEN
    narrow = PARTS["narrow"](problem, Unstructured(0.5))
    assert sum(layer.weight.numel() for layer in problem.layers(narrow).values()) == flops / 2 / 2


def test_the_ledger_counts_what_training_costs():
    made = sparsifier("random-uniform-static", "unstructured@0.75")
    made.method.parts["trainer"](made)
    dense = 2 * (INPUTS * HIDDEN + HIDDEN * OUTPUTS)
    assert made.forward_flops == dense / 4
    assert made.spent.examples == 40 * 16
    assert made.spent.flops == 3 * made.spent.examples * dense / 4
    through = sparsifier("magnitude-uniform-ste", "2:4")
    through.method.parts["trainer"](through)
    assert through.spent.flops == through.spent.examples * (2 * dense / 2 + dense)


def test_a_trainer_that_breaks_the_zeros_is_found():
    made = sparsifier("random-uniform-static", "unstructured@0.5")
    made.prune()
    made.layers["0"].weight.add_(1.0)
    with pytest.raises(ValueError, match="0 has weights outside its mask"):
        made.verify()
    with pytest.raises(ValueError, match="is not unstructured"):
        made.use({name: torch.ones_like(mask) for name, mask in made.masks.items()})
    with pytest.raises(RuntimeError, match="outside a course"):
        sparsifier("random-uniform-static", "unstructured@0.5").step()


@pytest.mark.parametrize("says", ["nan", "shape"])
def test_scores_that_are_none_are_found(says):
    def wrong(layer):
        return layer.weight / 0 * 0 if says == "nan" else layer.weight[:1]

    made = sparsifier("magnitude-uniform", "unstructured@0.5")
    parts = dict(made.method.parts) | {"criterion": wrong}
    made = Sparsifier(made.problem, made.model, type(made.method)("wrong", parts), made.pattern, made._seen)
    with pytest.raises(ValueError, match="the scores of 0 are not a number for each weight"):
        made.prune()


def test_names_are_put_together_of_parts():
    found = named("wanda-erk-dsnot-finetune")
    assert [found.parts[kind].name for kind in KINDS if kind in found.parts] == found.name.split("-")
    assert (found.start, found.training, found.control) == ("dense", "weights", False)
    assert named("random-erk-static").control and named("random-erk-static").start == "fresh"
    assert len({one.name for one in methods()}) == len(list(methods())) >= 30
    for wrong, says in (
        ("magnitude", "a criterion together with an allocator"),
        ("erk-magnitude", "in the order"),
        ("magnitude-erk-erk", "at most once"),
        ("magnitud-erk", "Did you mean 'magnitude'"),
    ):
        with pytest.raises(Unusable, match=says):
            named(wrong)


def test_quality_is_exact_on_what_can_be_reckoned():
    labels = torch.tensor([0, 0, 1, 1])
    certain = torch.tensor([[50.0, 0], [50, 0], [50, 0], [0, 50]])
    assert quality.accuracy(certain, labels) == 0.75
    assert quality.of_classes(certain, labels).tolist() == [1, 0.5]
    assert quality.calibration(certain, labels) == pytest.approx(0.25)
    assert quality.calibration(torch.zeros(4, 2), labels) == pytest.approx(0)  # half sure, half right
    assert quality.divergence(certain, certain) == 0 and quality.agreement(certain, certain) == 1
    even, skewed = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    expected = 0.5 * torch.tensor([0.5 / 0.75, 0.5 / 0.25]).log().sum().item()
    assert quality.divergence(skewed, even) == pytest.approx(expected)
    better = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert quality.classified(certain, better, labels)["worst class drop"] == 0.5


@pytest.mark.paper("pq-index")
def test_the_pq_index_knows_equal_from_unequal():
    drawn = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert quality.pq_index(torch.tensor([2.0, -2.0, 2.0])) == pytest.approx(0)
    one_hot = torch.zeros(8).index_fill(0, torch.tensor([3]), 5.0)
    assert quality.pq_index(one_hot, 0.5, 2.0) == pytest.approx(1 - 8 ** (1 / 2 - 1 / 0.5))
    assert quality.pq_index(7 * drawn) == pytest.approx(quality.pq_index(drawn))
    assert quality.pq_index(drawn.repeat(3)) == pytest.approx(quality.pq_index(drawn))
    assert 0 < quality.pq_index(drawn) < 1


@pytest.mark.paper("plant-n-seek")
def test_recovery_of_the_oracle_the_unpruned_and_the_empty():
    planted = {"a": torch.tensor([[True, False, False, False]])}
    assert quality.recovery({"a": planted["a"].float()}, planted)["f1"] == 1
    whole = quality.recovery({"a": torch.ones(1, 4)}, planted)
    assert (whole["recall"], whole["precision"]) == (1, 0.25)
    assert quality.recovery({"a": torch.zeros(1, 4)}, planted)["f1"] == 0
