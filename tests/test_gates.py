"""Gates of experts other than the highest logits, the search that swaps experts behind them, and loads."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import header, write
from msgspec import structs

from suite import report
from suite.formats import routing
from suite.kernel import Refused
from suite.method import PARTS, named
from suite.op import discover_parts
from suite.patterns.chosen import Chosen
from suite.registry import discover
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy import feed, gates  # noqa: E402
from suite.workloads.accuracy.trainers import balanced, swapped  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, EXPERTS, EACH, STEPS = 6, 8, 5, 20
ASKED = pytest.mark.parametrize("asked", [1, 2, 4])


def tokens(seed=0, windows=5):
    return torch.randn(windows, 8, DIM, generator=torch.Generator().manual_seed(seed))


def made(kind, asked=2, seed=0):
    """A gate of each kind, of random weights."""
    torch.manual_seed(seed)
    return {
        "highest": lambda: feed.Experts(DIM, EXPERTS, asked, routing.dense),
        "prototypes": lambda: feed.Experts(DIM, EXPERTS, asked, routing.prototypes, asked),
        "trees": lambda: gates.Trees(DIM, EXPERTS, asked, STEPS),
        "codes": lambda: gates.Codes(DIM, EXPERTS, asked, STEPS),
        "hashed": lambda: gates.Hashed(EXPERTS, asked),
    }[kind]()


KINDS = ("highest", "prototypes", "trees", "codes", "hashed")
SOFT = pytest.mark.parametrize("kind", ["trees", "codes"])


def layer_of(rule):
    torch.manual_seed(1)
    return feed.Feed(DIM, EXPERTS * EACH, rule=rule)


# Gates.


@pytest.mark.paper("comet")
@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 4))
def test_a_smooth_step_is_between_its_ends_and_even_about_its_middle(t, width):
    t = torch.tensor([t, -t, t + 0.01], dtype=torch.float64)
    here, there, later = gates.smooth_step(t, width).tolist()
    assert 0 <= here <= later <= 1 and here + there == pytest.approx(1)
    assert (here in (0, 1)) == (abs(float(t[0])) >= width / 2)
    assert gates.smooth_step(t, 0).tolist() == (t > 0).double().tolist()


@pytest.mark.paper("comet")
def test_leaves_are_reached_by_the_products_along_their_ways():
    right = torch.rand(3, EXPERTS - 1, generator=torch.Generator().manual_seed(0))
    reached = gates.leaves(right)
    for leaf, (first, second, third) in enumerate(itertools.product((0, 1), repeat=3)):
        way = ((0, first), (1 + first, second), (3 + 2 * first + second, third))
        by_hand = math.prod(right[:, node] if turn else 1 - right[:, node] for node, turn in way)
        torch.testing.assert_close(reached[:, leaf], by_hand)
    torch.testing.assert_close(reached.sum(1), torch.ones(3))


@pytest.mark.paper("comet")
@SOFT
@ASKED
def test_at_most_so_many_gates_are_open_at_the_end_and_they_sum_to_one(kind, asked):
    rule, x = made(kind, asked), tokens()
    soft = rule.train().gated(x)
    torch.testing.assert_close(soft.sum(-1), torch.ones(x.shape[:-1]))
    assert float((soft > 0).double().mean()) > 1.5 * asked / EXPERTS, "more experts learn than are asked"
    hard = rule.eval().gated(x)
    torch.testing.assert_close(hard.sum(-1), torch.ones(x.shape[:-1]))
    count = (hard > 0).sum(-1)
    assert count.min() >= 1 and count.max() == asked and hard.min() == 0


@pytest.mark.paper("comet")
@SOFT
def test_a_soft_gate_hardens_as_it_learns_and_only_then(kind):
    rule, x = made(kind).train(), tokens()
    widths = []
    for _ in range(STEPS + 3):
        widths.append(rule.width)
        rule.gated(x)
        with torch.no_grad():
            rule.gated(x)  # a search asks, and nothing is learnt
    assert widths[0] == gates.WIDE and widths[STEPS:] == pytest.approx([gates.NARROW] * 3)
    assert all(one > other for one, other in itertools.pairwise(widths[: STEPS + 1]))
    assert float((rule.gated(x) > 0).double().mean()) < 0.7
    assert rule.eval().width == 0 and rule.shares() == (0.25, 0.25)
    assert rule.train().shares() == (1.0, 1.0)


@pytest.mark.paper("comet")
@SOFT
@ASKED
def test_a_soft_gate_has_the_gradients_of_its_answers(kind, asked):
    rule = made(kind, asked).double().train()
    x = tokens(windows=1).double().requires_grad_()
    far = rule.router(x).detach().abs() - gates.WIDE / 2  # a kink of the second derivative, no more
    assert far.abs().min() > 1e-5

    def gated(x):
        rule.done = 0
        return rule.gated(x)

    assert torch.autograd.gradcheck(gated, (x,))
    rule.gated(x)[..., 0].sum().backward()
    assert rule.router.weight.grad.abs().sum() > 0, "even where one expert is asked"


@pytest.mark.paper("comet")
def test_a_code_is_a_tree_whose_levels_share_a_decision():
    rule = made("codes")
    bits = torch.tensor([[1.0, 0.0, 1.0]])
    assert gates.leaves(rule.nodes(bits)).argmax(-1).item() == 0b101


@pytest.mark.paper("comet")
def test_a_hash_goes_by_places_alone():
    rule, x = made("hashed"), tokens()
    going = rule.gated(x)
    assert torch.equal(going, rule.gated(-x)) and torch.equal(going[0], going[1])
    assert ((going > 0).sum(-1) == 2).all() and not list(rule.parameters())


# Places of experts.


@pytest.mark.paper("comet")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_experts_and_gates_permuted_together_say_the_same(kind):
    layer, x = layer_of(made(kind)).eval(), tokens()
    before = layer(x)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 4, 5])
    other = copy.deepcopy(layer)
    other.rule.order.copy_(layer.rule.order[order])
    assert not torch.allclose(other(x), before)
    other.up.weight.copy_(layer.up.weight.unflatten(0, (EXPERTS, -1))[order].flatten(0, 1))
    other.up.bias.copy_(layer.up.bias.unflatten(0, (EXPERTS, -1))[order].flatten())
    other.down.weight.copy_(layer.down.weight.unflatten(1, (EXPERTS, -1))[:, order].flatten(1))
    torch.testing.assert_close(other(x), before)
    assert torch.equal(other.rule.loads, layer.rule.loads[order])


@pytest.mark.paper("comet")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_move_that_is_kept_never_raises_the_loss_of_the_search(kind):
    layers = [layer_of(made(kind, seed=seed)).eval() for seed in range(2)]
    x, y = tokens(), tokens(1)

    def loss():
        return float(sum((layer(x) - y).square().mean() for layer in layers))

    torch.manual_seed(0)
    rules = [one.rule for one in layers]
    found = swapped.searched(rules, loss, moves=20)
    assert len(found) > 2 and all(one > other for one, other in itertools.pairwise(found))
    assert loss() == found[-1], "what was not kept was taken back"
    assert all(one.order.sort().values.tolist() == list(range(EXPERTS)) for one in rules)


# In a study.


@pytest.fixture(scope="module")
def mixture():
    """An experiment whose trainings are over soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TASKS["planted_mixture"].problem, "steps", STEPS)
        experiment = Experiment(TASKS["planted_mixture"], 0, "cpu")
        experiment.train_dense()
        yield experiment


@pytest.mark.paper("comet")
@pytest.mark.parametrize("transform", ["experts", "trees", "dselect", "hashed_experts"])
def test_a_search_pays_for_what_it_asks_and_trains_as_long(mixture, transform):
    alone, found, blind = (
        mixture.sparsified(named(f"{one}-{transform}"), Chosen(0.75))
        for one in ("plain", "swapped", "swapped_at_random")
    )
    assert alone.spent.flops == found.spent.flops == blind.spent.flops
    searches = math.ceil(swapped.UNTIL * STEPS / swapped.EVERY)
    asked = searches * (1 + swapped.MOVES)
    flops = found.work.at(found.spent.passes[0].kept, found.sizes)
    assert found.search_flops == pytest.approx(asked * 64 * flops) and len(found.spent.passes) == asked
    assert alone.search_flops == blind.search_flops == 0
    orders = [one.model.feed.rule.order.tolist() for one in (alone, found, blind)]
    assert orders[0] == list(range(8)) != orders[2] and sorted(orders[1]) == orders[0]
    soft = transform in ("trees", "dselect")
    assert (alone.spent.flops > 2 * mixture.work.total * 3 * alone.spent.examples) == soft, (
        "all experts learn, and are paid for"
    )
    assert alone.nonzeros["feed.up"] == alone.sizes["feed.up"] / 4


def test_without_experts_there_is_nothing_to_swap(mixture):
    with pytest.raises(Refused, match="no experts whose places"):
        mixture.sparsified(named("swapped"), Chosen(0.75))


# Loads.


@pytest.mark.paper("m6-t")
@pytest.mark.parametrize("kind", ["highest", "prototypes"])
@ASKED
def test_with_no_room_but_for_even_loads_what_comes_last_is_dropped(kind, asked):
    layer, x = layer_of(made(kind, asked)), tokens(windows=12)
    n, whole = 96, layer(x)
    going = layer.rule.gated(x).flatten(0, 1)
    layer.rule.room = 1.0
    within, rows = layer(x).flatten(0, 1), n * asked // EXPERTS
    kept = torch.zeros_like(going)
    for expert in range(EXPERTS):
        first = [token for token in range(n) if going[token, expert] > 0][:rows]
        kept[first, expert] = going[first, expert]
    dropped = 1 - float((kept > 0).sum() / (going > 0).sum())
    assert layer.rule.dropped == pytest.approx(dropped) and 0.02 < dropped < 0.9
    assert torch.equal(routing.within(going, rows), kept)
    assert torch.equal(layer.rule.loads, (going > 0).sum(0)), "loads are of what was asked for"
    same = ((kept > 0) == (going > 0)).all(1)
    torch.testing.assert_close(within[same], whole.flatten(0, 1)[same])
    nowhere = (kept == 0).all(1)
    torch.testing.assert_close(within[nowhere], layer.down.bias.expand(int(nowhere.sum()), -1))
    layer.rule.room = float(EXPERTS)
    assert torch.equal(layer(x), whole) and layer.rule.dropped == 0


@pytest.mark.paper("m6-t")
def test_an_even_load_has_a_penalty_of_one_in_each_group():
    rule = feed.Experts(DIM, EXPERTS, 2, routing.prototypes, 2)
    rule.gates = lambda logits, asked: torch.eye(4).repeat(len(logits) // 4, 2) * 0.5
    with torch.no_grad():
        rule.router.weight.zero_()
        rule.gated(tokens())
        assert rule.uneven.item() == pytest.approx(1)
        rule = made("prototypes", 2)
        rule.router.weight.zero_()
        rule.router.weight[[0, 4], 0] = 100.0
        rule.gated(torch.eye(DIM)[0].expand(1, 8, DIM))
    assert rule.uneven.item() == pytest.approx(4), "all of four in each group"


@pytest.mark.paper("m6-t")
def test_the_penalty_evens_out_loads(monkeypatch, mixture):
    """Alone, without a loss beside it, so that it is what moves the router."""
    monkeypatch.setattr(balanced, "PENALTY", 1.0)
    loss = balanced.paying(mixture.problem)
    x, _ = next(mixture.problem.batches(torch.Generator().manual_seed(3)))
    for transform in ("experts", "prototypes"):
        torch.manual_seed(0)
        model = PARTS[transform](mixture.problem, Chosen(0.75))
        with torch.no_grad():
            model.feed.rule.router.weight.mul_(3)  # so that loads begin unevenly
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        told = []
        for _ in range(40):
            optimiser.zero_grad()
            lost = loss(model, (x, model(x).detach()))
            lost.backward()
            optimiser.step()
            told.append((lost.item(), feed.routed(model)))
        (before, first), (after, last) = told[0], told[-1]
        assert after < before and after == pytest.approx(1, abs=0.05)
        assert last["load imbalance"] < first["load imbalance"]
        assert last["load entropy"] > first["load entropy"]


def test_what_is_told_of_known_loads():
    rule = made("hashed")
    rule.loads, rule.dropped = torch.tensor([4, 4, 0, 0, 0, 0, 0, 0]), 0.25
    told = feed.routed(rule)
    assert told == {"load imbalance": 4.0, "load entropy": pytest.approx(1 / 3)}
    rule.room = 1.0
    assert feed.routed(rule)["choices dropped"] == 0.25
    assert feed.routed(torch.nn.Linear(2, 2)) == {}


@pytest.mark.paper("m6-t")
def test_neither_penalty_nor_room_changes_the_count_of_flops(mixture):
    """As many as top-k, whatever the groups, the penalty or the room."""
    every = [
        mixture.sparsified(named(f"{trainer}-{transform}{room}"), Chosen(0.75))
        for trainer in ("plain", "balanced")
        for transform in ("experts", "prototypes")
        for room in ("", "_c1", "_c2")
    ]
    assert len({one.forward_flops for one in every}) == len({one.spent.flops for one in every}) == 1
    line = mixture.line("balanced-prototypes_c1", "chosen@0.75")
    assert {"load imbalance", "load entropy", "choices dropped"} < set(line.quality)
    assert line.quality["choices dropped"] < 1 and line.outcome == "ok"


@pytest.mark.paper("m6-t")
def test_quality_against_uneven_loads_is_on_the_page(mixture, tmp_path):
    """Beside a model without experts, and a line of nonsense that somebody sent."""
    made = [mixture.train_dense(), mixture.line("plain-experts_c1", "chosen@0.75")]
    odd = structs.replace(made[1], method="plain-odd", quality={"load imbalance": -1.0})
    file = write(tmp_path / "study.jsonl", header(options={"study": []}), *made, odd)
    report.write([file], tmp_path / "site")
    page = (tmp_path / "site" / "accuracy-planted_mixture.html").read_text()
    assert "load of the busiest expert over the mean" in page and "choices dropped" in page
    assert "against how uneven the loads of experts are" in page
    write(file, header(options={"study": []}), made[0], odd)
    report.write([file], tmp_path / "other")
    assert "against how uneven" not in (tmp_path / "other" / "accuracy-planted_mixture.html").read_text()
