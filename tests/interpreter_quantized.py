"""Weights of few bits in Triton's interpreter: `TRITON_INTERPRET=1 python tests/interpreter_quantized.py`.

A line of JSON for each question: kernel, what was asked, and what is wrong with the answer, if anything.
"""

import json

from interpreter import Interpreter, answered, begin

from suite.case import from_id
from suite.conformance import Trial, examine
from suite.kernel import KERNELS
from suite.op import make_operands

CONTROL = "another weight than was given"
TILED = (  # parts; several tiles of either kind; words of bits, and a ragged last group; nothing kept
    ("m=48,k=64,n=8/unstructured@0.5", "signed zeros"),
    ("m=140,k=70,n=65/unstructured@0.5", "empty rows"),
    ("m=20,k=2100,n=3/block1x32@0.5", ""),
)
VECTORS = (  # rows that are split; columns of 8 and of 16 bits; rows of nothing, of one group, of all
    ("m=5,k=8192,n=1/block1x32@0.5", ""),
    ("m=3,k=8250,n=1/unstructured@0.5", "one long row"),
    ("m=40,k=320,n=1/block1x32@0.9", "empty rows"),
    ("m=17,k=33,n=1/unstructured@0", "signed zeros"),
)
ENDS = (("m=1,k=1,n=1/unstructured@1", ""), ("m=3,k=40,n=2/unstructured@1", ""))
W4, W2 = "spmm_quantized_triton_w4", "spmm_quantized_triton_w2"
EVERY_W4, EVERY_W2 = "spmm_dense_quantized_triton_w4", "spmm_dense_quantized_triton_w2"
ASKED = {
    W4: (*TILED, *VECTORS, *ENDS),
    W2: (*TILED[1:], *VECTORS[:2]),
    EVERY_W4: (*TILED[1:], *VECTORS[1:3]),
    EVERY_W2: (*TILED[:1], *VECTORS[:1], *ENDS),
}


def main():
    begin()
    for name, asked in ASKED.items():
        one = KERNELS[name]
        for told, twist in asked:
            trial = Trial(from_id(f"spmm/{told}/{one.dtypes[0]}/seed=0"), twist)
            print(json.dumps((name, str(trial), examine(one, trial, Interpreter()).note)), flush=True)
        for n in (1, 3):
            of = from_id(f"spmm/m=30,k=96,n={n}/block1x32@0.5/{one.dtypes[0]}/seed=0")
            a, b = one.arrange(make_operands(of), (1,))
            other, _ = make_operands(from_id(str(of).replace("seed=0", "seed=7")))
            said = answered(one.prepare(a, b).run(b), of, (other, b))
            print(json.dumps((name, f"{CONTROL} at {n}", said)), flush=True)


if __name__ == "__main__":
    main()
