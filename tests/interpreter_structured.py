"""Structured weights in Triton's interpreter: `TRITON_INTERPRET=1 python tests/interpreter_structured.py`.

A line of JSON for each question: kernel, what was asked, and what is wrong with the answer, if anything.
"""

import json

from interpreter import Interpreter, answered, begin

from suite.case import from_id
from suite.conformance import Trial, examine
from suite.kernel import KERNELS
from suite.op import make_operands

FACTORS, PARTS, TILES = "factored_triton", "sparse_low_rank_block_triton", "spmm_patch_triton"
NAMES = (FACTORS, PARTS, TILES)
CONTROL = "another weight than was given"
ASKED = {
    FACTORS: (  # one hidden number a slice, and more; blocks above a tile, and none of its multiples
        ("factored/m=64,k=64,n=17/monarch8x8/float32/seed=0", ""),
        ("factored/m=64,k=48,n=1/monarch2x4/float16/seed=0", "signed zeros"),
        ("factored/m=130,k=60,n=33/monarch3x10/float32/seed=1", ""),
        ("factored/m=200,k=140,n=5/monarch2x2/float16/seed=0", ""),
        ("factored/m=20,k=16,n=150/monarch4x4/float16/seed=0", ""),
        ("factored/m=8,k=4,n=3/monarch2x2/float32/seed=0", "signed zeros"),
    ),
    PARTS: (
        ("sparse_low_rank/m=64,k=64,r=3,n=17/butterfly16/float32/seed=0", ""),
        ("sparse_low_rank/m=130,k=70,r=8,n=5/butterfly32/float16/seed=0", "signed zeros"),
        ("sparse_low_rank/m=40,k=70,r=1,n=5/unstructured@0.9/float32/seed=0", "empty rows"),
    ),
    TILES: (  # both kinds, either alone, ragged edges, tiles that are cut, rows that keep nothing
        ("spmm/m=64,k=64,n=17/patch16x32@0.5/float32/seed=0", ""),
        ("spmm/m=130,k=70,n=5/patch32x16@0.5/float16/seed=0", "signed zeros"),
        ("spmm/m=130,k=70,n=33/patch48x80@0.7/float16/seed=0", ""),
        ("spmm/m=40,k=50,n=1/patch16x16@1/float32/seed=0", "empty rows"),
        ("spmm/m=40,k=50,n=16/patch16x16@0/float16/seed=0", ""),
    ),
}


def main():
    begin()
    for name in NAMES:
        for id, twist in ASKED[name]:
            trial = Trial(from_id(id), twist)
            print(json.dumps((name, str(trial), examine(KERNELS[name], trial, Interpreter()).note)))
        of = from_id(ASKED[name][0][0])
        *fixed, x = make_operands(of)
        others = make_operands(from_id(str(of).replace("seed=0", "seed=7")))[:-1]
        said = answered(KERNELS[name].prepare(*fixed, x).run(x), of, (*others, x))
        print(json.dumps((name, CONTROL, said)))


if __name__ == "__main__":
    main()
