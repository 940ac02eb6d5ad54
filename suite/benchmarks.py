"""Benchmarks: every kernel of the registry on every case that is planned, as pytest's tests.

pytest --benchmark-only --pyargs suite.benchmarks --sparsemark-workload nm --sparsemark-kernels "spmm_*"
"""

import pytest

from suite.commands import load
from suite.plan import plan
from suite.sampled import device_of, option


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each kernel on each case."""
    config = metafunc.config
    load(option(config, "plugin"))
    kind = device_of(config).kind
    chosen, extent, kernels = (option(config, name) for name in ("workload", "extent", "kernels"))
    items = plan(chosen, extent, kernels=kernels, device_kind=kind)
    pairs = [(item, name) for item in items for name in item.kernels]
    metafunc.parametrize(("item", "kernel"), pairs, ids=[f"{name}-{item.case}" for item, name in pairs])


def test_kernel(sparse_benchmark, item, kernel):
    sparse_benchmark.registered(item, kernel)
