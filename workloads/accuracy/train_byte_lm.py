"""Training of the byte LM: makes byte_lm.safetensors beside this file, from this Python's library alone.

    python -m suite.workloads.accuracy.train_byte_lm [FILE]

On one thread, so that sums come in one order: the same seed and text give the same weights on the same kind
of processor. About ten minutes where nothing else runs. A new file is a new version of the task.
"""

import math
import os
import platform
import sys
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from suite.studying.language import windows
from suite.workloads.accuracy import library
from suite.workloads.accuracy.tasks.byte_lm import LENGTH, WEIGHTS, blank

SEED = 0
STEPS, BATCH = 3600, 8  # windows of LENGTH bytes
RATE, WARM, DECAY = 3e-3, 100, 0.1
EVERY = 100  # steps between two words of how it goes


def trained():
    """The model after its steps, and the bits per byte that it was judged at."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model, learned, judged = blank(), library.text(True), library.text(False)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, (0.9, 0.95), weight_decay=DECAY, fused=True)
    began, total = perf_counter(), 0.0
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(step / WARM, (1 + math.cos(math.pi * step / STEPS)) / 2)
        loss = mean_loss(model, *windows(learned, torch.randint(len(learned) - LENGTH, (BATCH,)), LENGTH))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if step % EVERY == 0:
            bits = total / EVERY / math.log(2)
            print(f"{step}/{STEPS}  {bits:.3f} bits per byte  {perf_counter() - began:.0f} s", flush=True)
            total = 0.0
    return model, held_out_bits(model, judged)


def mean_loss(model, tokens, after):
    """In nats for each byte."""
    return cross_entropy(model(tokens).flatten(0, 1), after.flatten())


@torch.no_grad()
def held_out_bits(model, text):
    """Bits per byte over a whole text, window by window."""
    tokens, after = windows(text, torch.arange(0, len(text) - LENGTH, LENGTH), LENGTH)
    parts = zip(tokens.split(64), after.split(64), strict=True)
    total = sum(len(some) * mean_loss(model, some, later).item() for some, later in parts)
    return total / len(tokens) / math.log(2)


def main(file=WEIGHTS):
    """Train, and write the file."""
    model, bits = trained()
    about = {
        "text": library.fingerprint(),
        "python": platform.python_version(),
        "seed": SEED,
        "bytes seen": STEPS * BATCH * LENGTH,
        "bits per byte": f"{bits:.4f}",
    }
    weights = {name: one.half().contiguous() for name, one in model.state_dict().items()}
    save_file(weights, file, {name: str(one) for name, one in about.items()})
    print(f"{file}: {about}, {os.path.getsize(file)} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
