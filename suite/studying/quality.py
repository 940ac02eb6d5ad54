"""Quality: what is known of a model's answers beside its task's metric.

Logits are [examples, classes]. Each is exact on hand-made inputs, which its test holds it to.
"""

import torch
from torch import Tensor
from torch.nn import functional

BINS = 15  # of confidence


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of examples whose most likely class is right."""
    return (logits.argmax(1) == labels).double().mean().item()


def agreement(logits: Tensor, dense: Tensor) -> float:
    """The share of examples on which both models say the same, right or wrong."""
    return accuracy(logits, dense.argmax(1))


def divergence(logits: Tensor, dense: Tensor) -> float:
    """KL(dense || sparse): the mean over examples, in nats. 0 for the same probabilities."""
    return kl(logits.double(), dense.double()).mean().clamp(min=0).item()


def kl(logits: Tensor, dense: Tensor) -> Tensor:
    """KL(dense || sparse) of each example."""
    expected, got = dense.log_softmax(1), logits.log_softmax(1)
    return (expected.exp() * (expected - got)).sum(1)


def of_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """The accuracy on the examples of each class; not a number where there are none."""
    right = (logits.argmax(1) == labels).double()
    classes = logits.shape[1]
    return torch.bincount(labels, right, classes) / torch.bincount(labels, minlength=classes)


def calibration(logits: Tensor, labels: Tensor) -> float:
    """The expected calibration error: by how much confidence and accuracy differ, over bins of confidence."""
    confidence, said = logits.double().softmax(1).max(1)
    right = (said == labels).double()
    at = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS, dtype=torch.double).index_add(0, at, right - confidence)
    return (gaps.abs().sum() / len(labels)).item()


def classified(logits: Tensor, dense: Tensor, labels: Tensor) -> dict[str, float]:
    """All of these, as a Score's quality names them. The worst class is that which lost most to dense."""
    each, before = of_classes(logits, labels), of_classes(dense, labels)
    seen = ~each.isnan()
    return {
        "accuracy": accuracy(logits, labels),
        "agreement": agreement(logits, dense),
        "kl": divergence(logits, dense),
        "worst class": each[seen].min().item(),
        "worst class drop": (before - each)[seen].max().item(),
        "calibration error": calibration(logits, labels),
        "cross entropy": functional.cross_entropy(logits.double(), labels).item(),
    }


def pq_index(weights: Tensor, p: float = 0.5, q: float = 1.0) -> float:
    """How unequal the sizes of weights are, p < q: 0 where all are the same, towards 1 as fewer hold all.

    Diao et al., "Pruning Deep Neural Networks from a Sparsity Perspective", ICLR 2023. A weight of zero
    counts: leave out those that are pruned.
    """
    sizes = weights.double().abs().flatten()
    sizes = sizes / sizes.max()
    norms = [sizes.pow(one).sum().pow(1 / one).item() for one in (p, q)]
    return 1 - len(sizes) ** (1 / q - 1 / p) * norms[0] / norms[1]


def recovery(weights: dict[str, Tensor], planted: dict[str, Tensor]) -> dict[str, float]:
    """How well the places that hold nonzeros are those of a planted solution: precision, recall and F1."""
    kept = torch.cat([weight.ne(0).flatten() for weight in weights.values()])
    true = torch.cat([planted[name].flatten() for name in weights])
    hits = (kept & true).sum().item()
    precision, recall = hits / max(1, int(kept.sum())), hits / max(1, int(true.sum()))
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}
