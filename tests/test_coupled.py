"""Coupled channels: what is cut out, moved or shared out by whole channels is the model it says it is."""

import copy

import pytest
import torch
from problems import HIDDEN, INPUTS, OUTPUTS, sparsifier
from torch import nn

from suite.kernel import Refused
from suite.op import discover_parts
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy import coupled, decoder  # noqa: E402
from suite.workloads.accuracy.trainers import ssl  # noqa: E402
from suite.workloads.accuracy.transforms import cfsp  # noqa: E402


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_decoder():
    torch.manual_seed(0)
    model = decoder.Decoder(tokens=11, dim=16, depth=2, heads=2, hidden=24)
    for one in model.parameters():
        nn.init.normal_(one, std=0.5)
    return model, torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(1))


def models():
    torch.manual_seed(0)
    yield TASKS["digits_mlp"].problem(0).model(), drawn(5, 64)
    yield TASKS["digits_cnn"].problem(0).model(), drawn(5, 64)
    yield small_decoder()


@torch.no_grad()
def without(model, channels, gone):
    """The model with the weights of these channels at zero."""
    masked = copy.deepcopy(model)
    for writer in channels.writers:
        module = masked.get_submodule(writer)
        module.weight[channels.written(gone)] = 0
        if module.bias is not None:
            module.bias[channels.written(gone)] = 0
    masked.get_submodule(channels.reader).weight.flatten(1)[:, channels.read(gone)] = 0
    return masked


@pytest.mark.paper("ssl", "cfsp")
@pytest.mark.parametrize("at", range(3), ids=["chain", "convolutions", "decoder"])
@torch.no_grad()
def test_a_model_without_channels_is_the_model_with_them_at_zero(at):
    model, x = list(models())[at]
    for channels in coupled.hidden(model):
        if isinstance(model, decoder.Decoder) and channels.unit > 1:
            continue  # heads are moved and trained, never cut
        order = torch.randperm(channels.count, generator=torch.Generator().manual_seed(2))
        kept, gone = order[: channels.count // 2].sort().values, order[channels.count // 2 :]
        slim = coupled.arranged(model, [(channels, kept)])
        assert torch.allclose(slim(x), without(model, channels, gone)(x), atol=1e-4)
        lost = sum(one.numel() for one in model.parameters()) - sum(one.numel() for one in slim.parameters())
        biases = sum(len(gone) for one in channels.writers if model.get_submodule(one).bias is not None)
        assert lost == round(ssl.width(model, channels) * len(gone)) + biases


@pytest.mark.paper("s2ft")
@pytest.mark.parametrize("at", range(3), ids=["chain", "convolutions", "decoder"])
@torch.no_grad()
def test_channels_in_another_order_say_the_same(at):
    model, x = list(models())[at]
    moved = []
    for channels in coupled.hidden(model):
        order = torch.randperm(channels.count, generator=torch.Generator().manual_seed(3))
        moved.append((channels, order))
    other = coupled.arranged(model, moved)
    assert torch.allclose(other(x), model(x), atol=1e-4)
    changed = [not torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True)]
    assert any(changed)


@pytest.mark.paper("ssl")
def test_the_penalty_and_its_gradient_are_right_also_at_channels_of_zeros():
    made = sparsifier("ssl", "unstructured@0.5")
    model = made.model.double()
    (channels,) = coupled.hidden(model)
    with torch.no_grad():
        model[0].weight[3], model[2].weight[:, 3] = 0, 0
    whole = torch.cat([model[0].weight, model[2].weight.mT], 1).detach()
    assert coupled.sizes(model, channels).tolist() == pytest.approx(whole.norm(dim=1).tolist())
    found = ssl.penalty(model, [channels])
    assert found.item() == pytest.approx((INPUTS + OUTPUTS) ** 0.5 * whole.norm(dim=1).sum().item())
    found.backward()
    assert not model[0].weight.grad[3].any() and model[0].weight.grad.isfinite().all()
    tiny = 1e-6
    for row, column in ((0, 0), (5, 7)):
        before = model[0].weight[row, column].item()
        sides = []
        for step in (tiny, -tiny):
            with torch.no_grad():
                model[0].weight[row, column] = before + step
            sides.append(ssl.penalty(model, [channels]).item())
        with torch.no_grad():
            model[0].weight[row, column] = before
        numeric = (sides[0] - sides[1]) / (2 * tiny)
        assert model[0].weight.grad[row, column].item() == pytest.approx(numeric, rel=1e-5)


@pytest.mark.paper("ssl")
def test_channels_go_until_the_budget_holds_and_training_goes_on_without_them():
    made = sparsifier("ssl", "unstructured@0.5")
    made.method.parts["trainer"](made)
    made.settle()
    kept, each = made.model[0].out_features, INPUTS + OUTPUTS
    assert kept == HIDDEN // 2 and sum(made.sizes.values()) == kept * each
    dense, slim = 2 * HIDDEN * each, 2 * kept * each
    assert made.spent.flops == 3 * (dense + slim) * made.spent.examples / 2
    with pytest.raises(Refused, match="more than 1% of the weights already"):
        coupled.chosen(made.model, made.problem, 0.99, [(coupled.hidden(made.model)[0], torch.ones(kept))])


@pytest.mark.paper("ssl")
def test_without_its_penalty_it_is_plain_training(monkeypatch):
    monkeypatch.setattr(ssl, "STRENGTH", 0.0)
    one, other = (sparsifier(name, "unstructured@0.5") for name in ("ssl", "channels_by_size"))
    for each in (one, other):
        each.method.parts["trainer"](each)
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    before, cut = sparsifier("plain", "unstructured@0.5"), []
    for _ in before.schedule(0.5):
        before.step()
    again = sparsifier("ssl", "unstructured@0.5")
    again.become = lambda model: cut.append(
        {name: one.clone() for name, one in again.model.named_parameters()}
    )
    again.method.parts["trainer"](again)
    assert all(torch.equal(one, cut[0][name]) for name, one in before.model.named_parameters())


@pytest.fixture(scope="module")
def lm():
    experiment = Experiment(TASKS["byte_lm"], 0, "made-up")
    experiment.train_dense()
    return experiment.problem


@pytest.mark.paper("cfsp")
def test_one_pass_tells_all_and_the_order_of_batches_does_not_matter(lm):
    model, passes = lm.dense(), []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    turns, worth = cfsp.seen(lm, model)
    hook.remove()
    batches = lm.calibration()
    assert len(passes) == len(batches)
    lm.calibration = lambda: batches[::-1]
    again = cfsp.seen(lm, model)
    del lm.calibration
    assert all(turns[name] == pytest.approx(again[0][name]) for name in turns)
    assert all(torch.allclose(of, again[1][name]) for name, of in worth.items())
    assert not model._forward_hooks and all(0 < of < 1 for of in turns.values())


@pytest.mark.paper("cfsp")
@pytest.mark.parametrize("sparsity", [0.01, 0.3, 0.6])
def test_blocks_share_the_budget_to_one_neuron_by_what_they_do(lm, sparsity):
    model = lm.dense()
    turns = {one.reader: at for at, one in enumerate(cfsp.neurons(model))}
    found = cfsp.shares(lm, model, sparsity, turns, cfsp.SPREAD)
    whole = 4 * (4 * 128 * 128 + 3 * 128 * 352)
    left = whole - 3 * 128 * (4 * 352 - sum(found.values()))
    assert (1 - sparsity) * whole - 3 * 128 < left <= (1 - sparsity) * whole
    assert list(found.values()) == sorted(found.values()) and max(found.values()) <= 352
    even = cfsp.shares(lm, model, sparsity, turns, 0.0)
    assert max(even.values()) - min(even.values()) <= 1
    made = cfsp.narrowed(lm, Unstructured(sparsity), 0.0)
    assert sum(one.weight.numel() for one in lm.layers(made).values()) == left
    with pytest.raises(Refused, match="more than 20% of the weights already"):
        cfsp.shares(lm, model, 0.8, turns, 0.0)


def test_what_belongs_together_in_other_models_is_not_guessed():
    with pytest.raises(Refused, match="of a Bilinear belong together is not known"):
        coupled.hidden(nn.Bilinear(2, 2, 2))
