"""Digits, perceptron: two hidden layers, as LeNet-300-100 has."""

from torch import nn

from suite.task import task
from suite.workloads.accuracy.digits import PROTOCOL, Digits
from suite.workloads.accuracy.grid import grid


@task(
    protocol=PROTOCOL,
    metric="accuracy",
    patterns=grid,
    later=("plain-pixelfly*",),
    toy=True,
    ids=("hidden-structures",),
)
class digits_mlp(Digits):
    """Handwritten digits, a perceptron with hidden layers of 300 and 100."""

    steps, rate, decay = 400, 2e-3, 1e-2

    def model(self, width=1.0):
        first, second = max(1, round(300 * width)), max(1, round(100 * width))
        return nn.Sequential(
            nn.Linear(64, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
        )
