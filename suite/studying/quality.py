"""Quality: what is known of a model's answers beside its task's metric.

Logits are [examples, classes]. Each is exact on hand-made inputs, which its test holds it to.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BINS = 15  # of confidence
PARTS = 8  # of a text, one after the other
MORE = 0.05  # of the dense loss, by which a part may lose more and is still said to be spared


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
    return (gaps(logits.double(), labels).abs().sum() / len(labels)).item()


def gaps(logits: Tensor, labels: Tensor) -> Tensor:
    """[BINS]: of the examples in each bin of confidence how many more are right than was to be expected."""
    confidence, said = logits.softmax(1).max(1)
    right = (said == labels).double()
    at = (confidence * BINS).long().clamp(max=BINS - 1)
    return torch.zeros(BINS, dtype=torch.double).index_add(0, at, right - confidence)


class Foretold:
    """How well a model says what comes next in a text, beside the dense model: window by window, in order.

    Logits of windows, [windows, length, tokens], are looked at and let go: those of a text may fill a memory.
    dense: the same of the dense model; None: this is the dense model.
    """

    def __init__(self, dense: "Foretold | None" = None) -> None:
        self.losses: list[float] = []  # of each window, in nats for each token
        self.before = self.losses if dense is None else dense.losses
        self._agreed = self._apart = 0.0
        self._tokens = self._compared = 0
        self._gaps = torch.zeros(BINS, dtype=torch.double)

    def add(self, logits: Tensor, after: Tensor, dense: Tensor | None) -> None:
        """The next windows, what came after each token, and the dense model's logits if they are known."""
        said, labels = logits.flatten(0, 1), after.flatten()
        each = functional.cross_entropy(said, labels, reduction="none").view(after.shape)
        self.losses.extend(each.mean(1, dtype=torch.double).tolist())
        self._tokens += len(labels)
        self._gaps += gaps(said, labels)
        if dense is not None:
            before = dense.flatten(0, 1)
            self._compared += len(labels)
            self._agreed += int((said.argmax(1) == before.argmax(1)).sum())
            self._apart += max(0.0, kl(said, before).sum(dtype=torch.double).item())

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    @property
    def parts(self) -> list[tuple[float, float]]:
        """Of neighbouring windows: the loss, and the dense model's."""
        return list(zip(_parts(self.losses), _parts(self.before), strict=True))

    def quality(self) -> dict[str, float]:
        """What a Score's quality says of it in no unit, or in nats."""
        spared = [now <= (1 + MORE) * before for now, before in self.parts]
        return {
            "agreement": self._agreed / self._compared,
            "kl": self._apart / self._compared,
            "calibration error": (self._gaps.abs().sum() / self._tokens).item(),
            f"parts within {MORE:.0%}": sum(spared) / len(spared),
        }


def _parts(losses: Sequence[float]) -> list[float]:
    """The mean of each of PARTS parts, or of as many as there are windows."""
    parts = torch.tensor(losses, dtype=torch.double).tensor_split(min(PARTS, len(losses)))
    return [part.mean().item() for part in parts]


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


def gini(weights: Tensor) -> float:
    """Gini's index of sizes: 0 where all are equal, 1 - 1/d where one of d has everything.

    Hurley and Rickard, "Comparing Measures of Sparsity", 2009: the order of sparseness it gives keeps to all
    six rules they ask of one.
    """
    sizes = np.sort(weights.abs().numpy())  # torch's sort would bring the places of all weights with it
    below = np.arange(len(sizes) - 0.5, 0, -1) @ sizes.astype(np.float64) / len(sizes)
    return max(0.0, float(1 - 2 * below / sizes.sum(dtype=np.float64)))


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
