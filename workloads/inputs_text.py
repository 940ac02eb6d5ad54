"""Inputs of sparse activations that are no drawing: what a trained model's layer makes of text.

The byte model is small: 128 numbers a token, 352 neurons. Its layers say what rules keep of real activations,
and what that does to the next byte; whether it pays is for larger ones to say. The text is that of the Python
that runs: rules learn from modules that the model learned from, and are asked about others.
"""

from functools import cache

from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, silu

from suite.inputs import inputs
from suite.op import generator
from suite.ops.actmm import SEED
from suite.registry import Unusable
from suite.studying.language import drawn
from suite.workloads.accuracy import library
from suite.workloads.accuracy.tasks.byte_lm import LENGTH, WEIGHTS, blank

BLOCK = 2  # of four: neither the first nor the last
APART = 8  # tokens between two that a case has


@cache
def trained():
    """The model."""
    model = blank()
    model.load_state_dict(load_file(WEIGHTS))
    return model.requires_grad_(False)


def at(case, of_all):
    """Of all bytes [windows, LENGTH, ...] those that are the tokens of a case: [n, ...], a view."""
    return of_all.flatten(0, 1)[APART - 1 :: APART][: case["n"]]


def hooked(case, register, look):
    """What the model says at the tokens of a case, with a hook on a layer, and the bytes that follow."""
    count = -(-case["n"] * APART // LENGTH)
    tokens, after = drawn(library.text(case.seed == SEED), count, LENGTH, generator(case, 1))
    hook = register(look)
    try:
        return at(case, trained()(tokens)), at(case, after)
    finally:
        hook.remove()


def judge(case, chosen, whole):
    """How the next bytes fare with these answers in the place of the layer's own.

    perplexity: over that with the whole answer; agreement: the share of likeliest bytes that stay.
    """
    block = trained().blocks[BLOCK]

    def said(answer):
        answer = answer.t().float()

        def instead(layer, given, made):
            at(case, made)[:] = answer if case.op == "actmm" else answer @ layer.weight.t()
            return made

        return hooked(case, block.down.register_forward_hook, instead)

    (mine, after), (dense, _) = said(chosen[1]), said(whole[1])
    return {
        "perplexity": float((cross_entropy(mine, after) - cross_entropy(dense, after)).exp()),
        "agreement": float((mine.argmax(1) == dense.argmax(1)).double().mean()),
    }


@inputs(ops=("actmm", "actmm_up"), judge=judge)
def text(case, source):
    """The third block of the byte model on source text, its tokens some way apart: SiLU, gated."""
    block = trained().blocks[BLOCK]
    layer = block.down if case.op == "actmm" else block.up
    if (case["m"], case["k"]) != layer.weight.shape:
        m, k = layer.weight.shape
        raise Unusable(f"{case}: {case.op} on text is m={m},k={k}, the byte model's own layer.")
    met = []
    hooked(case, block.second.register_forward_hook, lambda layer, given, made: met.append(at(case, made)))
    (x,) = met
    gate, weight = silu(block.gate(x)), layer.weight.clone()  # the model keeps its own
    if case.op == "actmm":
        return weight, (gate * block.up(x)).t().contiguous()
    return weight, x.t().contiguous(), gate.t().contiguous()
