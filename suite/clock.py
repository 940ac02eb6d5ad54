"""Clock: what pytest-benchmark takes the time by, where the time was taken already."""

from collections.abc import Iterator, Sequence


class Clock:
    """What pytest-benchmark takes the time by. It moves by one sample with each call."""

    def __init__(self) -> None:
        self.now = 0.0
        self._samples: Iterator[float] = iter(())

    def __call__(self) -> float:
        return self.now

    def load(self, samples: Sequence[float]) -> None:
        self._samples = iter(samples)

    def reset(self) -> None:
        """So that the difference of two readings is a sample to the last digit."""
        self.now = 0.0

    def tick(self) -> None:
        self.now += next(self._samples)
