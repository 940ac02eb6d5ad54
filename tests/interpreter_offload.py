"""Caches in a host's memory, in the interpreter: `TRITON_INTERPRET=1 python tests/interpreter_offload.py`.

A line of JSON for each question: kernel, what was asked, and what is wrong with the answer, if anything.
"""

import json

import torch
from interpreter import Interpreter, begin

from suite.case import from_id
from suite.commands import load
from suite.conformance import Trial, examine
from suite.selector import entries

MASKS = (
    ("decode_offload/n=2,h=4,g=2,t=96,d=32,b=16/unstructured@0.5/float16/seed=0", ""),
    ("decode_offload/n=1,h=6,g=2,t=96,d=48,b=4/unstructured@0.9/float32/seed=0", "empty rows"),
    ("decode_offload/n=1,h=3,g=3,t=70,d=64,b=10/unstructured@0.5/float32/seed=0", "one long row"),
)
CHOSEN = (("decode_offload/n=2,h=4,g=2,t=96,d=32,b=8/chosen@0.5/float32/seed=0", ""),)
ASKED = {
    "decode_offload_host": MASKS,
    "decode_offload_host_dense": MASKS[::2],
    "decode_offload_host+double_sparsity": CHOSEN,
    "decode_offload_host+shadow": CHOSEN,
}


def main():
    begin()
    load()
    torch.Tensor.pin_memory = lambda one: one  # pinned is what a host's memory is to a GPU that is there
    kernels = entries()
    for name, asked in ASKED.items():
        for case, twist in asked:
            verdict = examine(kernels[name], Trial(from_id(case), twist), Interpreter())
            print(json.dumps((name, case, verdict.outcome, verdict.note)), flush=True)


if __name__ == "__main__":
    main()
