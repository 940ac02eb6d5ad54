"""Byte LM: a language model of bytes, trained on the source of Python's standard library.

The trained model is in byte_lm.safetensors; `python -m suite.workloads.accuracy.train_byte_lm` made it. The
text is that of the Python that runs, so nothing is downloaded; on another version than the model was trained
on, the dense model does a little worse, and scores are on curves of their own. Methods that begin with fresh
weights have far fewer steps than the trained model had: `plain` is dense and has as many.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from suite.patterns.block import Block
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.quantized import GROUP
from suite.studying.language import Language, drawn, windows
from suite.task import task
from suite.workloads.accuracy import library
from suite.workloads.accuracy.decoder import Decoder

WEIGHTS = Path(__file__).parent.parent / "byte_lm.safetensors"
LENGTH = 256
CALIBRATED = 48  # windows that criteria see
BATCH = 8  # windows, of a step
PART = 6  # of them in a batch
JUDGED = 24  # windows

BYTES = 256
DIM, DEPTH, HEADS, HIDDEN = 128, 4, 4, 352
METHODS = (
    *("*-uniform", "*-uniform-dsnot", "*-uniform-compensate"),
    *("magnitude-global", "magnitude-erk", "gradient-global"),
    *("w2", "w4", "*-gqsa", "*-eora", "*-plain_svd", "*-maskllm", "*-finetune", "*-squarehead", "*-distill"),
    *("*-lora", "*-sparselora", "*-lora_at_random", "*-s2ft", "*-s2ft_at_random"),
    *("slicegpt", "sliced_at_random", "cfsp", "cfsp_uniform", "neurons_at_random"),
    *("*-static", "*-set", "*-rigl", "*-ste", "*-sr_ste", "*-gradual", "*-wide", "plain-narrow"),
)


def blank(width=1.0):
    """The model before it is trained. One of another width has as many times its weights as width squared.

    Heads have an even size, so its dimensions come in steps; hidden neurons make up for what they are off.
    """
    dim = 2 * HEADS * max(1, round(width * DIM / HEADS / 2))
    weights = width**2 * (4 * DIM**2 + 3 * DIM * HIDDEN)
    hidden = max(1, round((weights - 4 * dim**2) / (3 * dim)))
    return Decoder(tokens=BYTES, dim=dim, depth=DEPTH, heads=HEADS, hidden=hidden)


def patterns(extent, trained):
    """Few where something is trained, and in full studies alone: that takes half a minute for each."""
    if trained:
        return [NofM(2, 4), Unstructured(0.7), Unstructured(0.5)] if extent == "full" else []
    if extent == "smoke":
        return [Unstructured(0.5), NofM(2, 4)]
    chosen = [*map(Unstructured, (0.5, 0.7, 0.6, 0.4, 0.8, 0.2)), NofM(2, 4)]
    if extent == "full":
        chosen += [NofM(4, 8), *map(Unstructured, (0.1, 0.3, 0.9)), Block(1, GROUP, 0.5), Block(1, 16, 0.5)]
    return chosen


@task(
    protocol=f"stdlib-bytes{BYTES}-judged{JUDGED}x{LENGTH}-stride{LENGTH}-calibrated{CALIBRATED}x{LENGTH}",
    metric="bits per byte",
    better="lower",
    patterns=patterns,
    methods=METHODS,
    toy=True,
    ids=("essential-sparsity",),
)
class byte_lm(Language):
    """Source text, a transformer of four blocks, width 128 and 0.9 million weights; the head stays dense."""

    metric = "bits per byte"
    steps, rate = 80, 1e-3  # of what goes on from the trained model
    anew = 60, 1e-3

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        learned = drawn(library.text(True), CALIBRATED, LENGTH, generator)
        judged = drawn(library.text(False), JUDGED, LENGTH, generator, in_order=True)
        super().__init__(f"stdlib-{library.fingerprint()}", learned, judged)

    def model(self, width=1.0):
        return blank(width)

    def dense(self):
        model = blank()
        model.load_state_dict(load_file(WEIGHTS))
        return model

    def after(self, model, tokens):
        return model.after(tokens)

    def batches(self, generator):
        text = library.text(True)
        while True:
            yield windows(text, torch.randint(len(text) - LENGTH, (BATCH,), generator=generator), LENGTH)

    def calibration(self):
        return list(zip(*(one.split(PART) for one in self.learned), strict=True))

    def layers(self, model):
        return {name: one for name, one in super().layers(model).items() if name != "head"}

    def told(self, nats):
        return nats / math.log(2)
