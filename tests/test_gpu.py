"""On a GPU: every kernel for one is right on every pattern. Without one all is skipped, with a reason."""

import pytest
import torch

from suite.conformance import cases_for, examine
from suite.cuda.device import Cuda
from suite.kernel import KERNELS
from suite.op import discover_parts
from suite.registry import discover

discover_parts()
discover(folders=("kernels",))

HERE = [one for one in KERNELS.values() if one.on == "cuda"]

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and a torch for CUDA that sees it"
)


@pytest.fixture(scope="module")
def device():
    made = Cuda()
    made.confine()
    return made


@pytest.mark.parametrize("one", HERE, ids=str)
def test_a_gpu_kernel_is_right_on_every_pattern(one, device):
    verdicts = [examine(one, trial, device) for trial in cases_for(one)]
    wrong = [
        f"{one.trial}: {one.outcome}: {one.note}" for one in verdicts if one.outcome in ("wrong", "broken")
    ]
    assert not wrong, "\n".join(wrong)
    if all(one.outcome == "refused" for one in verdicts):
        pytest.skip("; ".join(sorted({one.note for one in verdicts})))
