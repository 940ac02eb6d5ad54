"""Settings that must stand before torch is imported, and fixtures of several files."""

import os

import pytest

# Tests run beside each other and beside whatever else: threads that spin while they wait starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def one_thread():
    """For small models, which one thread trains faster."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
