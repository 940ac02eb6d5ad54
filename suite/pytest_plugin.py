"""pytest's side: the fixture `sparse_benchmark`, and samples of ours in pytest-benchmark's tables and files.

    def test_mine(sparse_benchmark):
        held = mine.convert(a)
        found = sparse_benchmark(lambda b: mine.multiply(held, b), a, b, holds=(held,))
        assert found.speed_up > 1

    def test_gradient(sparse_benchmark):     # any op, with all of its operands; the call takes the live ones
        sparse_benchmark(lambda dy, x: mine.gradient(held, dy, x), mask, dy, x, op="sddmm", holds=(held,))

    pytest --benchmark-only --benchmark-json head.json
    pytest --benchmark-only --pyargs suite.benchmarks        the registry's own kernels

pytest-benchmark reads a clock before and after a call. Ours stands still but for what a call took, as our
own timers tell it: cold operands, events on a GPU, and no precision to calibrate. Nothing heavy is imported
before a test asks for the fixture, for this is loaded wherever sparsemark is installed.
"""

from typing import TYPE_CHECKING, Any

import pytest

from suite.clock import Clock

if TYPE_CHECKING:
    from suite.sampled import SparseBenchmark

FIXTURE = "sparse_benchmark"
OPTION = "sparsemark"
USED = pytest.StashKey[bool]()  # whether any test asked for the fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(OPTION, "sparsemark")
    group.addoption("--sparsemark-workload", nargs="+", default=[], action="extend", metavar="NAME")
    group.addoption("--sparsemark-extent", choices=("smoke", "default", "full"), default="smoke")
    group.addoption("--sparsemark-kernels", default="*", metavar="GLOB")
    group.addoption("--sparsemark-plugin", nargs="+", default=[], action="extend", metavar="FILE")
    group.addoption("--sparsemark-device", metavar="cpu|cuda:N", help="default: the first GPU, else the CPU")
    group.addoption("--sparsemark-threads", type=int, metavar="N")
    group.addoption("--sparsemark-cache", choices=("cold", "hot"), default="cold")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for the fixture is timed by a clock of ours, whatever else its own marker says."""
    for item in items:
        if FIXTURE in getattr(item, "fixturenames", ()):
            own = item.get_closest_marker("benchmark")
            item.add_marker(
                pytest.mark.benchmark(**{**(own.kwargs if own else {}), "timer": Clock()}), append=False
            )


@pytest.fixture
def sparse_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> "SparseBenchmark":
    """Check, time and hold against the best dense kernel: `sparse_benchmark(call, *operands, op="spmm")`."""
    from suite.sampled import SparseBenchmark

    request.config.stash[USED] = True
    marker = request.node.get_closest_marker("benchmark")
    return SparseBenchmark(request, benchmark, marker.kwargs["timer"])


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """The device and the libraries, where anything of ours was measured."""
    if config.stash.get(USED, False):
        from suite.sampled import about

        machine_info[OPTION] = about(config)
