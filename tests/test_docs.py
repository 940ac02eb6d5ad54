"""What is written about kernels: none is left out, and none is made up."""

import re
from pathlib import Path

from suite.kernel import KERNELS
from suite.op import OPS, discover_parts
from suite.registry import discover

discover_parts()
discover(folders=("kernels",))

TOLD = (Path(__file__).parent.parent / "docs" / "kernels.md").read_text(encoding="utf-8")


def test_every_kernel_is_told_of_once():
    ours = {name for name, one in KERNELS.items() if one.prepare.__module__.startswith("suite.kernels.")}
    rows = re.findall(r"^\| `(\w+)` \|", TOLD, re.MULTILINE)
    assert ours - set(rows) == set()
    assert len(rows) == len(set(rows))


def test_every_kernel_that_is_named_is_there():
    named = re.findall(rf"`((?:{'|'.join(OPS)})_\w+)`", TOLD)
    assert set(named) - set(OPS) <= set(KERNELS)
