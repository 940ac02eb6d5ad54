"""Models of which a token uses a part: neurons, experts, and few neurons that all of them check."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.formats import routing
from suite.method import named
from suite.op import discover_parts
from suite.patterns.chosen import Chosen
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.study import StudyOptions, plan
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy import feed, written  # noqa: E402
from suite.workloads.accuracy.transforms import experts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, HIDDEN = 8, 24


def tokens(count=40, seed=0):
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))


# In a study.


def test_a_budget_at_run_time_is_for_those_who_name_it():
    for name in ("plain-relu", "plain-experts", "continued-upcycled", "sparse_alone"):
        assert named(name).fits(Chosen(0.5)) and not named(name).fits(Unstructured(0.5))
    for name in ("plain", "plain-low_rank", "low_rank_projected", "magnitude-uniform", "random-erk-static"):
        assert not named(name).fits(Chosen(0.5)) and named(name).fits(Unstructured(0.5))


def test_a_task_with_nothing_to_try_is_left_out_unless_it_is_named():
    full, default = (
        {one.task: one.trials for one in plan(StudyOptions(extent=extent, seeds=1))}
        for extent in ("full", "default")
    )
    assert {trial.method for trial in full["byte_lm_written"]} > {"sparse_alone", "corrected"}
    assert "byte_lm_written" not in default and all(default.values())
    (lot,) = plan(StudyOptions(tasks=("byte_lm_written",), extent="default", seeds=1))
    assert not lot.trials
    late = {trial.method for trial in full["digits_vit"]} - {trial.method for trial in default["digits_vit"]}
    assert late > {"continued-upcycled", "plain-relu", "plain-experts"}


@pytest.fixture(scope="module")
def vision():
    """An experiment whose trainings are over soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TASKS["digits_vit"].problem, "steps", 8)
        experiment = Experiment(TASKS["digits_vit"], 0, "cpu")
        experiment.train_dense()
        yield experiment


@pytest.mark.paper("relu2", "m6-t", "sparse-upcycling")
@pytest.mark.parametrize(
    ("method", "used", "stored"),
    [
        ("plain-relu", {"up": 1.0, "down": 0.25}, {"up": 64, "down": 64}),
        ("plain-lazy", {"up": 1.0, "down": 0.25}, {"up": 64, "down": 64}),
        ("plain-swiglu", {"up": 1.0, "down": 11 / 43}, {"up": 86, "down": 43}),
        ("plain-experts", {"up": 0.25, "down": 0.25}, {"up": 256, "down": 256}),
        ("plain-prototypes", {"up": 0.25, "down": 0.25}, {"up": 256, "down": 256}),
        ("continued-upcycled", {"up": 0.25, "down": 0.25}, {"up": 512, "down": 512}),
    ],
)
def test_a_model_is_said_to_use_what_a_token_is_multiplied_by_and_to_store_all(vision, method, used, stored):
    line = vision.line(method, "chosen@0.75")
    assert line.outcome == "ok", line.note
    layers = {one["name"].split(".")[-1]: one for one in line.layers if ".feed." in one["name"]}
    for name, share in used.items():
        assert layers[name]["sparsity"] == pytest.approx(1 - share, abs=1e-3)
        assert layers[name]["pattern"] == ("dense" if share == 1 else "chosen@0.75")
        assert stored[name] in (layers[name]["m"], layers[name]["k"])
    left = sum(one["m"] * one["k"] * (1 - one["sparsity"]) for one in line.layers)
    assert line.nonzeros == pytest.approx(left, rel=1e-3) and line.execution == "simulated"
    model = vision.sparsified(named(method), Chosen(0.75)).model
    assert line.bytes == 4 * sum(one.numel() for one in model.parameters())


@pytest.mark.paper("sparse-upcycling")
def test_training_on_takes_as_many_flops_whatever_is_trained(vision, monkeypatch):
    monkeypatch.setattr(vision.problem, "steps", 80)
    both = [vision.sparsified(named(one), Chosen(0.75)) for one in ("continued", "continued-upcycled")]
    first, second = (one.spent for one in both)
    assert first.flops == pytest.approx(3 * vision.work.total * first.examples, rel=1e-6)
    assert second.flops == pytest.approx(first.flops, rel=0.05)  # whole steps, of which some are smaller
    assert first.steps == 40 > second.steps


# Neurons.


@pytest.mark.paper("lazy-neuron", "relu2")
@settings(max_examples=20, deadline=None)
@given(st.integers(1, HIDDEN), st.sampled_from(sorted(feed.PLAIN | feed.GATED)), st.integers(0, 9))
def test_so_many_neurons_speak_and_they_are_the_loudest(keep, activation, seed):
    torch.manual_seed(seed)
    layer, x = feed.Feed(DIM, HIDDEN, activation, feed.Loudest(keep, HIDDEN)).eval(), tokens(seed=seed)
    layer.rule, whole = None, layer.rule
    before = layer.neurons(x)
    layer.rule = whole
    made = layer.neurons(x)
    live = (before != 0).sum(1).clamp(max=keep)
    assert ((made != 0).sum(1) == live).all()
    assert torch.equal(made, before.where(made != 0, 0))
    scores = before.abs() * layer.down.weight.norm(dim=0)
    silent, least = scores.masked_fill(made != 0, 0), scores.masked_fill(made == 0, torch.inf)
    assert (silent.amax(1) <= least.amin(1)).all()


@pytest.mark.paper("lazy-neuron")
def test_as_many_neurons_as_are_positive_are_all_of_a_relu():
    torch.manual_seed(0)
    layer, x = feed.Feed(DIM, HIDDEN, "relu", feed.Loudest(HIDDEN, HIDDEN)).eval(), tokens()
    most = int((layer.neurons(x) > 0).sum(1).max())
    assert most < HIDDEN
    few = feed.Feed(DIM, HIDDEN, "relu", feed.Loudest(most, HIDDEN)).eval()
    few.load_state_dict(layer.state_dict())
    assert torch.equal(few(x), layer(x))


def test_where_it_learns_a_rule_that_is_not_learnt_silences_nobody():
    torch.manual_seed(0)
    layer, x = feed.Feed(DIM, HIDDEN, "gelu", feed.Loudest(3, HIDDEN)), tokens()
    assert layer.train().down.share == 1 and bool((layer.neurons(x) != 0).all())
    assert layer.eval().down.share == 3 / HIDDEN and ((layer.neurons(x) != 0).sum(1) == 3).all()


@pytest.mark.paper("relu2")
def test_layers_of_gated_activations_have_as_many_weights():
    plain, gated = (feed.Feed(96, feed.equal(96, 192, one), one) for one in ("relu", "swiglu"))
    sizes = [sum(one.numel() for one in layer.parameters() if one.dim() > 1) for layer in (plain, gated)]
    assert sizes[0] == sizes[1]


def judged(activation, seed=0):
    """A layer between two that are fixed, and its loss on labels that it learnt for a few steps."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(DIM, DIM), feed.Feed(DIM, 64, activation))
    x = tokens(256, seed)
    y = (x[:, :3].cumsum(1) ** 2).argmax(1)

    def loss():
        return torch.nn.functional.cross_entropy(model(x), y)

    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    return model, loss


@pytest.mark.paper("sparsing-law", "relu2")
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_neurons_are_spared_until_perplexity_has_risen_by_so_much(activation):
    model, loss = judged(activation)
    with torch.no_grad():
        before = float(loss())
    with feed.cutting(model, loss) as at:
        zeros, same, _ = at(0.0)
        found = [feed.spared(at, rise) for rise in (0.001, 0.01, 0.05, 0.1)]
    assert same == pytest.approx(before, rel=1e-6)
    assert zeros == pytest.approx(float((model[1].neurons(model[0](tokens(256))) == 0).double().mean()))
    assert [share for share, _ in found] == sorted(share for share, _ in found) and found[0][0] >= zeros
    for (_, risen), rise in zip(found, (0.001, 0.01, 0.05, 0.1), strict=True):
        assert 0.8 * rise < risen <= rise
    assert model[1].rule is None and float(loss().detach()) == before


# Experts.


@pytest.mark.paper("sparse-upcycling", "upcycling-inference")
@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.875])
@torch.no_grad()
def test_an_upcycled_model_begins_as_the_dense_one(vision, sparsity):
    model = experts.upcycled(vision.problem, Chosen(sparsity)).eval()
    x = vision.problem.judged[0][:32]
    torch.testing.assert_close(model(x), vision.dense(x))
    other = experts.upcycled_afresh(vision.problem, Chosen(sparsity)).eval()
    assert float((other(x) - vision.dense(x)).abs().max()) > 0.01
    assert torch.equal(other.blocks[0].qkv.weight, vision.dense.blocks[0].qkv.weight)


@pytest.mark.paper("m6-t")
def test_prototypes_and_the_best_of_all_take_the_same_flops_and_one_group_is_the_best_one(vision):
    both = [vision.sparsified(named(f"plain-{one}"), Chosen(0.75)) for one in ("experts", "prototypes")]
    assert both[0].forward_flops == both[1].forward_flops and both[0].sizes == both[1].sizes
    torch.manual_seed(0)
    logits = torch.randn(20, experts.EXPERTS)
    alone = routing.prototypes(logits, 1) > 0
    assert torch.equal(alone, routing.dense(logits, 1) > 0)
    rule = both[1].model.blocks[0].feed.rule
    going = rule.gates(logits, rule.asked) > 0
    assert (going.view(20, rule.asked, -1).sum(2) == 1).all()


@pytest.mark.paper("m6-t")
def test_experts_of_a_token_are_a_wide_layer_whose_other_neurons_are_zero():
    torch.manual_seed(0)
    layer = feed.Feed(DIM, 4 * HIDDEN, "gelu", feed.Experts(DIM, 4, 2, routing.dense))
    x, rule = tokens(), layer.rule
    gates = routing.dense(rule.router(x), 2)
    ups, downs = layer.up.weight.view(4, HIDDEN, DIM), layer.down.weight.view(DIM, 4, HIDDEN)
    by_hand = layer.down.bias + sum(
        gates[:, at, None] * (torch.nn.functional.gelu(x @ ups[at].t() + bias) @ downs[:, at].t())
        for at, bias in enumerate(layer.up.bias.view(4, HIDDEN))
    )
    torch.testing.assert_close(layer(x), by_hand)
    assert feed.uneven(layer) == float((gates > 0).sum(0).max() / (gates > 0).sum(0).double().mean())
    random = experts.blindly(rule.router(x), 2)
    assert ((random > 0).sum(1) == 2).all() and random.requires_grad


# Few neurons, checked.


@pytest.fixture(scope="module")
def language():
    problem = TASKS["byte_lm_written"].problem(0)
    problem.trained = problem.dense().eval()
    return problem


def writer(language, keep, checks):
    return written.Written(language.trained, keep, checks).eval()


@pytest.mark.paper("sirius")
@pytest.mark.parametrize("every", [1, 5, 8])
def test_checks_without_tolerance_write_what_the_whole_model_writes(language, every):
    prompt = language.prompts[0]
    text = prompt.clone()
    with torch.no_grad():
        for _ in range(24):
            text = torch.cat((text, language.trained(text[None])[0, -1:].argmax(1)))
    strict = writer(language, 35, written.Checks(every, written.likely(1.0)))
    assert torch.equal(strict.write(prompt, 24, log := written.Log()), text[len(prompt) :])
    assert log.written == 24 and 24 / every <= log.checks <= 24 and log.checked == log.steps
    alone = writer(language, 35, written.Checks())
    assert not torch.equal(alone.write(prompt, 24, written.Log()), text[len(prompt) :])


@pytest.mark.paper("sirius")
@torch.no_grad()
def test_a_given_text_is_read_as_it_is_written(language):
    """All neurons: the trained model. Few, with checks: what is kept is rewritten where a check is due."""
    text = language.judged[0][:1, :21]
    whole = writer(language, 352, written.Checks(4))
    torch.testing.assert_close(whole(text), language.trained(text), rtol=1e-4, atol=1e-4)
    few = writer(language, 35, written.Checks(4))
    kept, said = [], []
    for first in range(0, 21, 4):
        part = text[0, first : first + 4]
        said += [few.heard(one[None], kept) for one in part]
        written.cropped(kept, first)
        with few.all():
            few.heard(part, kept)
    torch.testing.assert_close(few(text)[0], torch.cat(said), rtol=1e-4, atol=1e-4)


@pytest.mark.paper("sirius")
def test_weights_that_are_said_to_be_read_are_those_of_its_calls(language):
    model = writer(language, 88, written.Checks(8, written.likely(0.1)))
    read = 0

    def count(module, given):
        nonlocal read
        spoke = model.few.keep / 352 if model.few.on and 352 in module.weight.shape else 1
        read += module.weight.numel() * (1 if gate(module) else spoke)

    def gate(module):
        return any(module is block.gate for block in model.blocks)

    log, whole = written.Log(), 0
    linear = [one for one in model.modules() if isinstance(one, torch.nn.Linear)]
    prompt, whole = language.prompts[1], sum(one.weight.numel() for one in linear)
    hooks = [one.register_forward_pre_hook(count) for one in linear]
    model.write(prompt, 40, log)
    for one in hooks:
        one.remove()
    assert model.density(log) == pytest.approx((read - whole) / whole / 40)  # less what the prompt took


@pytest.mark.paper("sirius")
def test_on_a_given_text_checks_win_back_a_part_of_what_few_neurons_lose():
    for seed in range(3):
        problem = TASKS["byte_lm_written"].problem(seed)
        problem.trained = problem.dense().eval()
        batch = [one[:6] for one in problem.judged]
        models = [writer(problem, 35, checks) for checks in (written.Checks(), written.Checks(8))]
        with torch.no_grad():
            alone, checked, whole = (problem.loss(one, batch).item() for one in (*models, problem.trained))
        assert whole < checked < alone and math.isfinite(alone)
