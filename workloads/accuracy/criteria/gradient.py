"""Gradient: the weights whose removal changes the loss most, to first order.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019; at a fresh model this is
Lee et al., "SNIP: Single-shot Network Pruning", ICLR 2019. One measure for all layers, so a global ranking
means something. Of a model trained to the end the gradients are near nothing, and the ranking is noise.
"""

from suite.method import criterion


@criterion()
def gradient(layer):
    """Largest first-order change of the loss."""
    return (layer.weight * layer.gradient).abs()
