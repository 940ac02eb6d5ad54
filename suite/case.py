"""Case: one point to measure. Frozen, hashable; prints as its own id, and the id parses back.

spmm/m=4096,k=4096,n=64/unstructured@0.9/float32/seed=0
spmm/m=23133,k=23133,n=64/given/float32/seed=0/data=ca-CondMat.mtx-1f3a9c02
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from suite.pattern import Pattern, parse
from suite.registry import Unusable

TFLOAT32 = "tfloat32"  # float32 in memory, with the 10 bits of mantissa that a TF32 product keeps
FLOAT8 = "float8_e4m3fn"  # 3 bits of mantissa, up to 448 times one scale a tensor
INT8 = "int8"  # whole numbers up to 127 times one scale a tensor
W4A16, W2A16 = "w4a16", "w2a16"  # weights of 4 or 2 bits and scales (suite.quantized), all else in bfloat16
DTYPES = {
    "float32": torch.float32,
    TFLOAT32: torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    FLOAT8: torch.float8_e4m3fn,
    INT8: torch.int8,
    W4A16: torch.bfloat16,
    W2A16: torch.bfloat16,
}
QUANTIZED = {W4A16: 4, W2A16: 2}  # bits of a weight
UNPACKED = "bfloat16"  # which has what they stand for, exactly
# What a stored 1 stands for, in every tensor of such numbers: standard normal ones then fill their range.
SCALES = {torch.float8_e4m3fn: 2.0**-6, torch.int8: 2.0**-5}

REGIMES = ((16, "decode"), (256, "small batch"), (float("inf"), "prefill"))
TOKENLESS = "any size"  # the regime of work that has no tokens


def regime_of(n: int) -> str:
    """What a number of tokens a call is called."""
    return next(name for most, name in REGIMES if n <= most)


def multiplied_as(dtype: str) -> str:
    """The dtype in which such numbers are multiplied: of weights of few bits, that of what they stand for."""
    return UNPACKED if dtype in QUANTIZED else dtype


def answer_of(dtype: torch.dtype) -> torch.dtype:
    """What a product of such numbers is given in: of those with a scale, bfloat16."""
    return torch.bfloat16 if dtype in SCALES else dtype


def largest_of(dtype: torch.dtype) -> float:
    """The largest number of a dtype, whose negative it has too."""
    return (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max


def stored(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers as a dtype with a scale has them; those beyond its range at its end.

    A whole number is 0 where the number is: what would round to it is away from zero, or one nonzero in
    eighty would be a zero that is stored.
    """
    most = largest_of(dtype)
    made = (numbers / SCALES[dtype]).clamp(-most, most)
    if not dtype.is_floating_point:
        return made.round().where(made.abs() > 0.5, made.sign()).to(dtype)
    return (made.to(dtype).float() + 0.0).to(dtype)  # what rounds to zero has no sign


def is_layer(data: str) -> bool:
    """Whether this names a tensor of a checkpoint: "tiny:model.layers.0.mlp.up_proj.weight-1f3a9c02"."""
    return data.count(":") == 1


@dataclass(frozen=True)
class Case:
    """Op, sizes, pattern, dtype, seed and, unless the operands are drawn, the data they come from."""

    op: str
    sizes: tuple[tuple[str, int], ...]
    pattern: Pattern
    dtype: str
    seed: int = 0
    data: str = field(default="", kw_only=True)  # the id of a file's matrix, see suite.sources

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise Unusable(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}.")
        if self.seed < 0:
            raise Unusable(f"seed {self.seed} is negative; seeds are 0 and above.")

    def __getitem__(self, size: str) -> int:
        return self.extent[size]

    @cached_property
    def extent(self) -> Mapping[str, int]:
        """Sizes by name."""
        return dict(self.sizes)

    @property
    def of_file(self) -> bool:
        """Whether its matrix is a file's. Of a layer of a checkpoint the pattern may be known, too."""
        return self.pattern.given or is_layer(self.data)

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]

    @property
    def answer_dtype(self) -> torch.dtype:
        """That of the answer."""
        return answer_of(self.torch_dtype)

    @property
    def weight_bits(self) -> int:
        """Bits of a number of the sparse matrix."""
        return QUANTIZED.get(self.dtype, 8 * self.torch_dtype.itemsize)

    def cast(self, numbers: Tensor) -> Tensor:
        """Numbers as the case's dtype has them; where it has a scale, those beyond its range at its end.

        Weights of few bits are not told by each alone: suite.quantized.
        """
        if self.torch_dtype in SCALES:
            return stored(numbers, self.torch_dtype)
        made = numbers.to(self.torch_dtype)
        if self.dtype != TFLOAT32:
            return made
        return ((made.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)  # 13 bits less, to nearest

    @property
    def regime(self) -> str:
        """How many tokens (any op's size n) a call has: decode 1-16, small batch 17-256, prefill above."""
        if "n" not in self.extent:
            return TOKENLESS
        return regime_of(self["n"])

    def with_sizes(self, **sizes: int) -> "Case":
        """The same case at other sizes."""
        return replace(self, sizes=tuple((name, sizes.get(name, size)) for name, size in self.sizes))

    def __str__(self) -> str:
        sizes = ",".join(f"{name}={size}" for name, size in self.sizes)
        data = f"/data={self.data}" if self.data else ""
        return f"{self.op}/{sizes}/{self.pattern}/{self.dtype}/seed={self.seed}{data}"


def case(
    op: str, pattern: Pattern, dtype: str = "float32", seed: int = 0, data: str = "", **sizes: int
) -> Case:
    """A Case with its sizes as keywords: `case("spmm", Unstructured(0.9), m=4096, k=4096, n=64)`."""
    return Case(op, tuple(sizes.items()), pattern, dtype, seed, data=data)


def from_id(text: str) -> Case:
    """The case that prints as `text`."""
    parts = text.split("/", 5)
    try:
        op, sizes, pattern, dtype, seed = parts[:5]
        pairs = [size.split("=") for size in sizes.split(",")]
        extent = tuple((name, int(size)) for name, size in pairs)
        number = int(seed.removeprefix("seed="))
    except ValueError:
        raise Unusable(
            f"case {text!r} is not an id. One looks like "
            "spmm/m=4096,k=4096,n=64/unstructured@0.9/float32/seed=0; `sparsemark list --cases` prints them."
        ) from None
    return Case(
        op, extent, parse(pattern), dtype, number, data=parts[5].removeprefix("data=") if parts[5:] else ""
    )
