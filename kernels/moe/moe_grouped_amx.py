"""Grouped experts on AMX: what moe_grouped.py does with registers, with tiles of the processor.

Rows are brought near as tiles, so an expert's last tokens are filled up to sixteen there, and only there.

Bad at: experts of one or two tokens, for which a tile is mostly empty; weights that come from memory bound
both then.
"""

from pathlib import Path

from suite import native
from suite.kernel import Refused, kernel
from suite.kernels.moe import moe_grouped

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-mamx-tile", "-mamx-bf16")
ISA = ("avx512f", "amx_tile", "amx_bf16")


def load():
    """The source, if the system lets this process use tiles."""
    library = native.load(SOURCE, *FLAGS)
    if library.ask():
        raise Refused("the system does not let this process use AMX tiles; Linux does from 5.16 on")
    return library


@kernel(
    op="moe",
    on="cpu",
    dtypes=("bfloat16",),
    isa=ISA,
    refuse=lambda case, device: native.missing(),
    ids=("scattermoe",),
)
def moe_grouped_amx(route, up, down, x, logits):
    """Experts on scattered tokens, on AMX tiles, in C++."""
    return moe_grouped.prepare(load(), route, up, down, x)
