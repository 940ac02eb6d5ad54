"""Settings that must stand before torch is imported, and fixtures of several files."""

import os

import pytest
from hypothesis import settings

# Tests run beside each other and beside whatever else: threads that spin while they wait starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


# A change is judged on the examples that the one before it was judged on; others are looked for with
# `pytest --hypothesis-profile=default`.
settings.register_profile("alike", derandomize=True)
settings.load_profile("alike")


@pytest.fixture
def one_thread():
    """For small models, which one thread trains faster."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
