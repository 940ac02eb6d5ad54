"""Stream: what passes from block to block of a decoder: who writes it, and who reads it behind which norm.

Known by the names of modules, of the decoder here and of those of transformers that are built as Llama is.
Names do not say what is done with the numbers: whoever builds on them checks that.
"""

from dataclasses import dataclass

from torch import nn

from suite.kernel import Refused
from suite.workloads.accuracy.coupled import Hidden


@dataclass(frozen=True)
class Branch:
    """One way through a block: what it gives is added to the stream."""

    norm: str
    readers: tuple[str, ...]
    writer: str


@dataclass(frozen=True)
class Stream:
    """embed writes it first, then each block's branches in turn; head reads it behind norm."""

    embed: str
    blocks: str
    attention: Branch
    feed: Branch
    norm: str
    head: str

    def branches(self, model):
        """All of a model, in their order, by the names of its modules."""
        for at in range(len(model.get_submodule(self.blocks))):
            for one in (self.attention, self.feed):
                path = f"{self.blocks}.{at}."
                yield Branch(path + one.norm, tuple(path + name for name in one.readers), path + one.writer)

    def neurons(self, model):
        """The hidden channels of each block's feed-forward layer."""
        for one in list(self.branches(model))[1::2]:
            yield Hidden(one.readers, one.writer, model.get_submodule(one.writer).in_features, 1, 1)

    def fits(self, model):
        """Whether a model has all of these modules."""
        known = dict(model.named_modules())
        if not {self.embed, self.norm, self.head} <= known.keys() or not len(known.get(self.blocks, ())):
            return False
        branches = list(self.branches(model))
        layers = [known.get(name) for one in branches for name in (*one.readers, one.writer)]
        return all(isinstance(one, nn.Linear) for one in layers) and all(
            one.norm in known for one in branches
        )


OURS = Stream(
    embed="embed",
    blocks="blocks",
    attention=Branch("first", ("q", "k", "v"), "out"),
    feed=Branch("second", ("gate", "up"), "down"),
    norm="norm",
    head="head",
)
LLAMA = Stream(
    embed="model.embed_tokens",
    blocks="model.layers",
    attention=Branch(
        "input_layernorm",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.o_proj",
    ),
    feed=Branch("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
    norm="model.norm",
    head="lm_head",
)


def stream(model):
    """That of a model. Refused: it is built in another way."""
    for one in (OURS, LLAMA):
        if one.fits(model):
            return one
    name = type(model).__name__
    raise Refused(f"which layers of a {name} read and write what passes between its blocks is not known here")
