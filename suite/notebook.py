"""Notebook: a case measured in this process, with a function from a cell beside the registry's kernels."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch

from suite import devices
from suite.case import Case, from_id
from suite.kernel import KERNELS, Kernel, kernel
from suite.measure import Effort
from suite.op import discover_parts
from suite.reading import frame
from suite.reading.about import NOTEBOOK
from suite.registry import discover, pick
from suite.visit import Visit

Kernels = Sequence[str | Kernel | Callable[..., Any]]


def run(
    case: Case | str,
    kernels: Kernels = (),
    *,
    visits: int = 3,
    cache: str = "cold",
    seconds: float = 0.2,
    device: str = devices.CPU,
) -> pd.DataFrame:
    """Measure `kernels` (functions, Kernels or names) against the dense baselines of a case.

    A function is a prepare: it takes all operands and returns the call to be timed. The rows are those of
    `read`. There is no isolation here: a crash is the notebook's, and visits share one process, so
    differences between processes are not in the intervals.
    """
    discover_parts()
    discover()
    point = from_id(case) if isinstance(case, str) else case
    chosen = [one for one in KERNELS.values() if one.dense and "default" in one.extents]
    for one in kernels:
        chosen.append(as_kernel(one, point))
    place = devices.find_one(device)
    lines, before = [], torch.get_num_threads()
    torch.set_num_threads(place.threads)  # as the lines say; a child would be pinned as well
    for number in range(1, visits + 1):
        fitting = [one for one in dict.fromkeys(chosen) if one.on == place.kind and one.fits(point)]
        random.Random(number).shuffle(fitting)
        visit = Visit(place, number, cache, Effort(cap=seconds))
        lines += visit.results(NOTEBOOK, point, fitting)
    torch.set_num_threads(before)
    return frame.from_lines(lines)


def as_kernel(one: str | Kernel | Callable[..., Any], case: Case) -> Kernel:
    """A name, a Kernel, or a bare prepare function, which is taken to fit the case at hand."""
    if isinstance(one, Kernel):
        return one
    if isinstance(one, str):
        return pick("kernel", one, KERNELS)
    return kernel(op=case.op, dtypes=(case.dtype,), keep=False)(one)
