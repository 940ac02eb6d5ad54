"""SparseLoRA: LoRA whose steps multiply only those channels of the frozen weights that matter to the batch.

Khaki et al., "SparseLoRA: Accelerating LLM Fine-Tuning with Contextual Sparsity", ICML 2025. A hidden channel
is a row of the layers that write it and a column of the one that reads it; left out, the adapter alone speaks
there. Which stay is chosen for each batch by the norm of what the reader would be given, behind the
activation: a neuron that is far below zero is silent, however large it is. It is estimated by products of low
rank, the writers' largest singular values, which are made once and never trained. Of attention the channels
of the values are chosen; queries and keys are whole, as are the first steps. At the end the adapter is merged
into all the weights. There tokens are told apart as well; here a batch has one choice.

Channels drawn at random are the control.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import relu, silu

from suite.method import trainer
from suite.studying.layers import unfolded
from suite.workloads.accuracy.coupled import Hidden, hidden
from suite.workloads.accuracy.decoder import Decoder
from suite.workloads.accuracy.trainers.lora import adapted, whole

KEEP = 0.5  # of the channels
RANK = 8  # of the estimate
WHOLE = 0.1  # of the training


@trainer(after=("magnitude-uniform",), training="weights", extents=("full",), ids=("sparselora",))
def sparselora(sparsifier):
    """Prune, then learn adapters beside the channels that an estimate holds for the largest."""
    adapted(sparsifier, Sparse(lambda group, x: group.estimate(x)))


@trainer(
    after=("magnitude-uniform",), training="weights", control=True, extents=("full",), ids=("sparselora",)
)
def lora_at_random(sparsifier):
    """Prune, then learn adapters beside channels that are drawn anew at each step."""
    drawn = sparsifier.generator
    step = Sparse(lambda group, _: torch.rand(group.channels.count, generator=drawn), free=True)
    adapted(sparsifier, step)


class Estimate:
    """Of a layer's outputs, by the largest singular values of its weights."""

    def __init__(self, layer, base, rank):
        left, values, right = torch.linalg.svd(base, full_matrices=False)
        self.up, self.down, self.module = left[:, :rank] * values[:rank], right[:rank], layer.module

    def __call__(self, x):
        """[rows, m] of a batch of the layer's inputs."""
        out = unfolded(self.module, x) @ self.down.mT @ self.up.mT
        return out if self.module.bias is None else out + self.module.bias.detach()

    @property
    def weights(self):
        return self.up.numel() + self.down.numel()


@dataclass
class Group:
    """Channels that are chosen together. between: of their writers' outputs, what their reader is given."""

    channels: Hidden
    between: Callable
    estimates: dict

    def estimate(self, x):
        """[channels]: the norm over a batch of what the reader would be given."""
        given = self.between(*(one(x) for one in self.estimates.values()))
        return torch.linalg.vector_norm(given.unflatten(-1, (self.channels.count, -1)), dim=(0, 2))


def groups(sparsifier, adapters):
    """The hidden channels of a model."""
    made = []
    for one in hidden(sparsifier.model):
        between = relu
        if isinstance(sparsifier.model, Decoder):
            neurons = len(one.writers) == 2
            between = gated if neurons else torch.clone
            if not neurons:
                one = Hidden(one.writers[2:], one.reader, one.count * one.unit, 1, 1)
        names = one.writers
        estimates = {name: Estimate(sparsifier.layers[name], adapters[name].base, RANK) for name in names}
        made.append(Group(one, between, estimates))
    return made


def gated(gate, up):
    return silu(gate) * up


class Sparse:
    """Steps that leave out the channels of least worth(group, inputs), [channels]. free: it costs nothing."""

    def __init__(self, worth, free=False):
        self.worth, self.free, self.groups = worth, free, []

    def __call__(self, sparsifier, adapters, done):
        self.groups = self.groups or groups(sparsifier, adapters)
        if done < WHOLE:
            return whole(sparsifier, adapters, done)
        gone = {name: torch.zeros_like(mask) for name, mask in sparsifier.masks.items()}
        hooks = [self.hook(sparsifier, adapters, group, gone) for group in self.groups]
        nonzeros, before = dict(sparsifier.nonzeros), sparsifier.spent.examples
        for name in (name for one in self.groups for name in (*one.channels.writers, one.channels.reader)):
            nonzeros[name] = round(KEEP * nonzeros[name])
        merged = {name: one.base + one.product() for name, one in adapters.items()}
        found = sparsifier.gradients_at(merged, nonzeros)
        for one in hooks:
            one.remove()
        if not self.free:
            rows, seen = sparsifier.work.rows, sparsifier.spent.examples - before
            asked = [pair for group in self.groups for pair in group.estimates.items()]
            sparsifier.spent.flops += seen * sum(2 * rows[name] * one.weights for name, one in asked)
        return found

    def hook(self, sparsifier, adapters, group, gone):
        """Before the first writer runs, the base goes from channels that are not chosen for its inputs.

        gone: of each layer the places whose base went already: a layer may read one group and write another.
        """
        channels = group.channels

        @torch.no_grad()
        def before(module, given):
            worth = self.worth(group, given[0])
            left_out = worth.argsort(descending=True)[round(KEEP * len(worth)) :]
            for name in (*channels.writers, channels.reader):
                here = torch.zeros_like(gone[name])
                if name == channels.reader:
                    here[:, channels.read(left_out)] = True
                else:
                    here[channels.written(left_out)] = True
                here &= ~gone[name]
                sparsifier.layers[name].weight[here] -= adapters[name].base[here]
                gone[name] |= here

        return sparsifier.layers[channels.writers[0]].module.register_forward_pre_hook(before)
