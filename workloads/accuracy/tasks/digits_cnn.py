"""Digits, convolutional: two layers of 3 x 3, so small that it has little to spare."""

from torch import nn

from suite.task import task
from suite.workloads.accuracy.digits import PROTOCOL, Digits
from suite.workloads.accuracy.grid import middle


@task(protocol=PROTOCOL, metric="accuracy", patterns=middle, later=("*-evopress",), toy=True)
class digits_cnn(Digits):
    """Handwritten digits, two convolutions of 8 and 16 channels and a linear layer."""

    batch, steps, rate, decay = 128, 300, 1e-2, 1e-2

    def model(self, width=1.0):
        first, second = max(1, round(8 * width)), max(1, round(16 * width))
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * second, 10),
        )
