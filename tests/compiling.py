"""Compiling without a GPU, for which a target is enough: what a kernel launches, and what that costs."""

import re
import subprocess
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from suite.op import OPS, make_operands

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
TARGETS = (80, 89, 90)
SHARED = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}  # bytes of shared memory that a program may have


class Target:
    """A driver that knows what it would run on, and nothing else."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self):
        return self.architecture  # what is compiled is kept by device

    def get_current_stream(self, device):
        return 0


def compiler(monkeypatch):
    """What tells what a kernel launches for a case, compiled for an architecture: each function once."""
    run = JITFunction.run

    def compiled(kernel, of, architecture, operands=None):
        made = []
        monkeypatch.setattr(driver, "_active", Target(architecture))

        def only_compile(function, *args, grid, warmup, **how):
            made.append(run(function, *args, grid=grid, warmup=True, **how))
            return made[-1]

        monkeypatch.setattr(JITFunction, "run", only_compile)
        operands = operands or make_operands(of)
        live = OPS[kernel.op].live
        kernel.prepare(*operands).run(*(operands[at] for at in live))
        return made

    return compiled


def resources(binary, folder):
    """Registers, and bytes of stack, of the only function in a cubin."""
    file = folder / "one.cubin"
    file.write_bytes(binary)
    told = subprocess.run((CUOBJDUMP, "-res-usage", file), capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", told)[-1]
    return int(registers), int(stack)
