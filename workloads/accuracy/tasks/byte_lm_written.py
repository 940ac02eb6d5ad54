"""Byte LM, written: what the language model of bytes writes after prompts, against what it writes dense.

One wrong byte changes all that comes after it, which a loss on a given text does not see.
"""

import math

import torch
from torch.nn.functional import cross_entropy

from suite.patterns.chosen import Chosen
from suite.studying.language import drawn
from suite.task import task
from suite.workloads.accuracy import library
from suite.workloads.accuracy.tasks.byte_lm import byte_lm
from suite.workloads.accuracy.written import Checks, Log, Written

PROMPTS, PROMPT, WRITTEN = 32, 64, 48  # bytes


def patterns(extent, trained):
    """Of each token's neurons, in full studies alone: a model writes for some seconds."""
    return [*map(Chosen, (0.9, 0.75, 0.5))] if extent == "full" and not trained else []


@task(
    protocol=f"stdlib-{PROMPTS}x{PROMPT}-greedy{WRITTEN}",
    metric="agreement",
    patterns=patterns,
    methods=("corrected*", "sparse_alone"),
    toy=True,
    ids=("sirius",),
)
class byte_lm_written(byte_lm.problem):
    """Source text that a transformer of bytes writes: the share of bytes that the dense model writes too."""

    def __init__(self, seed):
        super().__init__(seed)
        generator = torch.Generator().manual_seed(seed)
        self.prompts, _ = drawn(library.text(False), PROMPTS, PROMPT, generator)
        self._texts = None  # that the dense model wrote

    @torch.no_grad()
    def measure(self, model, dense):
        found = super().measure(model, dense)
        if self._texts is None:
            self._texts, _ = self.texts(dense)
        texts, log = (self._texts, None) if model is dense else self.texts(model)
        found["agreement"] = (texts == self._texts).double().mean().item()
        found["bits per byte written"] = self.surprise(dense, texts)
        if isinstance(model, Written):
            found["weights read"] = model.density(log)
            found["bytes corrected"] = log.corrected / log.written
            found["bytes discarded"] = log.steps / log.written - 1
        return found

    def surprise(self, dense, texts):
        """Of the dense model, by what was written after the prompts: bits for each byte."""
        logits = dense(torch.cat((self.prompts, texts), 1))[:, PROMPT - 1 : -1]
        return cross_entropy(logits.flatten(0, 1), texts.flatten()).item() / math.log(2)

    def texts(self, model):
        """All of them, and what writing them took. A plain decoder writes with all of its neurons."""
        if not isinstance(model, Written):
            model = Written(model, model.blocks[0].gate.out_features, Checks())
        log = Log()
        return torch.stack([model.write(one, WRITTEN, log) for one in self.prompts]), log
