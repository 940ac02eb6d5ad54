"""Shorter contexts: what stands beside long and sparse costs as much, and who is better is as was planted."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import header, write
from msgspec.structs import replace
from test_selection import entry

from suite import report
from suite.case import case
from suite.check import question
from suite.claims import claims
from suite.commands import load
from suite.cpu.device import Cpu
from suite.op import OPS, make_operands
from suite.ops import attention, decode
from suite.patterns.chosen import Chosen
from suite.reading import figures
from suite.reading.selected import selected
from suite.reading.shorter import CONTEXT, COSTS, WHOLE, against, curve, shorter, to_the_end, where
from suite.report import view_of
from suite.selector import SELECTORS, entries, ready

load()

pytestmark = pytest.mark.paper("sparse-frontier")

ABOUT = dict.fromkeys(CONTEXT, "made-up") | {"pattern": "chosen@0.75", "of_a_token": 1.0}


def row(selector="good", control="", recall=0.8, error=0.3, executed=250.0, seconds=2.0, **changes):
    """Of a context of 1000 tokens; the best dense kernel takes 8 seconds, choosing one."""
    return (
        ABOUT
        | {"selector": selector, "control": control, "recall": recall, "error": error, "executed": executed}
        | {"whole": 1000.0, "median": seconds, "choosing": 1.0, "best_dense_median": 8.0}
        | {"speed_up_low": 8 / seconds}
        | changes
    )


def window(density, recall, error, **changes):
    about = {"executed": 1000 * density, "seconds": 1 + 8 * density}
    return row("window", "habit", recall, error, **about | changes)


RIVALS = [window(0.5, 0.7, 0.4), window(0.25, 0.6, 0.5)]


def test_an_interval_of_time_that_reaches_further_is_not_clear():
    said = {low: of(told(*RIVALS, row(speed_up_low=low))).time_better for low in (4.0, 3.9, 1.0, np.nan)}
    assert said == {4.0: "yes", 3.9: "yes", 1.0: "not clear", np.nan: "yes"}


def told(*rows):
    return shorter(pd.DataFrame(rows))


def of(table, selector="good"):
    (found,) = table[table["selector"] == selector].itertuples()
    return found


@pytest.mark.parametrize(
    ("executed", "seconds", "recall", "error"),
    [(250.0, 2.0, 0.6, 0.5), (375.0, 3.0, 0.65, 0.45), (750.0, 6.0, 0.85, 0.2), (1200.0, 9.0, 1.0, 0.0)],
)
def test_beside_each_cost_stands_what_a_shorter_context_holds_for_it(executed, seconds, recall, error):
    """Its choosing, of one second, is left out: it has none."""
    found = of(told(*RIVALS, row(executed=executed, seconds=seconds)))
    assert (found.work, found.time) == (executed / 1000, seconds / 8)
    assert (found.work_recall, found.work_error) == (pytest.approx(recall), pytest.approx(error))
    assert (found.time_recall, found.time_error) == (pytest.approx(recall), pytest.approx(error))
    assert found.tokens == executed


@pytest.mark.parametrize(
    ("recall", "error", "says"),
    [(0.61, 0.49, "yes"), (0.59, 0.51, "no"), (0.61, 0.51, "not clear"), (0.59, 0.49, "not clear")],
)
def test_better_is_more_of_the_weight_and_less_of_an_error(recall, error, says):
    assert of(told(*RIVALS, row(recall=recall, error=error))).work_better == says


def test_what_costs_less_than_any_shorter_context_and_is_better_is_better():
    found = of(told(*RIVALS, row(executed=100.0)))
    assert (found.work_better, found.work_recall, found.work_error) == ("yes", 0.6, 0.5)


def test_what_costs_as_much_as_all_of_the_context_is_never_better():
    found = of(told(*RIVALS, row(recall=0.999, error=0.001, executed=1001.0, seconds=8.5)))
    assert (found.work_better, found.time_better) == ("no", "no")


@settings(deadline=None, max_examples=60)
@given(
    densities=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5, unique=True),
    share=st.floats(0.001, 1.5),
)
def test_costs_are_equal(densities, share):
    """To a hundredth of FLOPs; what costs more than attention in full stands beside that."""
    line = curve(pd.DataFrame([window(one, one, 1 - one) for one in densities]), COSTS["work"])
    found, why = against(line, share, COSTS["work"])
    assert found
    if why:
        assert share < min(densities) and "so little" in why
        assert found.share == pytest.approx(min(densities))
    else:
        assert found.share == pytest.approx(min(share, 1.0), rel=0.011)  # near is of the other one
        assert found.recall == pytest.approx(found.share, rel=1e-6)
        assert found.error == pytest.approx(1 - found.share, abs=1e-6)


REASONS = {
    "the shorter context was not measured": ([row()], "work"),
    "no shorter context that costs so little was measured": ([*RIVALS, row(recall=0.6, executed=90)], "work"),
    "its kernel does not say what it executes": ([*RIVALS, row(executed=None)], "work"),
    "what it keeps was not judged": ([*RIVALS, row(recall=None, error=None)], "work"),
    "no dense kernel was timed beside it": ([*RIVALS, row(best_dense_median=None)], "time"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_was_not_measured_is_said_with_its_reason(reason):
    rows, cost = REASONS[reason]
    table = told(*rows)
    assert getattr(of(table), f"{cost}_better") == ""
    assert where(table[table["selector"] == "good"], cost) == f"not measured: {reason}"


def test_where_a_shorter_context_takes_longer_than_all_of_it_that_is_the_rival():
    """As of few tokens, of which a call has hardly begun when dense is done."""
    slow, quick, slower = window(0.5, 0.7, 0.4, seconds=20.0), row(seconds=4.0), row("late", seconds=9.0)
    table = told(slow, quick, slower)
    assert of(table).time_why == "no shorter context that costs so little was measured"
    assert (of(table, "late").time_better, of(table, "late").time_recall) == ("no", 1.0)


def test_shares_of_nothing_are_not_known():
    """A file may be a stranger's."""
    found = of(told(*RIVALS, row(whole=0.0, of_a_token=0.0, best_dense_median=0.0)))
    assert (found.work_better, found.time_better) == ("", "") and found.tokens != found.tokens


def test_where_it_is_better_is_said_in_words():
    rows = [
        row(pattern="chosen@0.5", executed=500.0, recall=0.75),
        row(pattern="chosen@0.75", recall=0.65, error=0.45),
        row(pattern="chosen@0.8", executed=260.0, recall=0.1, error=0.9),
        row(pattern="chosen@0.9", executed=100.0, recall=0.5),
    ]
    table = told(*RIVALS, *rows)
    good = table[table["selector"] == "good"]
    assert where(good, "work") == "at 50 and 75 %; not at 80 %; not measured at 90 %"
    assert where(good[:1], "work") == "at 50 %"


def test_contexts_do_not_stand_beside_each_other():
    """Nor is a rival held against itself."""
    table = told(*RIVALS, row(sizes="n 4096"))
    assert of(table).work_why == "the shorter context was not measured"
    assert set(table[table["control"] == "habit"]["work_better"]) == {""}
    ends = to_the_end(table)
    assert len(ends) == len(table) + 1 and ends.iloc[-1][["work", "recall", "error"]].tolist() == list(WHOLE)


def test_what_is_straight_in_the_table_is_straight_in_the_figure():
    """And what costs as much as a shorter context and holds as much lies on its line."""
    found = told(*RIVALS, row(recall=0.65, executed=375.0)).assign(sparsity=[0.5, 0.75, 0.6])
    (axes,) = figures.kept(to_the_end(found), "recall", {}, "work").axes
    ((x, y),) = (line.get_xydata()[0] for line in axes.lines if line.get_label() == "_good")
    (rival,) = (line for line in axes.lines if line.get_label() == "window")
    at, ends = axes.transData.transform, axes.transData.transform(rival.get_xydata())
    order = ends[:, 0].argsort()
    across, up = at((x, y))
    assert up == pytest.approx(float(np.interp(across, ends[order, 0], ends[order, 1])))


# Counted, and planted.


def attending(data, sparsity):
    sizes = {"h": 2, "g": 2, "n": 1024, "d": 32, "b": 16}
    return case("attention_causal", Chosen(sparsity), "float32", 0, data, **sizes)


def measured(name, one, whole):
    """A selector on a case as rows have it, without times."""
    kernel = entries()[f"attention_causal_block+{name}"]
    if reasons := kernel.refusals(one, Cpu(1)):
        pytest.skip("; ".join(reasons))
    made = whole.chosen(SELECTORS[name])
    kept = attention.quality(one, (made.operands, made.expected), (whole.operands, whole.whole.expected))
    executed = claims(ready(kernel, one, made.operands)).executed
    return row(
        name,
        SELECTORS[name].control or "",
        kept["recall"],
        kept["error"],
        executed,
        pattern=str(one.pattern),
        data=one.data,
        whole=OPS[one.op].nominal(one, whole.operands),
    ), made.operands[0].flops


@pytest.fixture(scope="module")
def planted():
    """Selectors on inputs of which it is known where heads look, and what each counts for choosing."""
    rows, choosing = [], []
    for data in ("lines", "sinks"):
        for sparsity in (0.5, 0.75, 0.9):
            one = attending(data, sparsity)
            whole = question(one, make_operands(one))
            for name in ("window", "random_blocks", "pooled", "vertical_slash", "oracle"):
                made, flops = measured(name, one, whole)
                rows.append(made)
                choosing.append(flops)
    return shorter(pd.DataFrame(rows)).assign(choosing=choosing)


def test_the_work_of_choosing_is_all_that_a_budget_does_not_say(planted):
    """Of one budget all execute the same, and what they count for choosing; the shorter context none."""
    for _, same in planted.groupby(["data", "pattern"]):
        alone = of(same, "window")
        assert alone.choosing == 0
        for one in same.itertuples():
            assert one.executed - one.choosing == pytest.approx(alone.executed, rel=0.02)
            assert one.executed >= alone.executed


def test_where_heads_look_far_long_and_sparse_is_better(planted):
    far = planted[planted["data"] == "lines"]
    for name in ("pooled", "vertical_slash"):
        assert where(far[far["selector"] == name], "work") == "at 50, 75 and 90 %"
    assert not (far[far["control"] == "luck"]["work_better"] == "yes").any()


def test_where_heads_look_near_it_takes_more_than_a_glance(planted):
    """Means of blocks do not beat the nearest ones there; to know everything costs more than to see it."""
    near = planted[planted["data"] == "sinks"]
    assert where(near[near["selector"] == "random_blocks"], "work") == "not at 50, 75 and 90 %"
    assert "not at 50" in where(near[near["selector"] == "pooled"], "work")
    assert where(planted[planted["control"] == "knowledge"], "work").startswith("not at")


@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.9375])
def test_a_window_costs_what_a_shorter_context_does(sparsity):
    """Of decode: as many FLOPs as a cache of so many tokens, and the same answer as over those alone."""
    sizes = {"n": 2, "h": 4, "g": 2, "d": 32, "b": 16}
    one = case("decode", Chosen(sparsity), "float32", 0, "blend", t=1024, **sizes)
    kept = round(1024 * (1 - sparsity))
    _, k, v, q = make_operands(one)
    found = SELECTORS["recent"].prepare(one, k, v)(q)
    op = OPS["decode"]
    assert op.useful(one, (found, k, v, q)) == op.nominal(one.with_sizes(t=kept), ())
    short = [torch.cat((each[:, :, :16], each[:, :, 1024 - kept + 16 :]), 2) for each in (k, v)]
    expected = decode.in_full(*short, q.double()).float()
    torch.testing.assert_close(decode.reference(found, k, v, q).float(), expected)


# The page.


def page(tmp_path, *lines):
    file = write(tmp_path / "run.jsonl", header(workloads={"attention": 2}), *lines)
    report.write([file], tmp_path / "site")
    text = (tmp_path / "site" / "selection.html").read_text()
    return file, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<svg.*?</svg>", "", text)))


def lines(*selectors):
    for visit in (1, 2):
        yield entry(seconds=4e-3, visit=visit)
        for name, control, recall, seconds in selectors:
            yield entry(name, control, seconds, recall, visit=visit)


GOOD, SLOW = ("good", None, 0.8, 1e-3), ("slow", None, 0.8, 3.9e-3)


def test_the_page_answers_at_equal_flops_and_at_equal_time(tmp_path):
    file, said = page(tmp_path, *lines(("window", "habit", 0.6, 1e-3), GOOD, SLOW))
    assert "At equal FLOPs good, slow are better at some sparsity" in said
    assert "At equal time good is better at some sparsity" in said
    assert "good attention_causal heads 2,048 at 75 % at 75 %" in said
    assert "slow attention_causal heads 2,048 at 75 % not at 75 %" in said
    view = view_of([file])
    found = shorter(selected(view.frame, view.rows)).set_index("selector")
    assert found.loc["good", "work"] == 0.25 and found.loc["good", "work_recall"] == 0.6
    assert "nan" not in said


def test_the_page_says_what_was_not_measured(tmp_path):
    _, said = page(tmp_path, *lines(GOOD))
    assert "Beside a shorter context of equal cost: not measured" in said
    assert "not measured: the shorter context was not measured" in said and "nan" not in said


def test_the_summary_is_context_by_context_and_leads_there(tmp_path):
    mine, its = list(lines(("window", "habit", 0.6, 1e-3), GOOD)), lines(GOOD)
    other = [replace(one, data="sinks", case=one.case.replace("heads", "sinks")) for one in its]
    later = [entry("slow", None, 3.9e-3, 0.8, sparsity=0.5, visit=visit) for visit in (1, 2)]
    file, _ = page(tmp_path, *mine, *other, *later)
    text = (file.parent / "site" / "selection.html").read_text()
    summary = text[text.index('<section id="shorter">') :]
    found = re.findall(r'<th scope="row">(\w+)</th><td>\w+</td><td>(\w+)</td>.*?href="#(s\d)"', summary)
    assert found == [("good", "heads", "s0"), ("slow", "heads", "s0"), ("good", "sinks", "s1")]
    for _, data, at in found:
        assert re.search(rf'<section id="{at}">\s*<h2>[^<]*, {data}', text)
