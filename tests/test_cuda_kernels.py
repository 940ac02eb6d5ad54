"""Kernels in CUDA C++, run on the host by emulation: right answers, honest claims, nothing left to luck."""

import re
import shutil
from itertools import islice, pairwise
from pathlib import Path

import emulation
import numpy as np
import pytest
import resources
import torch
from emulation import Emulator, Host

from suite.case import case
from suite.check import check
from suite.claims import claims
from suite.conformance import Trial, cases_for, examine, posed
from suite.cuda import launch, nvrtc
from suite.formats import vectors
from suite.formats.fragments import fragments, tiles
from suite.formats.v_n_of_m import shared_columns, unshared
from suite.kernel import KERNELS, Refused, prepared, source
from suite.op import discover_parts, make_operands
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.patterns.v_n_of_m import VNofM
from suite.registry import discover
from suite.sparse import from_positions

discover_parts()
discover(folders=("kernels",))

from suite.kernels.spmm import blocks_cuda, spmm_superblock_cuda  # noqa: E402

SOURCES = {
    name: file
    for name, one in KERNELS.items()
    if one.on == "cuda" and (file := Path(one.prepare.__code__.co_filename).with_suffix(".cu")).is_file()
}
ARCHITECTURES = [
    (name, architecture)
    for name in SOURCES
    for architecture in resources.ARCHITECTURES
    if resources.admitted(name, architecture)
]
PATTERNS = {"spmm_vnm_cuda": VNofM(32, 2, 8)}  # what to take where any would do; else uniformly random
ORDERS = (0, 1, 2)  # of the threads: first ones first, last ones first, any
HOST = Host()

needs_gcc = pytest.mark.skipif(bool(emulation.unavailable()), reason="; ".join(emulation.unavailable()))
needs_nvrtc = pytest.mark.skipif(bool(nvrtc.uncompilable()), reason="; ".join(nvrtc.uncompilable()))


@pytest.fixture
def emulated(monkeypatch):
    """Launches run on the host, and what a GPU would take beside is not missed."""

    def use(order=0, processors=2, **how):
        made = Emulator(order, **how)
        monkeypatch.setattr(launch, "bind", made.bind)
        monkeypatch.setattr(launch, "processors", lambda device: processors)
        monkeypatch.setattr(nvrtc, "missing", list)
        return made

    return use


def of(name, n, dtype="bfloat16", m=40, k=600, pattern=None):
    """A case that the kernel takes."""
    return case("spmm", pattern or PATTERNS.get(name, Unstructured(0.7)), dtype, m=m, k=k, n=n)


def answer(name, trial):
    """The question, what was prepared, and its answer."""
    asked = posed(trial)
    made = prepared(KERNELS[name], asked.operands)
    made.run(asked.operands[1]).fill_(torch.nan)
    return asked, made, made.run(asked.operands[1])


@needs_gcc
@pytest.mark.parametrize("name", SOURCES)
def test_it_is_right_on_every_pattern(name, emulated):
    """On a seventh of the trials; `sparsemark check` on a GPU takes them all."""
    outcomes = []
    for number, trial in enumerate(islice(cases_for(KERNELS[name]), 0, None, 7)):
        emulated(ORDERS[number % len(ORDERS)])
        outcomes.append(examine(KERNELS[name], trial, HOST))
    wrong = [
        f"{one.trial}: {one.outcome}: {one.note}" for one in outcomes if one.outcome in ("wrong", "broken")
    ]
    assert not wrong, "\n".join(wrong)
    assert any(one.outcome == "ok" for one in outcomes)


@needs_gcc
@pytest.mark.parametrize("n", [1, 8, 9, 24, 40, 64, 130, 136])
@pytest.mark.parametrize("name", [name for name, file in SOURCES.items() if "mma_" in file.read_text()])
def test_tensor_cores_do_what_is_stated(name, n, emulated):
    """Every tile of the answer's width, whole and ragged; FLOPs are counted while it runs."""
    watch = emulated(n % 3)
    trial = Trial(of(name, n))
    if KERNELS[name].refusals(trial.case, HOST):
        pytest.skip("not its width")
    asked, made, got = answer(name, trial)
    check(got, asked)
    assert claims(made).executed == watch.flops // 2  # of two runs


@needs_gcc
@pytest.mark.parametrize("sparsity", [0.0, 0.02, 0.5, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_bits_and_values_are_right_at_any_density(sparsity, dtype, emulated):
    for processors in (1, 50):  # one block for all columns, and as many as there are steps
        emulated(processors=processors)
        asked, made, got = answer(
            "spmm_bitmap_cuda", Trial(of("", 8, dtype, 150, 333, Unstructured(sparsity)))
        )
        check(got, asked)
        assert made.note["shares"] == 1 or (processors > 1 and sparsity < 0.8)
    assert made.note["shares"] > 1 or sparsity > 0.5


@needs_gcc
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["spmm_smat_cuda", "spmm_vectors_cuda", "spmm_superblock_cuda"])
def test_a_long_row_of_blocks_is_cut_and_its_sums_gathered(name, order, emulated, monkeypatch):
    monkeypatch.setattr(blocks_cuda, "LEAST", 3)
    watch = emulated(order)
    asked, made, got = answer(name, Trial(of("", 24), "one long row"))
    check(got, asked)
    assert made.note["cut"] == 1 and len(watch.launches) == 2
    items = next(one for one in watch.launches[0].arguments if one.dim() == 2 and one.shape[1] == 4)
    lengths = items[:, 1:3].diff(dim=1).flatten()
    assert (lengths.diff() <= 0).all() and lengths.max() < 38  # all blocks of the long row


@needs_gcc
@pytest.mark.parametrize(
    ("m", "n", "algorithm"),
    [(64, 200, "64x128"), (200, 65, "128x128"), (200, 320, "128x128"), (260, 520, "128x256")],
)
def test_units_of_every_tile_are_dealt_out_to_lists(m, n, algorithm, emulated):
    for processors in (1, 3):  # copies run on from one unit into the next
        watch = emulated(processors, processors=processors)
        asked, made, got = answer("spmm_superblock_cuda", Trial(of("", n, "float16", m, 200)))
        check(got, asked)
        assert made.note["algorithm"] == algorithm and made.executed == watch.flops // 2
        units, starts, items = watch.launches[0].arguments[:3]
        tiles = -(-n // int(algorithm.split("x")[1]))
        assert len(set(map(tuple, units.tolist()))) == len(units) == len(items) * tiles == starts[-1]
        assert len(starts) - 1 == watch.launches[0].grid[0] <= len(units)


def test_lists_take_as_long_whatever_the_lengths():
    lengths = (3000 / np.arange(1, 400) ** 1.2).astype(int)  # the longest is a quarter of all
    most = max(blocks_cuda.LEAST, int(lengths.sum()) // 40)
    items, splits = blocks_cuda.items_of(np.concatenate(([0], lengths.cumsum())), most)
    assert (items[:, 2] - items[:, 1]).sum() == lengths.sum() and len(splits)
    units, starts = spmm_superblock_cuda.units_of(items, 1000, 256, 40)
    assert sorted(map(tuple, units.tolist())) == [
        (item, 256 * tile) for item in range(len(items)) for tile in range(4)
    ]
    spans = items[units[:, 0]]
    steps = -(-(spans[:, 2] - spans[:, 1]) // 4) + spmm_superblock_cuda.END
    load = np.add.reduceat(steps, starts[:-1])
    assert load.max() < 1.1 * load.mean()


def test_what_fetches_least_is_taken():
    width_of = spmm_superblock_cuda.width_of
    assert [width_of(128, n) for n in (1, 64, 65, 128, 129, 300, 4096)] == [64, 64, 128, 128, 256, 128, 256]
    assert [width_of(64, n) for n in (1, 65, 150, 4096)] == [64, 128, 64, 128]
    for height in (64, 128):  # two panels of 64 that share no columns, and two that share all
        mask = np.zeros((128, 256), bool)
        mask[:64, :128], mask[64:, 128 if height == 64 else 0 :] = True, True
        mask[64:, 128:] = height == 64
        rows, columns = mask.nonzero()
        starts, values = np.searchsorted(rows, np.arange(129)), torch.ones(len(rows))
        a = from_positions(starts, columns, values, mask.shape, Unstructured(0.5))
        assert spmm_superblock_cuda.superblocks(a)[1].values.shape == (16 if height == 64 else 8, height, 16)


def test_older_chips_are_told():
    class Older(Host):
        isa, name = frozenset({"sm_80", "sm_89"}), "an older GPU"

    said = KERNELS["spmm_superblock_cuda"].refusals(of("", 8), Older())
    assert "needs sm_90a, which an older GPU lacks" in said


@needs_gcc
@pytest.mark.parametrize(("v", "m"), [(16, 4), (16, 7), (32, 8), (48, 16), (64, 32), (128, 2)])
@pytest.mark.parametrize("n", [1, 2])
def test_shared_columns_of_any_m(v, n, m, emulated):
    for processors in (1, 100):  # high tiles and low ones
        emulated(processors=processors)
        trial = Trial(of("", 40, "float16", 135, 350, VNofM(v, n, m)))
        check(answer("spmm_vnm_cuda", trial)[2], posed(trial))


@needs_gcc
@pytest.mark.parametrize("pattern", [NofM(1, 4), NofM(2, 4), NofM(1, 16), NofM(2, 8)], ids=str)
def test_what_is_legal_as_2_of_4_runs_as_that(pattern, emulated):
    emulated()
    asked, made, got = answer("spmm_vnm_cuda", Trial(of("", 16, "bfloat16", 100, 90, pattern)))
    check(got, asked)
    assert claims(made).executed_pattern == (None if pattern == NofM(2, 4) else "2:4")


@needs_gcc
@pytest.mark.parametrize("n", [1, 8, 9, 64, 130, 136])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_compressed_rows_of_any_width(n, dtype, emulated):
    emulated(n % 3)
    asked, made, got = answer("spmm_csr_cuda", Trial(of("", n, dtype, 70, 90)))
    check(got, asked)
    a, columns = asked.operands[0], next(one for one in (8, 32, 64, 128) if n <= one or one == 128)
    assert made.executed == 2 * a.nonzeros * columns * -(-n // columns)
    assert made.metadata == a.nonzeros * 4 + 71 * 8 + 70 * 4


@needs_gcc
def test_bytes_are_those_of_the_formats(emulated):
    emulated()
    full = Trial(of("", 8, m=100, k=200, pattern=Unstructured(0.0)))
    made = answer("spmm_smat_cuda", full)[1]
    blocks, rows = 7 * 13, 7
    assert made.values == blocks * 256 * 2
    assert made.metadata == blocks * 16 * 4 + rows * (16 * 4 + 4 * 4)
    made = answer("spmm_vectors_cuda", full)[1]
    sixteens, windows = 13 * 13, 13
    assert made.values == sixteens * 128 * 2
    assert made.metadata == sixteens * 16 * 4 + windows * (8 * 4 + 4 * 4)
    made = answer("spmm_bitmap_cuda", full)[1]
    assert made.values == 100 * 200 * 2
    assert made.metadata == 112 * 256 // 8 + 7 * (4 + 1) * 8 + 64
    made = answer("spmm_superblock_cuda", full)[1]
    blocks, units = 13, 1  # of 128 rows, with one tile of 64 columns
    assert made.values == blocks * 128 * 16 * 2
    assert made.executed == 2 * blocks * 128 * 16 * 64
    assert made.metadata == blocks * 16 * 4 + 128 * 4 + units * (16 + 8) + (units + 1) * 4
    made = answer("spmm_vnm_cuda", Trial(of("", 8, m=100, k=200, pattern=VNofM(32, 2, 8))))[1]
    groups, bands = 32, 4  # of 25, as 16 are taken at once
    assert made.values == 112 * groups * 2 * 2
    assert made.metadata == 112 * groups * 2 * 2 // 8 + bands * groups * 4 * 4


# A copy of a source, broken in one place, must not pass.

BREAKS = {
    "no wait": ("cp_async_wait<STAGES - 2>();", ""),
    "no barrier": ("__syncthreads();  // this", "// this"),
    "no groups": ("cp_async_commit();", ""),
    "beyond the edge": ("row >= 0 && column < n", "row >= 0"),
    "rows that are none": ("row >= 0 && column < n", "column < n"),
    "lanes of the other matrix": ("lane / 16", "lane % 2"),
    "registers swapped": ("right_side[wide][0], right_side[wide][1]", "right_side[wide][1], 0"),
    "items beyond": ("block < last ? sources", "true ? sources"),
    "quarters swapped": ("half = part % 2", "half = part / 2"),
    "bits miscounted": ("(Word(1) << 2 * lane) - 1", "(Word(1) << 2 * lane)"),
    "pairs swapped": ("if (step == 0)", "if (step == 1)"),
    "halves swapped": ("near[wide][0], near[wide][1], far", "far[wide][0], near[wide][1], near"),
    "sides swapped": ("lane % 8 + lane / 16 * 8", "lane % 16"),
    "other rows' nonzeros": ("at + ahead, Lanes)", "at + ahead)"),
    "rows beyond": ("place < m ? order[place] : -1", "order[place]"),
    "products not waited for": ("wgmma_wait_all(sums);", ""),
    "products under way for too long": ("wgmma_wait<1>();", "wgmma_wait<2>();"),
    "copies that tensor cores do not see": ("      fence_proxy_async();\n", ""),
    "sums without a fence": ("wgmma_fence();\n#", "\n#"),
    "a stage too far ahead": ("AHEAD = STAGES - 2", "AHEAD = STAGES - 1"),
    "another phase": ("chunk ^ line % 8", "chunk ^ (line + 1) % 8"),
    "another swizzle": ("1ull << 62", "2ull << 62"),
    "another stride": ("= 8 * 128;", "= 8 * 64;"),
    "slabs too near": ("SLAB * 2, EIGHT_LINES", "SLAB, EIGHT_LINES"),
    "blocks beyond": ("if (here.block + each < here.last)", ""),
}
# Of a source whose functions take long to compile, what is left out, and a case for the others.
LESS = {
    "spmm_superblock_cuda": (r"^  EITHER\(NAME, NUMBER, (?!128, 128).*\n", of("", 72, m=200, k=240)),
}


def breaks():
    """What can be broken: each fault of a source or of its headers, those of a header by one kernel."""
    headers = set()
    for name, file in SOURCES.items():
        for part in nvrtc.parts(file):
            if part.name not in headers:
                yield from (
                    (name, part.name, fault) for fault, (old, _) in BREAKS.items() if old in part.read_text()
                )
            headers.add(part.name)


@needs_gcc
@pytest.mark.parametrize(("name", "file", "fault"), list(breaks()))
def test_a_broken_copy_is_caught(name, file, fault, emulated, tmp_path):
    for part in nvrtc.parts(SOURCES[name]):
        shutil.copy(part, tmp_path)
    copy, main = tmp_path / file, tmp_path / SOURCES[name].name
    copy.write_text(copy.read_text().replace(*BREAKS[fault]))
    left_out, asked = LESS.get(name, ("^$", of(name, 24)))
    shorter = re.sub(rf"^EVERY\(float\d.*|{left_out}", "", main.read_text(), flags=re.MULTILINE)
    main.write_text(shorter)
    emulation.library(main)  # it is no fault of the compiler's that is looked for

    def caught(order):
        emulated(order, processors=1, change=lambda _: main)
        return examine(KERNELS[name], Trial(asked), HOST).outcome in ("wrong", "broken")

    assert any(map(caught, ORDERS))


# What the compiler makes of them.


@needs_nvrtc
@pytest.mark.parametrize(("name", "architecture"), ARCHITECTURES)
def test_it_compiles_for_each_architecture_and_spills_next_to_nothing(name, architecture):
    found = resources.used(nvrtc.cubin(SOURCES[name], architecture))
    assert found and max(one.stack for one in found) <= 8  # a pair of registers, for one more block
    alone = KERNELS[name].isa == ("sm_90a",)  # a block of eight warps with a multiprocessor to itself
    assert max(one.registers for one in found) <= (
        255 if alone else 168
    )  # else three blocks of four share it


@needs_nvrtc
def test_the_compiler_lets_products_of_warpgroups_run_on(tmp_path):
    """Where it cannot tell that sums are left alone it waits for them itself, and says so."""
    source = SOURCES["spmm_superblock_cuda"]
    for part in nvrtc.parts(source):
        shutil.copy(part, tmp_path)
    copy = tmp_path / source.name
    left_out = r"^EVERY\(float.*|^  EITHER\(NAME, NUMBER, (?!128, 256).*\n"
    copy.write_text(re.sub(left_out, "", copy.read_text(), flags=re.MULTILINE))
    flags = (*nvrtc.OPTIONS, "--gpu-architecture=sm_90a")
    assert nvrtc.compiled(copy, flags)[1] == ""
    copy.write_text(copy.read_text().replace("wgmma_wait_all(sums);", "wgmma_wait<1>();"))
    assert "wgmma.wait_group is injected" in nvrtc.compiled(copy, flags)[1]


@needs_nvrtc
def test_the_table_of_resources_is_true():
    told = (Path(__file__).parent.parent / "docs" / "kernels.md").read_text(encoding="utf-8")
    if resources.compiler() not in told:
        pytest.skip(f"the table is of another compiler than {resources.compiler()}")
    missing = [line for line in resources.table(SOURCES) if line not in told]
    assert not missing, "python tests/resources.py says otherwise:\n" + "\n".join(missing)


# Formats


def test_fragments_are_the_tile_in_another_order():
    tile = torch.arange(512).view(2, 16, 16)
    held = fragments(tile)
    assert held.shape == (2, 32, 8) and torch.equal(tiles(held), tile)
    assert held[0, 5].tolist() == [18, 19, 146, 147, 26, 27, 154, 155]  # lane 5: row 1, columns 2 and 3, ...


def test_vectors_are_gathered_by_sixteen():
    a, _ = make_operands(case("spmm", Unstructured(0.8), "float16", m=19, k=70, n=1))
    held = vectors.vectors(a)
    back = torch.zeros(24, 71, dtype=torch.float16)
    for window, (first, last) in enumerate(pairwise(held.starts.tolist())):
        columns = held.columns[first:last].flatten()
        assert (columns >= 0).sum() == a.dense[8 * window : 8 * window + 8].any(0).sum()
        back[8 * window : 8 * window + 8, columns.long()] = held.values[first:last].flatten(0, 1).T
    assert torch.equal(back[:19, :70], a.dense)
    numbered = torch.arange(128).view(16, 8)
    assert vectors.fragments(numbered)[5].tolist() == [17, 25, 81, 89]  # row 1, vectors 2, 3, 10 and 11


@pytest.mark.parametrize(
    ("pattern", "rows", "width"),
    [(VNofM(16, 2, 8), 16, 8), (VNofM(5, 1, 7), 5, 7), (NofM(2, 4), 64, 4), (Unstructured(1.0), 16, 8)],
    ids=str,
)
def test_shared_columns_there_and_back(pattern, rows, width):
    a, _ = make_operands(case("spmm", pattern, "float16", m=37, k=45, n=1))
    held = shared_columns(a, rows, width)
    assert (held.places.int().diff(dim=2) > 0).all()
    back = unshared(held, a.pattern)
    for part in ("starts", "columns", "values"):
        assert torch.equal(getattr(back, part), getattr(a, part))


@pytest.mark.parametrize(
    ("rows", "says"),
    [([[0, 1], [2, 3], [4, 4]], "meets more than 4 of 8"), ([[0, 1, 2]] * 3, "row 0 keeps more than 2")],
)
def test_what_shares_too_little_is_refused(rows, says):
    columns = torch.tensor([one for row in rows for one in sorted(set(row))])
    starts = torch.tensor([0, *(len(set(row)) for row in rows)]).cumsum(0)
    a = from_positions(starts.numpy(), columns.numpy(), torch.ones(len(columns)), (3, 8), Unstructured(0.5))
    with pytest.raises(Refused, match=says):
        shared_columns(a, 3, 8)


def test_headers_are_part_of_a_kernel():
    """Another tensor_core.cuh is another kernel."""
    assert any(b"cp.async.cg" in part for part in source(KERNELS["spmm_smat_cuda"].prepare))
