"""Mixtures of experts that learn: what published rules do on a toy whose tokens come in topics, by seed."""

import pytest
import torch
from test_moe import chunk_sparsity
from torch.nn.functional import silu

from suite.formats import routing

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = range(3)
TOPICS, WIDTH, HIDDEN = 8, 16, 8
CHUNK, TOKENS = 8, 1024
TOP = 2
STEPS = 200


def tokens(seed, share=0.7, topics=TOPICS):
    """Each topic answers by a map of its own. Of a chunk, `share` of the tokens are of one topic."""
    drawn = torch.Generator().manual_seed(seed)
    centres = 1.5 * torch.randn(TOPICS, WIDTH, generator=drawn)
    maps = torch.randn(TOPICS, WIDTH, WIDTH, generator=drawn) / WIDTH**0.5
    common = torch.randint(topics, (TOKENS // CHUNK,), generator=drawn).repeat_interleave(CHUNK)
    mixed = torch.randint(topics, (TOKENS,), generator=drawn)
    topic = common.where(torch.rand(TOKENS, generator=drawn) < share, mixed)
    x = centres[topic] + 0.7 * torch.randn(TOKENS, WIDTH, generator=drawn)
    return x, torch.einsum("nd,nde->ne", x, maps[topic])


class Mixture(torch.nn.Module):
    """Gated experts on every token, weighed by what a router's `gates` make of its logits."""

    def __init__(self, experts, gates, hidden=HIDDEN):
        super().__init__()
        self.router, self.gates = torch.nn.Linear(WIDTH, experts), gates
        self.up = torch.nn.Parameter(torch.randn(experts, 2 * hidden, WIDTH) / WIDTH**0.5)
        self.down = torch.nn.Parameter(torch.randn(experts, WIDTH, hidden) / hidden**0.5)

    def forward(self, x):
        gate, wide = torch.einsum("nd,efd->nef", x, self.up).chunk(2, -1)
        self.going = self.gates(self.router(x))
        return torch.einsum("nef,edf,ne->nd", silu(gate) * wide, self.down, self.going)


@torch.no_grad()
def error(model, x, y):
    return float(((model(x) - y) ** 2).mean() / y.var())


def train(model, x, y, steps, seed, beside=lambda model: 0.0, rate=1e-2):
    """Steps on random chunks; `beside` is added to the loss."""
    drawn = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        some = torch.randint(TOKENS // CHUNK, (16,), generator=drawn)
        at = (some[:, None] * CHUNK + torch.arange(CHUNK)).flatten()
        loss = ((model(x[at]) - y[at]) ** 2).mean() + beside(model)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def top(count):
    return lambda logits: routing.dense(logits, min(count, logits.shape[1]))


# BlockFFN: what a loss of chunks is for.


def rectified(seed, x, y, chunk):
    """Trained towards a sparsity of tokens of 0.8, by a penalty; of chunks by a loss, `chunk` times."""
    torch.manual_seed(seed)
    model, penalty = Mixture(16, None), 0.0
    weight = torch.nn.Parameter(torch.full((16,), 0.25))
    model.gates = lambda logits: routing.relu_norm(logits, weight)
    model.register_parameter("weight", weight)

    def losses(model):
        nonlocal penalty
        penalty += 0.05 * (float((model.going > 0).float().mean()) - 0.2)
        likely = torch.sigmoid(4 * model.logits)
        union = 1 - (1 - likely).view(-1, CHUNK, 16).prod(1)
        return penalty * likely.mean() + chunk * union.mean()

    model.router.register_forward_hook(lambda module, given, made: setattr(model, "logits", made))
    return train(model, x, y, STEPS, seed, losses)


@pytest.mark.paper("blockffn")
def test_a_loss_of_chunks_leaves_more_experts_alone_than_independent_tokens_would():
    found = []
    for seed in SEEDS:
        x, y = tokens(seed)
        for chunk in (0.0, 0.5):
            model = rectified(seed, x, y, chunk)
            lost = error(model, x, y)
            found.append((chunk, lost, *(chunk_sparsity(model.going, of) for of in (1, CHUNK))))
    plain, chunked = ([one[1:] for one in found if one[0] == chunk] for chunk in (0.0, 0.5))
    for (lost, alone, together), (before, at_first, as_is) in zip(chunked, plain, strict=True):
        assert together > 2 * alone**CHUNK and together > as_is
        assert abs(alone - at_first) < 0.05 and lost < before + 0.02


# Pruning: experts of a task that uses few.


@pytest.mark.paper("expert-pruning")
def test_dropping_by_use_beats_dropping_at_random():
    """Trained on all topics, then on a task of three; of eight experts three stay."""
    ours, blind = [], []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = train(Mixture(8, top(TOP)), *tokens(seed), 200, seed)
        x, y = tokens(seed, topics=3)
        with torch.no_grad():
            model(x)
            use = (model.going > 0).sum(0)
            ours.append(error(kept(model, use.argsort(descending=True)[:3]), x, y))
            drawn = torch.Generator().manual_seed(seed)
            draws = [torch.randperm(8, generator=drawn)[:3] for _ in range(8)]
            blind.append(sum(error(kept(model, one), x, y) for one in draws) / 8)
    assert all(mine < theirs for mine, theirs in zip(ours, blind, strict=True)), (ours, blind)


def kept(model, experts):
    """What is left of a mixture; the weights of those that stay are untouched."""
    made = Mixture(len(experts), model.gates)
    made.up.data, made.down.data = model.up[experts], model.down[experts]
    made.router.weight.data, made.router.bias.data = model.router.weight[experts], model.router.bias[experts]
    return made


# Upcycling: copies that go their own ways.


def upcycled(model, experts):
    """Each expert a copy of the layer, the router random."""
    made = Mixture(experts, top(TOP), model.down.shape[2])
    made.up.data = model.up.detach().repeat(experts, 1, 1)
    made.down.data = model.down.detach().repeat(experts, 1, 1)
    return made


@pytest.mark.paper("sparse-upcycling", "upcycling-inference")
def test_an_upcycled_layer_begins_as_the_layer_and_is_ahead_of_one_from_scratch():
    """At as many further steps. The layer itself goes on beside it, for fewer FLOPs: either may be ahead."""
    told = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        x, y = tokens(seed)
        layer = train(Mixture(1, top(1), 2 * HIDDEN), x, y, 200, seed)
        mixed, fresh = upcycled(layer, 8), Mixture(8, top(TOP), 2 * HIDDEN)
        before = error(layer, x, y)
        assert error(mixed, x, y) == pytest.approx(before, rel=1e-4)
        made = [error(train(one, x, y, 60, seed + 10), x, y) for one in (mixed, fresh, layer)]
        told.append((before, *made))
    before, mixed, fresh, layer = (torch.tensor(one) for one in zip(*told, strict=True))
    assert (mixed < before).all() and (mixed < fresh).all(), told
