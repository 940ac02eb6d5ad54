"""CIFAR-10 from a folder: 60,000 photographs of 32 x 32 in ten classes, in the binary version of its authors.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A file is records of a label's byte
and 3,072 bytes of pixels: the red plane, the green, the blue, row by row. Files of the version for Python are
pickles, which can run whatever a stranger put into them; they are not read.
"""

import hashlib
from functools import cache

import numpy as np
import torch
from torch import nn

from suite.registry import Unusable
from suite.task import task
from suite.workloads.accuracy.classifier import Classifier
from suite.workloads.accuracy.grid import coarse

LEARNED, JUDGED = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"
CLASSES, SHAPE = 10, (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes


@task(protocol="cifar10-learned5-judged1", metric="accuracy", patterns=coarse, toy=True, folder=True)
class cifar10(Classifier):
    """Photographs in ten classes, three convolutions of 16, 32 and 64 channels, seen about once."""

    steps, rate, decay = 800, 3e-3, 1e-2

    def __init__(self, folder, seed):
        learned, (x, y), data = read(folder)
        super().__init__(data, learned, (shares(x), y), seed)

    @classmethod
    def look(cls, folder):
        for name in (*LEARNED, JUDGED):
            if not (folder / name).is_file():
                pickled = (folder / name).with_suffix("").is_file()
                raise Unusable(
                    f"--data {folder}: there is no {name}. Name the folder of CIFAR-10's binary version"
                    f"{'; the one for Python is pickles, which are not read' if pickled else ''}."
                )
            size = (folder / name).stat().st_size
            if not size or size % RECORD:
                raise Unusable(f"--data {folder}: {name} is {size} bytes, not records of {RECORD}.")
            if (label := int(np.memmap(folder / name, np.uint8, "r")[::RECORD].max())) >= CLASSES:
                raise Unusable(f"--data {folder}: {name} has a label {label}, and classes are 0 to 9.")

    def batches(self, generator):
        for x, y in super().batches(generator):
            yield shares(x), y

    def calibration(self):
        return [(shares(x), y) for x, y in super().calibration()]

    def model(self, width=1.0):
        first, second, third = (max(1, round(channels * width)) for channels in (16, 32, 64))
        return nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * third, CLASSES),
        )


def shares(pixels):
    """Bytes as numbers between 0 and 1."""
    return pixels.float() / 255


@cache
def read(folder):
    """Images, uint8[images, 3, 32, 32], with labels to learn from and to be judged on; the data's name."""
    parts = [(folder / name).read_bytes() for name in (*LEARNED, JUDGED)]
    made = hashlib.sha256()
    for part in parts:
        made.update(part)
    return records(b"".join(parts[:-1])), records(parts[-1]), f"cifar10-{made.hexdigest()[:8]}"


def records(held):
    """Images and labels of a file's bytes."""
    rows = torch.frombuffer(bytearray(held), dtype=torch.uint8).view(-1, RECORD)
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0].long()
