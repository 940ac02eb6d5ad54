"""S2FT: fine-tuning of a few heads and hidden neurons, in place; all else stays as it is.

Yang et al., "S2FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity", NeurIPS
2024. Of what reads hidden channels, the columns of a few of these are trained: put in order, they are one
dense matrix, with gradients and moments of its own, so nothing has to be merged. Inside a mask zeros stay
zero. Those of the largest weights are chosen, or any.
"""

import torch

from suite.method import trainer
from suite.workloads.accuracy.coupled import hidden, sizes

TASKS = ("digits_mlp", "digits_cnn", "byte_lm")  # of which it is known what belongs together
TRAINED = 1 / 8  # of the heads, and of the neurons
SHARE = 0.5  # of the dense training
RATE = 4  # times the task's, as adapters have it


@trainer(after=("magnitude-uniform",), tasks=TASKS, training="weights", extents=("full",), ids=("s2ft",))
def s2ft(sparsifier):
    """Prune, then train the columns that read the largest hidden channels."""
    partly(sparsifier, lambda channels: sizes(sparsifier.model, channels).detach())


@trainer(
    after=("magnitude-uniform",),
    tasks=TASKS,
    training="weights",
    control=True,
    extents=("full",),
    ids=("s2ft",),
)
def s2ft_at_random(sparsifier):
    """Prune, then train the columns that read any hidden channels."""
    partly(sparsifier, lambda channels: torch.rand(channels.count, generator=sparsifier.generator))


def partly(sparsifier, score):
    """Prune, and train the columns of the channels of the highest scores."""
    sparsifier.prune()
    columns = {}
    for channels in hidden(sparsifier.model):
        count = max(1, round(TRAINED * channels.count))
        columns[channels.reader] = channels.read(score(channels).topk(count).indices.sort().values)
    parts = {name: sparsifier.layers[name].weight[:, these] for name, these in columns.items()}
    inside = {name: sparsifier.masks[name][:, these] for name, these in columns.items()}
    wanted = dict.fromkeys(sparsifier.layers, 0) | {name: int(one.sum()) for name, one in inside.items()}
    for _ in sparsifier.schedule(SHARE, list(parts.values()), RATE * sparsifier.problem.rate):
        found = sparsifier.gradients(wanted)
        for name, part in parts.items():
            part.grad = found[name][:, columns[name]] * inside[name]
        sparsifier.advance()
        for name, part in parts.items():
            sparsifier.layers[name].weight[:, columns[name]] = part
        sparsifier.verify()
