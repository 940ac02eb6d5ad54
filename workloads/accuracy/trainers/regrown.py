"""Regrown: masks that let go of their smallest weights and grow as many elsewhere, in each layer."""

import math

import torch

from suite.studying.masks import top

EVERY = 20  # steps between two changes
UNTIL = 0.75  # of the training; what grows later has no time to learn
SHARE = 0.3  # of the weights that change place at first


def train(sparsifier, wanted, dense_gradients=False):
    """A course in which, now and then, weights grow where `wanted(layer, gradient)` is greatest."""
    sparsifier.prune()
    for share, gradients in changes(sparsifier, dense_gradients):
        masks = {}
        for name, layer in sparsifier.layers.items():
            scores = wanted(layer, gradients[name])
            masks[name] = moved(layer.weight, sparsifier.masks[name], share, scores)
        sparsifier.use(masks)


def changes(sparsifier, dense_gradients):
    """A course: at each change of masks the share of weights that is to move, and the layers' gradients.

    dense_gradients: at a change those outside the masks too.
    """
    for step, done in enumerate(sparsifier.schedule()):
        due = step > 0 and step % EVERY == 0 and done < UNTIL
        gradients = sparsifier.step(dense_gradients=dense_gradients and due)
        if due:
            yield SHARE / 2 * (1 + math.cos(math.pi * done / UNTIL)), gradients


def moved(weight, mask, share, scores):
    """The mask without the smallest `share` of its weights, and as many of the best scores outside it."""
    kept = int(mask.sum())
    count = min(round(share * kept), mask.numel() - kept)
    ranked = torch.where(mask, weight.abs(), -1.0).flatten()
    stay = top(ranked, kept - count)
    grown = top(torch.where(mask.flatten(), -torch.inf, scores.flatten()), count)
    return (stay | grown).view_as(mask)
