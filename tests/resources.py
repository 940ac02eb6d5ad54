"""Resources: registers, stack and shared memory of each kernel in CUDA C++, for each architecture.

`python tests/resources.py` prints the table that docs/kernels.md keeps. It is read from the compiled files
themselves, which say in their section `.nv.info` what a function takes; shared memory is what the kernel's
`shared_bytes` asks for the tile that is in the function's name.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from suite.cuda import nvrtc
from suite.kernel import KERNELS

ARCHITECTURES = ("sm_80", "sm_89", "sm_90a")
TILE = re.compile(r"_(\d+(?:x\d+)*)(?:_ragged)?$")
FRAME_SIZE = 0x11  # attribute of .nv.info: symbol, bytes
REGISTERS = 0x2F  # symbol, count


@dataclass(frozen=True)
class Used:
    """What one function takes: registers a thread, and bytes of stack, which is where spilled ones go."""

    function: str
    registers: int
    stack: int


def used(cubin: Path) -> list[Used]:
    """Of each function in a compiled file."""
    content = cubin.read_bytes()
    sections = dict(sections_of(content))
    symbols = list(symbols_of(sections))
    found: dict[int, dict[int, int]] = {}
    at, info = 0, sections[".nv.info"]
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != 4:  # the value is in the size's place
            continue
        if attribute in (FRAME_SIZE, REGISTERS):
            symbol, value = struct.unpack_from("<II", info, at)
            found.setdefault(attribute, {})[symbol] = value
        at += size
    return sorted(
        (Used(symbols[one], count, found[FRAME_SIZE].get(one, 0)) for one, count in found[REGISTERS].items()),
        key=lambda one: one.function,
    )


def sections_of(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a 64-bit ELF's sections."""
    offset, size, count, names = (
        *struct.unpack_from("<Q", content, 0x28),
        *struct.unpack_from("<HHH", content, 0x3A),
    )
    headers = [struct.unpack_from("<IIQQQQIIQQ", content, offset + at * size) for at in range(count)]
    texts = headers[names]
    for name, kind, _, _, start, length, *_ in headers:
        begin = texts[4] + name
        yield (
            content[begin : content.index(b"\0", begin)].decode(),
            b"" if kind == 8 else content[start : start + length],
        )


def symbols_of(sections: dict[str, bytes]) -> Iterator[str]:
    """Names of the symbols, in order."""
    texts = sections[".strtab"]
    for name, *_ in struct.iter_unpack("<IBBHQQ", sections[".symtab"]):
        yield texts[name : texts.index(b"\0", name)].decode()


def compiler() -> str:
    """What the table is of."""
    return "NVRTC {}.{}".format(*nvrtc.version())


def table(sources: dict[str, Path]) -> Iterator[str]:
    """Lines of Markdown: of the function that takes least and of the one that takes most."""
    for name, source in sources.items():
        module = import_module(f"suite.kernels.{source.parent.name}.{name}")
        cells, spilled, shared = [], [], []
        for architecture in ARCHITECTURES:
            if not admitted(name, architecture):
                cells.append("")
                continue
            found = [one for one in used(nvrtc.cubin(source, architecture)) if tile(one)]
            cells.append(span([one.registers for one in found]))
            spilled += [one.stack for one in found]
            shared += [module.shared_bytes(*tile(one)) for one in found]
        yield f"| {name} | {' | '.join(cells)} | {max(spilled)} | {span(shared)} |"


def admitted(name: str, architecture: str) -> bool:
    """Whether a kernel's terms let it run there."""
    return all(one <= architecture for one in KERNELS[name].isa)


def tile(one: Used) -> tuple[int, ...]:
    """The sizes in a function's name: of a tile of the answer; none in that of one that only sums up."""
    found = TILE.search(one.function)
    return tuple(int(size) for size in found[1].split("x")) if found else ()


def span(numbers: list[int]) -> str:
    """The least and the most."""
    return f"{min(numbers)} to {max(numbers)}"


def main() -> None:
    """Print the table."""
    print(f"Registers a thread, bytes spilled, bytes of shared memory a block, by {compiler()}:\n")
    print(f"| kernel | {' | '.join(ARCHITECTURES)} | spilled | shared |")
    print(f"|{'---|' * (3 + len(ARCHITECTURES))}")
    kernels = Path(__file__).parent.parent / "kernels"
    for line in table({source.stem: source for source in sorted(kernels.rglob("*.cu"))}):
        print(line)


if __name__ == "__main__":
    main()
