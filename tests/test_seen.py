"""What is seen of a model: second moments, of which there are never more than there is room for."""

import weakref

import pytest
import torch
from problems import INPUTS, OUTPUTS, Small
from torch import nn

from suite.studying import layers
from suite.studying.layers import Seen


class Watched(Small):
    """Many layers, and how many of their second moments there were at once."""

    def model(self, width=1.0):
        return nn.Sequential(*(nn.Linear(INPUTS, INPUTS) for _ in range(7)), nn.Linear(INPUTS, OUTPUTS))


@pytest.mark.parametrize(("room", "groups"), [(1, 8), (3 * 4 * INPUTS**2, 3), (1 << 30, 1)])
@pytest.mark.parametrize("copied", [False, True])
def test_second_moments_of_a_few_layers_are_held_at_a_time(monkeypatch, room, groups, copied):
    """And are what all layers' at once would be, each group for a pass."""
    problem = Watched()
    torch.manual_seed(0)
    model = problem.model()
    whole = Seen(problem, model, torch.Generator())
    whole = {name: layer.moments for name, layer in whole.layers.items()}
    monkeypatch.setattr(layers, "ROOM", room)
    alive, made = weakref.WeakSet(), layers.Seen._means
    most = 0

    def means(self, names, of):
        nonlocal most
        found = made(self, names, of)
        alive.update(found.values())
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(Seen, "_means", means)
    first = Seen(problem, model, torch.Generator())
    seen = Seen(problem, model, torch.Generator(), first) if copied else first
    for name, layer in seen.layers.items():
        assert torch.equal(layer.moments, whole[name])
        assert torch.equal(layer.moments, whole[name])  # asked twice, seen once
    assert len(seen.passes) == groups and most == -(-8 // groups)
    norms = {name: layer.norms for name, layer in seen.layers.items()}
    assert len(seen.passes) == groups + 1
    for name, of in norms.items():
        assert torch.allclose(of, whole[name].diagonal().sqrt(), rtol=1e-5)
