"""SSL: training that drives whole hidden channels to zero, which then go: what is left is smaller and dense.

Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016. All weights that write a
channel or read it are a group, and to the loss comes the sum of the groups' norms, each times the root of its
size (group lasso). The channels of the smallest norms are cut out, over all layers, until the budget holds,
and the rest is trained on. Half the steps are with the penalty, half after the cut.

Without the penalty it is the size of channels alone that counts; with random channels, nothing.
"""

import torch

from suite.method import trainer
from suite.patterns.unstructured import Unstructured
from suite.workloads.accuracy.coupled import arranged, chosen, hidden, sizes

TASKS = ("digits_mlp", "digits_cnn")
STRENGTH = 3e-4  # of the penalty


@trainer(patterns=(Unstructured,), tasks=TASKS, training="weights", extents=("default", "full"), ids=("ssl",))
def ssl(sparsifier):
    """Drive hidden channels to zero, cut them out, and train on."""
    shrink(sparsifier, STRENGTH)


@trainer(patterns=(Unstructured,), tasks=TASKS, training="weights", extents=("full",), ids=("ssl",))
def channels_by_size(sparsifier):
    """Cut out the smallest hidden channels in the middle of as long a training."""
    shrink(sparsifier, 0.0)


@trainer(
    patterns=(Unstructured,),
    tasks=TASKS,
    training="weights",
    control=True,
    extents=("default", "full"),
    ids=("ssl",),
)
def channels_at_random(sparsifier):
    """Cut out any hidden channels in the middle of as long a training."""
    shrink(sparsifier, 0.0, lambda of: torch.rand(len(of), generator=sparsifier.generator))


def shrink(sparsifier, strength, score=lambda of: of):
    """Train with a penalty of this strength, cut, and train on."""
    problem, groups = sparsifier.problem, hidden(sparsifier.model)

    def loss(model, batch):
        return problem.loss(model, batch) + strength * penalty(model, groups)

    for _ in sparsifier.schedule(0.5):
        sparsifier.step(loss=loss if strength else None)
    model = sparsifier.model
    scores = [(one, score(sizes(model, one).detach())) for one in groups]
    kept = chosen(model, problem, sparsifier.sparsity, scores)
    sparsifier.become(arranged(model, kept))
    for _ in sparsifier.schedule(0.5):
        sparsifier.step()


def penalty(model, groups):
    """The sum of all groups' norms, each times the root of its size."""
    found = [sizes(model, one) * width(model, one) ** 0.5 for one in groups]
    return torch.cat(found).sum()


def width(model, channels):
    """Weights of one channel."""
    names = (*channels.writers, channels.reader)
    return sum(model.get_submodule(name).weight.numel() for name in names) / channels.count
