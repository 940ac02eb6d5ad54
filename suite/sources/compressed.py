"""Compressed: the tensors of checkpoints, also where weights are stored in parts, as compressed-tensors does.

    stored = Stored.of(Path("tiny-2of4"))
    for name in stored: stored.tensor(name)

A layer's weight is under its own name, `LAYER.weight`, whichever of these is in the files:

    weight                        as it is; whole numbers or 8 bits of floating point have a scale
    compressed, bitmask, shape    its nonzeros, row by row, and a bit for each place, the lowest first
    weight_packed, weight_shape   whole numbers of 2, 4 or 8 bits, an offset added, the first lowest in 32

`weight_scale` is one number, or one for each row, for so many columns of a row, or for each tile; a
`weight_zero_point` is taken off before. What is stored in any other way stays in its parts, and no weight is
there.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from suite.registry import Unusable
from suite.sources.reader import CHUNK

BITMASK = ("compressed", "bitmask", "shape")
PACKED = ("weight_packed", "weight_shape")
SCALE, ZERO, GROUPS = "weight_scale", "weight_zero_point", "weight_g_idx"
BESIDE = (SCALE, ZERO, GROUPS, "row_offsets")  # which follow from others, or are there for some
PER_WORD = {16: 2, 8: 4, 4: 8}  # numbers in 32 bits -> bits of each


class Stored:
    """The tensors of safetensors files, weights in parts under their own name. Unusable: they are none."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._at: dict[str, Path] = {}
        for file in files:
            with opened(file) as one:
                self._at |= dict.fromkeys(one.keys(), file)
        self._parts: dict[str, list[str]] = {}
        taken: set[str] = set()
        for layer in dict.fromkeys(name.rpartition(".")[0] for name in self._at):
            for main in (("weight",), BITMASK, PACKED):
                parts = [name for part in main if (name := f"{layer}.{part}") in self._at]
                if len(parts) == len(main):
                    parts += [name for part in BESIDE if (name := f"{layer}.{part}") in self._at]
                    self._parts[f"{layer}.weight"] = parts
                    taken.update(parts)
                    break
        self._parts |= {name: [name] for name in self._at if name not in taken}

    @classmethod
    def of(cls, folder: Path) -> "Stored":
        """All that lie in a folder."""
        return cls(sorted(folder.glob("*.safetensors")))

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, or of the weight that parts make."""
        first, _, last = self._parts[name][0].rpartition(".")
        if len(self._parts[name]) > 1 and last in (BITMASK[0], PACKED[0]):
            sizes = self._read(f"{first}.{(BITMASK if last == BITMASK[0] else PACKED)[-1]}")
            return tuple(map(int, sizes.flatten()))
        with opened(self._at[self._parts[name][0]]) as file:
            return tuple(file.get_slice(self._parts[name][0]).get_shape())

    def tensor(self, name: str) -> Tensor:
        """As it is stored; made whole, and in the dtype of its scale, where it is not stored as it is."""
        parts = {one.rpartition(".")[2]: self._read(one) for one in self._parts[name]}
        if len(parts) == 1:
            return next(iter(parts.values()))
        try:
            return whole(parts, self.shape(name))
        except (RuntimeError, ValueError, IndexError) as wrong:
            says = str(wrong).splitlines()[0].rstrip(".")
            raise Unusable(
                f"{name} is stored in {', '.join(parts)}, which do not fit each other: {says}. "
                "Copy or download it again."
            ) from None

    def content(self, name: str) -> Iterator[bytes]:
        """A tensor's own bytes, or those of its parts, whichever files they lie in."""
        for one in self._parts[name]:
            yield from raw(self._at[one], one)

    def _read(self, name: str) -> Tensor:
        with opened(self._at[name]) as file:
            return file.get_tensor(name)


def opened(file: Path) -> safe_open:
    """The file, whose header safetensors holds against its size."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError) as failed:
        says = str(failed).strip().rstrip(".")
        raise Unusable(
            f"{file} is not a safetensors file that can be read: {says}. Copy or download it again."
        ) from None


def raw(file: Path, name: str) -> Iterable[bytes]:
    """What the file says of a tensor, and its bytes, a piece at a time."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        entry = json.loads(opened.read(length))[name]
        first, last = entry["data_offsets"]
        yield f"{entry['dtype']} {entry['shape']}".encode()
        opened.seek(8 + length + first)
        for at in range(first, last, CHUNK):
            yield opened.read(min(CHUNK, last - at))


def whole(parts: dict[str, Tensor], shape: Sequence[int]) -> Tensor:
    """The weight that parts make, [m, k]. ValueError, RuntimeError, IndexError: they make none."""
    m, k = shape
    zero = parts.get(ZERO)
    if "bitmask" in parts:
        weight = scattered(parts["compressed"], parts["bitmask"], m, k)
    elif "weight_packed" in parts:
        words = parts["weight_packed"]
        bits = bits_of(words, k)
        weight = unpacked(words, bits, k)
        if zero is not None and zero.dtype == words.dtype:  # packed as well, but along the rows
            zero = unpacked(zero.t(), bits, m).t()
    else:
        weight = parts["weight"]
    if SCALE not in parts:
        return weight
    scale, groups, found = parts[SCALE], parts.get(GROUPS), weight.float()
    if zero is not None:
        found = found - spread(zero.float(), m, k, groups)
    return (found * spread(scale.float(), m, k, groups)).to(scale.dtype)


def scattered(values: Tensor, bits: Tensor, m: int, k: int) -> Tensor:
    """Values in the places whose bits are set, [m, k]; bits: uint8[m, k / 8]."""
    at = torch.arange(8, dtype=torch.uint8)
    mask = (bits.view(m, -1, 1) >> at & 1).view(m, -1)[:, :k].bool()
    numbers = values.flatten()
    if int(mask.sum()) != numbers.numel():
        raise ValueError(f"{numbers.numel()} values for {int(mask.sum())} places")
    made = torch.zeros(m, k, dtype=numbers.dtype)
    eight = numbers.element_size() == 1  # whose floating point torch does not put in places
    (made.view(torch.uint8) if eight else made)[mask] = numbers.view(torch.uint8) if eight else numbers
    return made


def bits_of(words: Tensor, k: int) -> int:
    """Of each of the k numbers that a row of words holds."""
    found = [bits for count, bits in PER_WORD.items() if -(-k // count) == words.shape[1]]
    if len(found) != 1 or words.dtype != torch.int32:
        raise ValueError(f"rows of {words.shape[1]} words of {words.dtype} for {k} numbers")
    return found[0]


def unpacked(words: Tensor, bits: int, count: int) -> Tensor:
    """So many whole numbers out of each row of words of 32 bits, int8[rows, count]."""
    at = torch.arange(0, 32, bits, dtype=torch.int32)
    numbers = (words[..., None] >> at) & ((1 << bits) - 1)
    return (numbers.flatten(1)[:, :count] - (1 << bits - 1)).to(torch.int8)


def spread(scale: Tensor, m: int, k: int, groups: Tensor | None) -> Tensor:
    """A scale for each weight, broadcast to [m, k]. groups: of each column; None: they follow each other."""
    if scale.numel() == 1:
        return scale.view(1, 1)
    scale = scale.view(m, -1) if scale.dim() == 1 else scale
    rows, columns = scale.shape
    if m % rows or k % columns:
        raise ValueError(f"{rows} x {columns} scales for {m} x {k} weights")
    tall = scale.repeat_interleave(m // rows, 0) if rows > 1 else scale
    if groups is not None and int(groups.min()) >= 0:
        return tall[:, groups.long()]
    return tall.repeat_interleave(k // columns, 1) if columns > 1 else tall
