"""SparseLoRA: LoRA whose steps multiply only those rows of the frozen weights that matter to the batch.

Khaki et al., "SparseLoRA: Accelerating LLM Fine-Tuning with Contextual Sparsity", ICML 2025. Before each
layer its outputs are estimated by a product of low rank, the layer's largest singular values, which is made
once and never trained; the rows whose outputs are largest over the batch are multiplied, the others' outputs
come from the adapter alone. The first steps are whole, and so is the last layer, whose outputs are the
answers. At the end the adapter is merged into all the weights. There tokens are told apart as well; here a
batch has one choice.

Rows drawn at random are the control.
"""

import torch

from suite.method import trainer
from suite.studying.layers import unfolded
from suite.workloads.accuracy.trainers.lora import adapted, whole

KEEP = 0.5  # of the rows
RANK = 8  # of the estimate
WHOLE = 0.1  # of the training


@trainer(after=("magnitude-uniform",), training="weights", extents=("full",), ids=("sparselora",))
def sparselora(sparsifier):
    """Prune, then learn adapters beside the rows that an estimate holds for the largest."""
    adapted(sparsifier, Sparse(lambda estimate, x: estimate(x)))


@trainer(
    after=("magnitude-uniform",), training="weights", control=True, extents=("full",), ids=("sparselora",)
)
def lora_at_random(sparsifier):
    """Prune, then learn adapters beside rows that are drawn anew at each step."""
    drawn = sparsifier.generator
    adapted(sparsifier, Sparse(lambda estimate, x: torch.rand(len(estimate.up), generator=drawn), free=True))


class Estimate:
    """Of a layer's outputs, by the largest singular values of its weights."""

    def __init__(self, weight, rank):
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        self.up, self.down = left[:, :rank] * values[:rank], right[:rank]

    def __call__(self, x):
        """[m]: the norm of each output over a batch of inputs."""
        return torch.linalg.vector_norm(x @ self.down.mT @ self.up.mT, dim=0)

    @property
    def weights(self):
        return self.up.numel() + self.down.numel()


class Sparse:
    """Steps that leave out the rows of least worth. worth(estimate, x): [m]. free: it costs nothing."""

    def __init__(self, worth, free=False):
        self.worth, self.free, self.estimates = worth, free, {}

    def __call__(self, sparsifier, adapters, done):
        if not self.estimates:
            self.estimates = {name: Estimate(one.base, RANK) for name, one in list(adapters.items())[:-1]}
        if done < WHOLE:
            return whole(sparsifier, adapters, done)
        hooks = [
            sparsifier.layers[name].module.register_forward_pre_hook(
                self.look(sparsifier.layers[name], adapters[name], estimate)
            )
            for name, estimate in self.estimates.items()
        ]
        nonzeros = sparsifier.nonzeros | {
            name: round(KEEP * sparsifier.nonzeros[name]) for name in self.estimates
        }
        before = sparsifier.spent.examples
        merged = {name: one.base + one.product() for name, one in adapters.items()}
        found = sparsifier.gradients_at(merged, nonzeros)
        for one in hooks:
            one.remove()
        if not self.free:
            rows, seen = sparsifier.work.rows, sparsifier.spent.examples - before
            each = sum(2 * rows[name] * one.weights for name, one in self.estimates.items())
            sparsifier.spent.flops += seen * each
        return found

    def look(self, layer, adapter, estimate):
        """Before a layer runs: the base goes from the rows that are not chosen for its inputs."""

        @torch.no_grad()
        def before(module, given):
            worth = self.worth(estimate, unfolded(module, given[0]))
            gone = worth.argsort(descending=True)[round(KEEP * len(worth)) :]
            layer.weight[gone] -= adapter.base[gone]

        return before
