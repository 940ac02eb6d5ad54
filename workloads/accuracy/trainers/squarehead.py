"""SquareHead: fine-tuning after pruning, by what the dense model's layers say as well as by the labels.

Kurtic et al., "Sparse Fine-tuning for Inference Acceleration of Large Language Models", 2023. Beside the
task's loss stand the divergence of the answers from the dense model's, and for each layer the squared error
of its outputs over their own mean square, so that no layer counts more because its numbers are larger.

`distill` has the answers alone, `finetune` neither.
"""

import copy

import torch

from suite.method import trainer


@trainer(
    after=("magnitude-global", "magnitude-uniform"),
    training="weights",
    extents=("full",),
    ids=("squarehead",),
)
def squarehead(sparsifier):
    """Fine-tune what is left, taught by the dense model's answers and its layers' outputs."""
    taught(sparsifier, layers=True)


@trainer(after=("magnitude-global",), training="weights", extents=("full",), ids=("squarehead",))
def distill(sparsifier):
    """Fine-tune what is left, taught by the dense model's answers."""
    taught(sparsifier, layers=False)


def taught(sparsifier, layers):
    """Prune, then half the steps that the dense model took, a forward pass of which is paid for at each."""
    teacher, problem = copy.deepcopy(sparsifier.model), sparsifier.problem
    sparsifier.prune()

    def loss(model, batch):
        return problem.loss(model, batch) + distance(problem, model, teacher, batch, layers)

    for _ in sparsifier.schedule(0.5):
        before = sparsifier.spent.examples
        sparsifier.step(loss=loss)
        sparsifier.spent.flops += (sparsifier.spent.examples - before) * sparsifier.work.total


def distance(problem, model, teacher, batch, layers=True):
    """Of answers, and of each layer's outputs where these count: 0 for a model that says the same."""
    ours, said = outputs(problem, model, batch)
    with torch.no_grad():
        theirs, meant = outputs(problem, teacher, batch)
    whole = problem.apart(said, meant)
    if not layers:
        return whole
    parts = [(ours[name] - of).square().mean() / of.square().mean() for name, of in theirs.items()]
    return whole + torch.stack(parts).mean()


def outputs(problem, model, batch):
    """Of each layer, by name, and of the whole model."""
    found = {}

    def look(name):
        return lambda module, given, out: found.update({name: out})

    hooks = [one.register_forward_hook(look(name)) for name, one in problem.layers(model).items()]
    said = problem.answers(model, batch)
    for one in hooks:
        one.remove()
    return found, said
