"""Answers: the six questions of each cell, in words that never say more than was measured."""

import io
import re
from dataclasses import replace

import pytest
from lines import NO_METER, grid, line
from rich.console import Console

from suite.reading import frame
from suite.reading.answers import NO_SCORES, Answer, answers, table, unmeasured
from suite.reading.curves import groups
from suite.record import Result


def results(*lines) -> list[Result]:
    return [one for one in lines if isinstance(one, Result)]


def cell(*lines, **about) -> Answer:
    """The only answer, or the only one that is about that."""
    found = [
        one
        for one in answers(frame.from_lines(results(*lines)))
        if all(getattr(one, name) == value for name, value in about.items())
    ]
    assert len(found) == 1, found
    return found[0]


ONE_SIZE = ((1024, 1024, 64),)


def test_the_planted_crossover_is_the_first_answer() -> None:
    made = cell(*grid(sizes=ONE_SIZE, failures=False, noise=0.02))
    assert re.fullmatch(r"from 8[234] % \(8\d-8\d\)", made.since)
    assert made.faster.startswith("yes, 17x (") and made.faster.endswith("at 99 %")
    assert made.verdict is True and (made.family, made.regime) == ("unstructured", "small batch")
    assert "calls (median of 3 cases, " in made.break_even
    assert made.joules == f"not measured: {NO_METER}"
    assert made.accuracy == NO_SCORES
    assert made.trust == "24 lines, none disturbed"


def test_several_sizes_are_a_range_and_their_count() -> None:
    lines = [*grid(sizes=((1024, 1024, 64),)), *grid(1, 0.6, sizes=((2048, 1024, 64),), failures=False)]
    made = cell(*lines, dtype="float32")
    assert made.sizes == 2
    assert made.since == "from 60 to 83 % (both sizes)"
    assert made.faster == "yes in both sizes: at best 17x to 40x"
    lines += grid(2, 0.999, sizes=((4096, 1024, 64),), failures=False)
    made = cell(*lines, dtype="float32")
    assert made.since == "from 60 to 83 % (2 of 3 sizes); none up to 99 % (1 of 3 sizes)"
    assert made.faster == "yes in 2 of 3 sizes, no in 1 of 3 sizes: at best 0.10x to 40x"


def test_nothing_faster() -> None:
    made = cell(*grid(crossover=0.999, sizes=ONE_SIZE, failures=False))
    assert (made.verdict, made.since) == (False, "none up to 99 %")
    assert made.faster.startswith("no, at most 0.10x (")
    assert made.break_even == "never: no call is faster"


def test_only_refusals_are_no_sparse_kernel_and_why() -> None:
    made = cell(*grid(), dtype="bfloat16")
    assert made.verdict is None and made.since == "no sparse kernel for bfloat16 here"
    assert made.faster == "not known: spmm_csr_mine refused: needs amx_bf16, which Made Up 9000 lacks"
    only = cell(line(outcome="refused", note="needs a GPU"))
    assert only.since == "no sparse kernel for float32 here" and only.trust == "nothing was timed"


def test_dense_alone_is_no_sparse_kernel() -> None:
    made = cell(line(dense=True, seconds=[1e-3] * 4))
    assert made.faster == "not known: none was run on these cases, or its source has changed since"


def test_sparse_alone_is_no_dense_line() -> None:
    made = cell(line(seconds=[1e-3] * 4))
    assert (made.since, made.break_even) == ("no dense line", "not known")
    assert made.faster == "not known: no dense kernel was run: --kernels takes several, with commas"


def test_one_visit_says_so() -> None:
    made = cell(*grid(visits=1, sizes=ONE_SIZE, failures=False))
    assert made.since == "between 80 and 90 %"
    assert "one visit: no interval" in made.faster
    assert made.trust.startswith("one visit only: no intervals; ")


def test_the_speed_up_of_a_yes_is_a_clear_one() -> None:
    lines = []
    for sparsity, ratios in ((0.5, (1.3, 1.31, 1.29)), (0.9, (1.5, 2.8, 0.8))):
        for visit, ratio in enumerate(ratios, 1):
            given = {"sparsity": sparsity, "visit": visit}
            lines.append(line(kernel="dense", dense=True, seconds=[1e-3 * ratio] * 4, **given))
            lines.append(line(seconds=[1e-3] * 4, **given))
    made = cell(*lines)
    assert made.verdict is True and made.faster == "yes, 1.3x (1.3-1.3) at 50 %"


def test_lone_sparsities_of_several_curves_are_gathered() -> None:
    lines = [
        one
        for shape, at, sparsities in (
            ("8x8", 0.1, (0.5, 0.9)),
            ("16x16", 0.5, (0.9,)),
            ("32x32", 0.6, (0.9,)),
        )
        for sparsity in sparsities
        for one in grid(
            sizes=ONE_SIZE,
            sparsities=(sparsity,),
            crossover=at,
            failures=False,
            pattern=f"block{shape}@{sparsity}",
        )
    ]
    made = cell(*lines)
    assert made.since == "always, 50 to 90 % (1 of 3 curves); faster at 90 % (2 of 3 curves)"
    assert made.brief.since == "always, 50 to 90 % (1 of 3)"
    assert made.brief.faster == "in 3 of 3: 4.0x to 9.0x"


def test_one_sparsity_says_so() -> None:
    made = cell(*grid(sizes=ONE_SIZE, sparsities=(0.9,), failures=False))
    assert made.since == "at 90 %: 1.7x, faster"


def test_disturbed_lines_are_counted() -> None:
    made = cell(*grid(sizes=ONE_SIZE, failures=False, foreign=0.5))
    assert made.trust == "24 of 24 lines disturbed: other processes"


def test_what_is_not_clear_is_neither_yes_nor_no() -> None:
    made = cell(*grid(sizes=ONE_SIZE, sparsities=(0.84,), noise=0.3, failures=False))
    assert made.verdict is None and made.faster.startswith("not clear, at best ")
    assert "no clear difference" in made.since and "wide intervals" in made.trust


def test_joules_saved_are_a_share_and_an_amount() -> None:
    lines = list(grid(sizes=ONE_SIZE, sparsities=(0.9,), failures=False))
    meter = {"cache": "rotating", "energy_note": None}
    lines += [line(kernel="spmm_dense_torch", dense=True, joules_counter=4e-3, **meter)]
    lines += [line(joules_counter=1e-3, **meter)]
    assert cell(*lines).joules == "75 % (3.00 mJ a call)"


def test_n_of_m_patterns_are_one_axis() -> None:
    lines = []
    for pattern, sparsity in (("2:4", 0.5), ("1:4", 0.75), ("1:8", 0.875)):
        made = grid(sizes=ONE_SIZE, sparsities=(sparsity,), crossover=0.7, failures=False, pattern=pattern)
        lines += list(made)
    (found,) = groups(frame.from_lines(results(*lines)))
    assert found.crossover.text.startswith("from 70 %")
    assert [point.sparsity for point in found.points] == [0.5, 0.75, 0.875]


def test_block_shapes_are_axes_of_their_own() -> None:
    lines = [
        one
        for shape, at in (("block16x16", 0.6), ("block32x32", 0.8))
        for sparsity in (0.5, 0.7, 0.9)
        for one in grid(
            sizes=ONE_SIZE,
            sparsities=(sparsity,),
            crossover=at,
            failures=False,
            pattern=f"{shape}@{sparsity}",
        )
    ]
    found = groups(frame.from_lines(results(*lines)))
    assert [one.line for one in found] == ["block16x16", "block32x32"]
    assert cell(*lines).since == "from 60 to 80 % (both curves)"


def test_a_sparsity_without_a_speed_up_is_named() -> None:
    lines = [*grid(sizes=ONE_SIZE, failures=False), line(sparsity=0.6, outcome="timeout", note="too long")]
    (found,) = groups(frame.from_lines(results(*lines)))
    assert found.missing == ("60 %",)


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_holds_every_answer(width: int) -> None:
    written = io.StringIO()
    made = answers(frame.from_lines(results(*grid(energy_note="[bold]"))))
    Console(file=written, width=width).print(table(made))
    text = written.getvalue()
    assert max(len(row) for row in text.splitlines()) <= width
    for words in ("[bold]", "from 83 %", "unstructured", "decode", "float32, cold"):
        assert words in text


def test_no_word_of_the_terminal_table_is_cut() -> None:
    lines = []
    for seed, pattern in enumerate(("unstructured", "butterfly", "fan-in", "block128x128")):
        for m, at in ((1024, 0.6), (2048, 0.8), (4096, 0.95)):
            sizes = tuple((m, 1024, n) for n in (1, 64, 512))
            for sparsity in (0.5, 0.875, 0.9375):
                given = {"sparsities": (sparsity,), "noise": 0.2, "failures": False}
                lines += grid(seed, at, sizes=sizes, pattern=f"{pattern}@{sparsity}", **given)
    made = answers(frame.from_lines(results(*lines)))
    assert len(made) == 12
    written = io.StringIO()
    Console(file=written, width=80).print(table(made))
    text = written.getvalue()
    assert "…" not in text and max(len(row) for row in text.splitlines()) <= 80
    words = set(text.split())
    for one in made:
        said = (
            one.family,
            one.regime,
            one.brief.faster,
            one.brief.since,
            one.brief.break_even,
            one.brief.trust,
        )
        assert {word for part in said for word in part.split()} <= words


def test_what_no_cell_measured_is_said_once() -> None:
    made = answers(frame.from_lines(results(*grid(failures=False))))
    assert unmeasured(made) == {"joules": f"not measured: {NO_METER}", "accuracy": NO_SCORES}
    written = io.StringIO()
    Console(file=written, width=200).print(table(made))
    assert written.getvalue().count(NO_METER) == written.getvalue().count(NO_SCORES) == 1
    other = replace(made[0], joules="12 % (1 J a call)")
    assert set(unmeasured([other, *made[1:]])) == {"accuracy"}
    written = io.StringIO()
    Console(file=written, width=200).print(table([other, *made[1:]]))
    assert f"Energy saved ({other.family} {other.regime}): 12 % (1 J a call)" in written.getvalue()


def test_no_answers_are_an_empty_table() -> None:
    written = io.StringIO()
    assert answers(frame.from_lines([])) == []
    Console(file=written).print(table([]))
    assert written.getvalue().split() == ["When", "does", "sparsity", "pay", "here?"]
