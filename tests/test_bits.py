"""Bits: forms are told by what their kernels store, rivals paired round by round, and the page says both."""

import re

import pytest
from lines import header, line, score, write
from msgspec.structs import replace

from suite import report
from suite.commands import load
from suite.device import Ceiling
from suite.reading.answers import answers
from suite.reading.bits import Form, form_of, layers
from suite.reading.bound import limit
from suite.reading.frame import from_lines, grouped

load()

pytestmark = pytest.mark.paper("gqsa")

M = K = 1024
ALL4, HALF4, ALL2 = Form(4, 0.0, ""), Form(4, 0.5, "block1x32"), Form(2, 0.0, "")
ALL16, TWO_OF_FOUR = Form(16, 0.0, ""), Form(16, 0.5, "2:4")


def stores(bits, metadata=0.0):
    """Bits of a weight of the layer, and those that describe it."""
    return {"bytes_values": round(bits * M * K / 8), "bytes_metadata": round(metadata * M * K / 8)}


def timed(kernel, seconds, dtype, pattern, sparsity, n, visits=3, **about):
    for visit in range(1, visits + 1):
        took = [seconds * (1 + visit / 10)] * 4  # each round slower than the one before
        given = {"m": M, "k": K, "n": n, "dtype": dtype, "pattern": pattern, "sparsity": sparsity}
        yield line(
            kernel=kernel, seconds=took, visit=visit, workload="quantized", cache="cold", **given | about
        )


def at(n, half=1.0):
    """One token is half of its bits' time; from four on a call waits for what it multiplies."""
    few = ("w4a16", "block1x32@0.5", 0.5, n)
    yield from timed("spmm_quantized_w4", half, *few, **stores(2, 0.3))
    yield from timed("spmm_dense_quantized_w4", 1.5, *few, dense=True, **stores(4, 0.5))
    yield from timed("spmm_dense_int4pack", 1.9, *few, dense=True, **stores(4, 0.5))
    yield from timed("spmm_dense_linear", 6.0, *few, dense=True, **stores(16))
    full = ("w2a16", "block1x32@0.0", 0.0, n)
    yield from timed("spmm_dense_quantized_w2", 1.25, *full, dense=True, **stores(2, 0.5))
    yield from timed("spmm_quantized_w2", 1.4, *full, **stores(2, 0.6))
    yield from timed("spmm_dense_linear", 6.0, *full, dense=True, **stores(16))
    sparse = ("bfloat16", "2:4", 0.5, n)
    yield from timed("spmm_nm_permuted", 2.5, *sparse, **stores(8, 1))
    yield from timed("spmm_dense_linear", 6.0, *sparse, dense=True, **stores(16))


def rows(lines):
    return [row for same in grouped([(0, None, one) for one in lines]).values() for row in same]


def test_a_form_is_what_a_kernel_stores():
    found = {(one.kernel, one.dtype): form_of(one) for one in at(1)}
    assert found["spmm_quantized_w4", "w4a16"] == HALF4
    assert found["spmm_dense_quantized_w4", "w4a16"] == found["spmm_dense_int4pack", "w4a16"] == ALL4
    assert {found["spmm_dense_linear", dtype] for dtype in ("w4a16", "w2a16", "bfloat16")} == {ALL16}
    assert found["spmm_dense_quantized_w2", "w2a16"] == ALL2
    assert found["spmm_quantized_w2", "w2a16"] is None  # nothing is left out
    assert found["spmm_nm_permuted", "bfloat16"] == TWO_OF_FOUR


@pytest.mark.parametrize(
    "changes", [{"bytes_values": None}, {"execution": "masked"}, {"sparsity": None}, {"dtype": "float3"}]
)
def test_what_does_not_say_what_it_stores_has_no_form(changes):
    (one, *_) = timed("spmm_mine", 1.0, "w4a16", "block1x32@0.5", 0.5, 1, **stores(2))
    assert form_of(one) == HALF4 and form_of(replace(one, **changes)) is None


def test_forms_are_called_by_what_is_left_out():
    def named(pattern, sparsity):
        (one, *_) = timed("spmm_mine", 1.0, "w4a16", pattern, sparsity, 1, **stores(4 * (1 - sparsity)))
        return str(form_of(one))

    assert named("block1x32@0.75", 0.75) == "4 bits, 25 % of groups kept"
    assert named("unstructured@0.75", 0.75) == "4 bits, unstructured, 75 % left out"
    assert named("2:4", 0.5) == "4 bits, 2:4"


def test_edges_that_are_stored_whole_are_no_bits_of_a_weight():
    """30 columns in groups of 32, which are 4.27 bits a weight; and 16 where codes are unpacked."""
    for bits, meant in ((4.27, 4), (6.0, 4), (16.0, 16), (17.1, 16)):
        (one, *_) = timed("spmm_mine", 1.0, "w4a16", "block1x32@0.5", 0.5, 1, dense=True, **stores(bits))
        assert form_of(one) == Form(meant, 0.0, "")


def test_matrices_of_one_size_are_layers_of_their_own():
    both = [*timed("spmm_mine", 1.0, "w4a16", "given", 0.5, 1, data="a.mtx-1", **stores(2))]
    both += timed("spmm_mine", 2.0, "w4a16", "given", 0.5, 1, data="b.mtx-2", **stores(2))
    assert [one.about["data"] for one in layers(rows(both))] == ["a.mtx-1", "b.mtx-2"]


def test_codes_are_bound_by_the_products_of_what_they_stand_for():
    (one, *_) = timed("spmm_mine", 1.0, "w4a16", "block1x32@0.5", 0.5, 64, **stores(2))
    ceiling = Ceiling({"bfloat16": 1e3}, {"memory": 1e12})
    assert limit(one, ceiling, {}).seconds == pytest.approx(one.flops_executed / 1e3)


def test_forms_stand_in_order_with_their_bits_and_their_fastest_kernels():
    (layer,) = layers(rows([*at(1), *at(4)]))
    assert list(layer.rows) == [ALL16, TWO_OF_FOUR, ALL4, HALF4, ALL2]
    assert [layer.bits(one) for one in layer.rows] == pytest.approx([16, 9, 4.5, 2.3, 2.5], rel=1e-3)
    assert layer.tokens == [1, 4] and layer.best(ALL4, 4).first.kernel == "spmm_dense_quantized_w4"
    assert [str(one) for one in layer.rows] == [
        "16 bits, all",
        "16 bits, 2:4",
        "4 bits, all",
        "4 bits, 50 % of groups kept",
        "2 bits, all",
    ]


def test_rivals_are_paired_by_round_and_told_until_when_they_lose():
    """What slows a round down slows both: intervals are points."""
    (layer,) = layers(rows([*at(1), *at(4, half=3.0)]))
    ((mine, rivals),) = layer.rivalries().items()
    found = {one.rival: one for one in rivals}
    assert set(found) == {ALL16, TWO_OF_FOUR, ALL4, ALL2} and mine == HALF4
    ratios = {rival: [point.ratio for point in one.at.values()] for rival, one in found.items()}
    assert ratios[ALL2] == pytest.approx([1.25, 1.25 / 3]) and ratios[TWO_OF_FOUR] == pytest.approx(
        [2.5, 2.5 / 3]
    )
    assert all(point.low == pytest.approx(point.ratio) for one in found.values() for point in one.at.values())
    assert found[ALL16].pays.kind == "always" and found[ALL4].pays.kind == "up to"


def test_what_was_never_in_few_bits_has_no_page(tmp_path):
    plain = [one for one in at(1) if one.dtype == "bfloat16"]
    assert not layers(rows(plain))
    assert "bits" not in pages(tmp_path, plain)


def test_the_page_and_the_way_to_it(tmp_path):
    made = pages(tmp_path, [*at(1), *at(4, half=3.0)])
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", made["bits"]))
    assert 'href="bits.html"' in made["index"]
    assert "4 bits, 50 % of groups kept, against" in text and "2.3" in text
    assert "up to" in text and "to the largest measured, 4 tokens" in text


def test_what_is_lost_in_groups_as_wide_as_kernels_have_them_stands_beside(tmp_path):
    """Beside 2:4 in 16 bits; narrower groups are no kernel's, and without any there is nothing to tell."""

    def made(method, pattern, value, **about):
        about |= {"method": method, "pattern": pattern, "dense_value": 0.9, "execution": "simulated"}
        return replace(score(), value=value, bytes=1000, **about)

    half = made("obs-uniform-gqsa", "block1x32@0.5", 0.81)
    others = [
        made("w2", "block1x32@0.5", 0.855),
        made("wanda-uniform", "2:4", 0.88),
        made("tuned", "2:4", 0.89, training="weights"),
        made("narrow", "block1x16@0.5", 0.8),
    ]
    page = pages(tmp_path / "both", [*at(1), half, *others])["bits"]
    lost = page[page.index("What is lost: <a") :]
    places = [lost.index(f">{name}<") for name in ("wanda-uniform", "w2", "obs-uniform-gqsa")]
    assert places == sorted(places) and "10.0 %" in lost
    assert ">tuned<" not in lost and ">narrow<" not in lost
    assert "What is lost: <a" not in pages(tmp_path / "without", [*at(1), *others[1:]])["bits"]


def test_nothing_left_out_is_no_answer_to_whether_sparsity_pays():
    found = answers(from_lines([*at(1)]))
    assert {one.dtype for one in found} == {"w4a16", "bfloat16"}


def pages(folder, lines):
    """Every page of these lines."""
    index = report.write([write(folder / "run.jsonl", header(), *lines)], folder / "site")
    return {one.stem: one.read_text() for one in index.parent.glob("*.html")}
