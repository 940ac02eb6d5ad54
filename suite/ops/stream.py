"""stream: the product of spmm with a weight that does not stay: each call brings it from where it is kept.

Two ops of one contract, for two places to keep it: a disk, and memory other than that it is multiplied from.
A kernel keeps the weight in a form of its own, so bytes decide; all from there to the answer is timed.
"""

from dataclasses import replace

from suite.op import register
from suite.ops.spmm import SPMM

# An entropy coder may write even the values in fewer bytes than they fill.
STREAM_DISK = register(
    replace(SPMM, name="stream_disk", about="weights from disk", least_values=lambda case, operands: 0)
)
STREAM_MEMORY = register(
    replace(SPMM, name="stream_memory", about="weights from memory", least_values=lambda case, operands: 0)
)
