"""Kernels at work in a layer: the block is that of a decoder, and its lines stand beside those of the op."""

import json
from dataclasses import replace

import pytest
import torch
from lines import header, line, write

from suite import report
from suite.case import case
from suite.check import Wrong, question
from suite.cpu.device import Cpu
from suite.journal import Journal
from suite.layer import Layer
from suite.measure import Effort
from suite.op import discover_parts, make_operands
from suite.patterns.chosen import Chosen
from suite.reading.frame import tidy
from suite.reading.selected import selected
from suite.record import read
from suite.registry import discover
from suite.report import view_of
from suite.selector import entries
from suite.submitting import ledger
from suite.visit import Visit
from suite.winners import winners
from suite.workload import WORKLOADS

discover_parts()
discover(folders=("kernels", "workloads"))

from suite.workloads import transformer  # noqa: E402
from suite.workloads.accuracy import decoder  # noqa: E402

POINT = case("attention_causal", Chosen(0.75), "bfloat16", data="heads", h=4, g=2, n=256, d=32, b=16)
NAMES = ("attention_causal_sdpa", "attention_causal_block+pooled")


@pytest.fixture(scope="module")
def asked():
    return question(POINT, make_operands(POINT))


@pytest.fixture(scope="module")
def layer(asked):
    return transformer.block(asked)


@torch.no_grad()
def test_the_block_is_that_of_a_decoder():
    """Of another writing, in float64; without what is copied over its queries, keys and values."""
    torch.manual_seed(0)
    theirs = decoder.Block(32, 4, 48).double()
    for one in theirs.parameters():
        torch.nn.init.normal_(one, std=0.3)
    x = torch.randn(20, 32, dtype=torch.float64)
    turns = decoder.rotations(torch.arange(20), 8)
    weight = torch.cat([one.weight for one in (theirs.q, theirs.k, theirs.v)]).t()
    into = [torch.empty(20, 4, 8, dtype=torch.float64) for _ in "qkv"]
    transformer.projected(x, theirs.first.weight, weight, [one[:, None] for one in turns], into)
    q, k, v = (one.transpose(0, 1) for one in into)
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1)
    enter = torch.cat([theirs.gate.weight, theirs.up.weight]).t()
    mine = transformer.finished(
        x, attended, theirs.second.weight, theirs.out.weight.t(), enter, theirs.down.weight.t()
    )
    torch.testing.assert_close(mine, theirs(x[None], turns)[0])


def test_pairs_of_a_head_turn_as_complex_numbers_do():
    x, places = torch.randn(5, 8, dtype=torch.float64), torch.tensor([0, 1, 7, 300, 4096])
    angles = places[:, None] / 10_000 ** (torch.arange(4) / 4)
    whole = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angles), angles)
    turned = decoder.turned(x, decoder.rotations(places, 8))
    torch.testing.assert_close(turned, torch.cat([whole.real, whole.imag], -1), rtol=0, atol=1e-3)


def test_attention_in_a_block_looks_at_the_operands_of_the_case(asked, layer):
    seen = []

    def attend(*live):
        seen.extend(one.clone() for one in live)
        return asked.whole.expected.to(POINT.torch_dtype)

    answer = layer.run(attend)
    assert all(torch.equal(mine, one) for mine, one in zip(seen, asked.operands[1:], strict=True))
    assert 0 < layer.check(answer, asked.whole.expected.to(POINT.torch_dtype)) < 0.5


SPOILT = {
    "smaller": lambda answer, attended: (answer * 0.9, attended),
    "another token's": lambda answer, attended: (answer.roll(1, 0), attended),
    "without attention": lambda answer, attended: (answer, attended * 0),
    "of another head": lambda answer, attended: (answer, attended.roll(1, 0)),
    "not a number": lambda answer, attended: (answer * torch.nan, attended),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_wrong_answer_of_a_block_is_found(asked, layer, how):
    attended = asked.whole.expected.to(POINT.torch_dtype)
    with pytest.raises(Wrong, match="in a block, the answer of some token is off by"):
        layer.check(*SPOILT[how](layer.run(lambda *live: attended), attended))


def test_a_wrong_projection_is_found(asked, layer, monkeypatch):
    attended = asked.whole.expected.to(POINT.torch_dtype)
    answer, right = layer.run(lambda *live: attended), transformer.turned
    wrong = lambda x, turns: x if x.dtype == POINT.torch_dtype else right(x, turns)  # noqa: E731
    monkeypatch.setattr(transformer, "turned", wrong)
    with pytest.raises(Wrong, match="in a block, q of some token"):
        layer.check(answer, attended)


def test_its_flops_are_those_of_its_products(layer):
    wide, inner = 4 * 32, 384
    products = wide * (wide + 2 * 64) + wide * wide + wide * 2 * inner + inner * wide
    assert layer.flops == 2 * 256 * products
    assert layer.stated({"flops_nominal": 1, "flops_useful": 0, "bytes_live": 5}) == {
        "flops_nominal": 1 + layer.flops,
        "flops_useful": layer.flops,
        "bytes_live": None,
    }


def visited(surround, monkeypatch, names=NAMES):
    monkeypatch.setitem(WORKLOADS, "attention", replace(WORKLOADS["attention"], layer=surround))
    there = entries()
    visit = Visit(Cpu(1), 1, effort=Effort(cap=0.01))
    found = list(visit.results("attention", POINT, [there[name] for name in names]))
    return {(one.entry, one.scope): one for one in found}


def test_each_kernel_has_a_line_by_itself_and_one_in_the_layer(monkeypatch, layer):
    found = visited(transformer.block, monkeypatch)
    assert len(found) == 4 and all(one.outcome == "ok" for one in found.values())
    for name in NAMES:
        alone, inside = found[name, "kernel"], found[name, "layer"]
        assert inside.case == alone.case and inside.quality == alone.quality and inside.key != alone.key
        assert inside.flops_nominal == alone.flops_nominal + layer.flops
        assert inside.flops_useful == alone.flops_useful + layer.flops
        assert inside.seconds and inside.bytes_values is None and inside.select_seconds is None
        assert not list(ledger.faults(inside)) and not list(ledger.faults(alone))
    assert found[NAMES[1], "layer"].flops_executed == found[NAMES[1], "kernel"].flops_executed + layer.flops


def test_a_case_that_is_not_seen_in_a_layer_has_no_such_lines(monkeypatch):
    assert {scope for _, scope in visited(lambda asked: None, monkeypatch, NAMES[:1])} == {"kernel"}
    in_a_block = WORKLOADS["attention"].layer
    for other in (replace(POINT, data="sinks"), replace(POINT, op="attention")):
        assert in_a_block(replace(question(POINT, make_operands(POINT)), case=other)) is None


def failing(asked):
    raise ValueError("no layer today")


def wrong(asked):
    def check(answer, given):
        raise Wrong("the layer is off")

    return Layer(lambda attend: attend(*asked.operands[1:]), check, 0, ())


@pytest.mark.parametrize(
    "surround, outcome, says", [(failing, "broken", "no layer"), (wrong, "wrong", "is off")]
)
def test_what_fails_in_the_layer_is_said_there_and_costs_the_kernel_nothing(
    surround, outcome, says, monkeypatch, tmp_path
):
    found = visited(surround, monkeypatch)
    assert all(found[name, "kernel"].outcome == "ok" for name in NAMES)
    journal = Journal(tmp_path / "run.jsonl")
    for (name, scope), one in found.items():
        if scope == "layer":
            assert one.outcome == outcome and says in one.note and not one.seconds
            journal.add(one)
            assert journal.is_due((one.case, name, one.kernel_hash, "cold", 1, 2, "kernel"))
    journal.close()


def test_a_line_of_a_layer_is_kept_once(monkeypatch, tmp_path):
    """A run was killed before the line of the kernel itself: both are measured again."""
    found = visited(transformer.block, monkeypatch, NAMES[:1])
    assert [scope for _, scope in found] == ["layer", "kernel"]
    journal = Journal(tmp_path / "run.jsonl", [found[NAMES[0], "layer"]])
    for one in found.values():
        journal.add(one)
    journal.close()
    assert [one["scope"] for one in map(json.loads, (tmp_path / "run.jsonl").open())] == ["kernel"]


def pair(selector=None, seconds=1e-3, scope="kernel", visit=1):
    chosen = str(POINT.pattern)
    return line(
        workload="attention",
        op=POINT.op,
        case=str(POINT),
        sizes=dict(POINT.sizes),
        pattern=chosen,
        dtype=POINT.dtype,
        data=POINT.data,
        phase="small batch",
        scope=scope,
        kernel="attention_mine" if selector else "attention_dense",
        kernel_hash=selector or "dense",
        selector=selector,
        control="luck" if selector == "random_blocks" else None,
        dense=selector is None,
        execution="sparse" if selector else "dense",
        seconds=[seconds * (1 + 0.01 * at * (-1) ** visit) for at in range(4)],
        quality={"recall": 0.8 if selector == "good" else 0.3} if selector else {},
        visit=visit,
        sparsity=0.75,
        bytes_values=None,
    )


@pytest.fixture
def file(tmp_path):
    """Attention is 4 of the 10 ms of a dense block, and is made four times as fast."""
    times = {None: (4e-3, 10e-3), "good": (1e-3, 7e-3), "random_blocks": (0.9e-3, 6.9e-3)}
    found = [
        pair(name, seconds, scope, visit)
        for visit in (1, 2, 3)
        for name, both in times.items()
        for scope, seconds in zip(("kernel", "layer"), both, strict=True)
    ]
    return write(tmp_path / "run.jsonl", header(workloads={"attention": 2}), *found)


def test_the_frame_holds_one_scope_at_a_time(file):
    recorded = read(file)
    assert not recorded.faults and len(recorded.results) == 18
    for scope in ("kernel", "layer"):
        assert set(tidy([recorded], scope)["scope"]) == {scope} and len(tidy([recorded], scope)) == 3
    assert winners(recorded.results).popitem()[1] == ("attention_dense", "attention_mine+good")


def test_a_choice_has_its_speed_up_in_the_op_and_in_the_layer(file):
    view = view_of([file])
    rows = selected(view.frame, view.rows, tidy(view.recorded, "layer"))
    good = next(row for row in rows.itertuples() if row.selector == "good")
    assert good.speed_up == pytest.approx(4, rel=0.02) and good.layer_speed_up == pytest.approx(
        10 / 7, rel=0.02
    )
    assert good.layer_low <= good.layer_speed_up <= good.layer_high
    assert good.layer_share == pytest.approx(0.4, rel=0.02)
    assert selected(view.frame, view.rows)["layer_speed_up"].isna().all()


def test_the_page_has_both_side_by_side(file, tmp_path):
    discover(folders=("reports",))
    report.write([file], tmp_path / "site")
    page = (tmp_path / "site" / "selection.html").read_text()
    assert "attention by itself is 40 % of that" in page and "the block would be 1.7x as fast" in page
    assert "1.4x" in page and "4.0x" in page
