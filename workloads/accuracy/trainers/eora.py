"""EoRA: beside each compressed layer a path of low rank, which makes up for most of what the layer lost.

Liu et al., "EoRA: Training-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation",
2024. What counts is the error of the layer's output, so the difference of the weights is taken to where the
inputs' second moments are one (their eigenvectors, scaled by the roots of the eigenvalues), cut there to its
largest singular values, and taken back. No path of that rank errs less on the calibration data. Nothing is
trained.

`plain_svd` cuts the difference as it is.
"""

import torch

from suite.method import trainer
from suite.workloads.accuracy.curvature import damped

RANK = 1 / 16  # of a layer's smaller side


@trainer(after=("magnitude-uniform", "wanda-uniform", "obs-uniform-gqsa"), extents=("full",), ids=("eora",))
def eora(sparsifier):
    """Compress, then add to each layer the path of low rank that its outputs miss most."""
    compensated(sparsifier, lambda layer: damped(layer.moments))


@trainer(after=("magnitude-uniform", "obs-uniform-gqsa"), extents=("full",), ids=("eora",))
def plain_svd(sparsifier):
    """Compress, then add to each layer the path of low rank that its weights miss most."""
    compensated(sparsifier, lambda layer: torch.eye(layer.weight.shape[1], dtype=torch.double))


def compensated(sparsifier, matter):
    """Prune, and add paths; what matters of the inputs is known of the dense model."""
    dense = {name: layer.weight.clone() for name, layer in sparsifier.layers.items()}
    weighed = {name: matter(layer) for name, layer in sparsifier.layers.items()}
    sparsifier.prune()
    for name, layer in sparsifier.layers.items():
        rank = max(1, round(RANK * min(layer.weight.shape)))
        down, up = path(dense[name] - layer.weight, weighed[name], rank)
        sparsifier.beside(name, down.float(), up.float())


def path(lost, moments, rank):
    """down [r, k] and up [m, r]: their product is nearest to what was lost for inputs of these moments."""
    sizes, turn = torch.linalg.eigh(moments)
    roots = sizes.clamp(min=0).sqrt()
    left, values, right = torch.linalg.svd(lost.double() @ turn * roots, full_matrices=False)
    back = (turn / roots.where(roots > 0, torch.inf)).mT
    return right[:rank] @ back, left[:, :rank] * values[:rank]
