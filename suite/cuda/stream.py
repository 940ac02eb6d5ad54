"""Stream: torch's current CUDA stream, as measuring needs it: moments in it, pauses, graphs, cold caches.

Everything that touches the hardware's clock goes through here, so that timers can be tested on a script.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

Call = Callable[[], Any]


class Mark(Protocol):
    """A moment in a stream."""

    def query(self) -> bool:
        """Whether the device has got there."""
        ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from here to another mark, once both are passed."""
        ...


class Stream:
    """The stream on which torch, and kernels that follow it, launch."""

    def __init__(self, index: int, l2: int, clock_hz: float) -> None:
        self.index = index
        self._clock = clock_hz
        self._filler = torch.ones(2 * l2 // 4, dtype=torch.int32, device=f"cuda:{index}")

    def mark(self) -> Mark:
        """Record where the stream is now."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        """Until the device has done all it was given."""
        torch.cuda.synchronize(self.index)

    def hold(self, seconds: float) -> None:
        """Keep the device busy without memory, so that the host gets ahead of it."""
        torch.cuda._sleep(int(seconds * self._clock))

    def flush(self) -> None:
        """Push everything out of L2: twice its size, written and then read."""
        self._filler.add_(1)
        self._filler.sum()

    def graph(self, calls: Sequence[Call]) -> tuple[Call, Any] | None:
        """What replays these calls as one launch, and the last one's answer; None where they cannot be.

        A call that waits for the device, or asks the driver for memory, cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            aside = torch.cuda.Stream(self.index)
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # what a first call on a stream sets up must not be recorded
                for call in calls:
                    call()
            torch.cuda.current_stream().wait_stream(aside)
            self.wait()
            with torch.cuda.graph(graph):
                answers = [call() for call in calls]
        except RuntimeError:
            self.wait()
            return None
        return graph.replay, answers[-1]

    def free(self) -> int:
        """Bytes of the device's memory that nobody has."""
        return torch.cuda.mem_get_info(self.index)[0]
