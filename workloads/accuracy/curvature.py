"""Curvature: the Hessian of a layer's squared output error, which is the second moment of its inputs."""

import torch

DAMPING = 0.01  # of the mean of the diagonal: inputs that are always zero have no curvature of their own


def damped(moments):
    """Second moments that can be inverted, in float64."""
    h = moments.double()
    mean = h.diagonal().mean()
    return h + (DAMPING * mean + torch.finfo(torch.float32).tiny) * torch.eye(len(h), dtype=h.dtype)


def inverse(moments):
    """Of the damped second moments."""
    return torch.cholesky_inverse(torch.linalg.cholesky(damped(moments)))
