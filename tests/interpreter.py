"""Triton's interpreter in place of a GPU: kernels run on the host, program by program.

`TRITON_INTERPRET=1 python tests/interpreter.py DTYPE,... [PLUGIN ...]` examines the registry's Triton kernels
for products of matrices and tells a line of JSON for each trial: kernel, trial, outcome, note.
"""

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from time import process_time
from types import ModuleType

import numpy as np
import pytest
import torch

from suite.case import QUANTIZED, case
from suite.check import Wrong, check, question
from suite.conformance import Trial, cases_for, examine
from suite.kernel import KERNELS, imported, package
from suite.op import discover_parts
from suite.patterns.block import Block
from suite.patterns.butterfly import Butterfly
from suite.patterns.unstructured import Unstructured
from suite.registry import discover

PATIENCE = 10.0  # seconds of a processor for a kernel in a dtype; of a slow one tall trials are left out


class Interpreter:
    """A device of the kind "cuda" whose memory is the host's."""

    kind, spec, key, name = "cuda", "cuda:0", "interpreter", "Triton's interpreter"
    isa = frozenset({"sm_80", "sm_89", "sm_90"})
    threads, memory = 1, 2**34

    def place(self, operands):
        return tuple(operands)


def written_in_triton(kernel):
    """Whether a kernel, or a module of its own that it is made of, imports Triton."""
    names = kernel.prepare.__globals__
    own = (vars(module) for module in imported(names, package(kernel.prepare)).values())
    values = chain.from_iterable(each.values() for each in (names, *own))
    return any(isinstance(one, ModuleType) and one.__name__ == "triton" for one in values)


def multiplies(kernel):
    """Whether it is for a product with any sparse matrix; others have interpreter's scripts of their own.

    And so do weights of few bits.
    """
    any_matrix = kernel.op in ("spmm", "spmm_t", "sddmm") and not kernel.patterns
    return any_matrix and not set(kernel.dtypes) & set(QUANTIZED)


def large(op, dtype):
    """Trials beyond the usual ones: large blocks, several tiles, and sums that are split."""
    shape = {"m": 150, "k": 136, "n": 20}
    for pattern in (Block(64, 32, 0.5), Block(128, 128, 0.6), Block(48, 80, 0.7), Butterfly(32)):
        yield Trial(case(op, pattern, dtype, **shape))
    yield Trial(case(op, Block(32, 32, 0.5), dtype, m=96, k=100, n=1))
    yield Trial(case(op, Unstructured(0.5), dtype, m=5, k=60, n=300))
    if op == "spmm_t":
        yield Trial(case(op, Unstructured(0.0), dtype, m=2000, k=3, n=5))
    else:
        for n in (1, 5):
            yield Trial(case(op, Unstructured(0.5), dtype, m=3, k=2000, n=n), "one long row")


def few(kernel, dtype, turn):
    """Each shape, twist and kind of pattern once, at sparsities in turn; odd rows first, then few rows."""
    chosen = {}
    for trial in cases_for(kernel):
        kind = type(trial.case.pattern)
        if trial.case.dtype == dtype:
            sizes = trial.case.sizes if kind is Unstructured else ()
            chosen.setdefault((kind, trial.twist, sizes), []).append(trial)
    ordered = [group[(turn + at) % len(group)] for at, group in enumerate(chosen.values())]
    ordered += [trial for trial in large(kernel.op, dtype) if kernel.fits(trial.case)]
    return sorted(ordered, key=lambda trial: (trial.twist in ("", "signed zeros"), trial.case["m"]))


def deaf():
    """Why the interpreter itself does not work here, if so; Triton 3.6 does not know NumPy 2.4."""
    import triton
    import triton.language as tl

    @triton.jit
    def count(least, out):
        for _ in range(tl.load(least)):
            tl.store(out, tl.load(out) + 1)

    least, out = torch.tensor([3]), torch.tensor([4])
    try:
        count[(1,)](least, out)
    except Exception as failed:
        return f"Triton's interpreter does not run a loop here: {failed}"
    return "" if out.item() == 7 else "Triton's interpreter counts wrong here"


def mend():
    """Bfloat16 is bits to the interpreter: it would multiply those, and cuts off what it should round."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    dot, cast = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl

    def converted(self, one, to):
        kinds = one.dtype.scalar, to.scalar
        if kinds == (tl.bfloat16, tl.float32):
            return TensorHandle((one.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
        if kinds == (tl.float32, tl.bfloat16):
            return TensorHandle(torch.tensor(one.data).bfloat16().view(torch.uint16).numpy(), tl.bfloat16)
        return cast(self, one, to)

    def multiplied(self, left, right, *others):
        if left.dtype.scalar == tl.bfloat16:
            left, right = (converted(self, one, tl.float32) for one in (left, right))
        return dot(self, left, right, *others)

    InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot = converted, multiplied


def begin(*plugins):
    """What every script does first: it finds all kernels, or ends because the interpreter does not work."""
    torch.set_num_threads(1)
    if why := deaf():
        sys.exit(why)
    mend()
    discover_parts()
    discover([Path(plugin) for plugin in plugins], folders=("kernels",))


def answered(answer, of, operands):
    """What is wrong with an answer, if these were the operands of the case."""
    try:
        check(answer, question(of, operands))
    except Wrong as wrong:
        return str(wrong)
    return ""


def begun(script, *given):
    """A child that runs a script of this folder."""
    return subprocess.Popen(
        (sys.executable, Path(__file__).with_name(script), *map(str, given)),
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(child):
    """What it told, line by line. The test is skipped where the interpreter does not work."""
    out, err = child.communicate(timeout=600)
    if err.startswith("Triton's interpreter"):
        pytest.skip(err)
    assert child.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def main(dtypes, *plugins):
    begin(*plugins)
    ours = [one for one in KERNELS.values() if one.on == "cuda" and written_in_triton(one)]
    for kernel in filter(multiplies, ours):
        for dtype in (one for one in dtypes.split(",") if one in kernel.dtypes):
            began = process_time()
            for trial in few(kernel, dtype, len(dtype)):
                if process_time() - began < PATIENCE:
                    verdict = examine(kernel, trial, Interpreter())
                    said = (kernel.name, str(trial), verdict.outcome, verdict.note)
                    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
