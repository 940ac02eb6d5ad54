"""Pages of sparse activations against batch and of experts against uneven routes: turns are found."""

import re

import numpy as np
import pytest
from lines import ceilings, header, line, score, write
from msgspec.structs import replace

from suite import report
from suite.activations import union_law
from suite.op import discover_parts
from suite.reading import batch_figures
from suite.reading.batch import batches, checked, titles, unions
from suite.reading.figures import HOVER
from suite.reading.routing import as_dense, routed
from suite.reading.svg import svg
from suite.reading.turning import Measured, measured, turning
from suite.registry import discover
from suite.report import view_of

discover_parts()

SCRIPT = "<script>alert(1)</script>"
TOKENS = (1, 2, 4, 8, 16, 32, 64)


def entry(op, sizes, pattern, kernel, seconds, structure, visit, rng, changes):
    told = ",".join(f"{name}={size}" for name, size in sizes.items())
    drawn = seconds * np.exp(0.004 * (rng.standard_normal() + rng.standard_normal(6) / 5))
    about = {
        "workload": "made",
        "op": op,
        "case": f"{op}/{told}/{pattern}/bfloat16/seed=0",
        "sizes": sizes,
        "pattern": pattern,
        "dtype": "bfloat16",
        "kernel": kernel,
        "kernel_hash": kernel,
        "seconds": [float(f"{one:.4g}") for one in drawn],
        "structure": structure,
        "visit": visit,
    }
    return line(**(about | changes))


def activations(op="actmm", sparsity=0.9, kind="unstructured", live=None, visits=3, tokens=TOKENS, **changes):
    """actmm_good pays up to 8 tokens, on a straight line; the others do as they are called."""
    rng = np.random.default_rng(0)
    for visit in range(1, visits + 1):
        for n in tokens:
            given = (op, {"m": 2048, "k": 8192, "n": n}, f"{kind}@{sparsity:g}")
            share = union_law(1 - sparsity, n) if live is None else live[n]
            empty = {"empty_rows": 1 - share}
            for kernel, seconds, dense in (
                (f"{op}_dense", 1e-3, True),
                (f"{op}_good", 1e-3 * n / 8, False),
                (f"{op}_never", 2e-3, False),
                (f"{op}_always", 9e-4, False),
            ):
                work = {"dense": dense, "execution": "dense" if dense else "sparse", "sparsity": sparsity}
                yield entry(*given, kernel, seconds, empty, visit, rng, work | changes)


TRACES = {"zipf0": 1.2, "zipf1": 2.4, "zipf1.5": 4.8, "crowded": 8.0}


def experts(n=64, visits=3, asked=8, held=64, traces=TRACES, scale=1.0, **changes):
    """moe_padded, which pads to the busiest expert, pays up to 4 and is the fastest up to 2."""
    rng = np.random.default_rng(n)
    for visit in range(1, visits + 1):
        for trace, imbalance in traces.items():
            sparsity = 1 - asked / held
            given = ("moe", {"n": n, "e": held, "d": 128, "f": 64}, f"{trace}@{sparsity:g}")
            structure = {"row_max_over_mean": imbalance, "row_cv": imbalance - 1, "empty_rows": 0.25}
            useful = 1000 * n * asked
            for kernel, seconds, executed, dense in (
                ("moe_dense", 1e-3 * scale, 1000 * n * held, True),
                ("moe_padded", 2.5e-4 * imbalance, round(useful * imbalance), False),
                ("moe_loop", 5e-4, useful, False),
                ("moe_slow", 2e-3, None, False),
            ):
                work = {
                    "dense": dense,
                    "execution": "dense" if dense else "sparse",
                    "sparsity": sparsity,
                    "flops_nominal": 1000 * n * held,
                    "flops_useful": useful,
                    "flops_executed": executed,
                }
                seconds *= n / 64
                yield entry(*given, kernel, seconds, structure, visit, rng, work | changes)


def pages(folder, *lines):
    index = report.write([write(folder / "run.jsonl", header(), ceilings(), *lines)], folder / "site")
    return {file.stem: file.read_text() for file in index.parent.glob("*.html")}


def page_of(name, folder, *lines):
    """The page of one report alone, which takes a tenth of the time of all."""
    return rendered(name, view_of([write(folder / "run.jsonl", header(), *lines)]))


def rendered(name, view):
    discover(folders=("reports",))
    one = report.REPORTS[name]
    ((_, shown),) = one.pages(view)
    return (
        report.environment(one.template.parent, measured=True, latest=["cpu"], devices=1)
        .get_template(one.template.name)
        .render(shown)
    )


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<(style|script)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL))


def table(tmp_path, *lines):
    view = view_of([write(tmp_path / "some.jsonl", header(), *lines)])
    return view.frame, view.rows


def ratios(*pairs, spread=None):
    return [
        Measured(at, ratio, *(() if spread is None else (ratio / spread, ratio * spread)))
        for at, ratio in pairs
    ]


@pytest.mark.parametrize(
    ("points", "kind", "text"),
    [
        (ratios((1, 4), (4, 2), (16, 1.5), spread=1.1), "always", "to the largest measured, 16 tokens"),
        (ratios((1, 0.4), (4, 0.2), spread=1.1), "never", "never"),
        (ratios((1, 4), (2, 2), (8, 0.5), (16, 0.25), spread=1.3), "up to", "up to 4 tokens (3.1-5.2)"),
        (ratios((1, 4), (2, 2), (8, 0.5)), "up to", "up to about 4 tokens (between 2 and 8)"),
        (ratios((1, 0.25), (2, 0.5), (8, 2), (16, 4), spread=1.3), "from", "from 4 tokens on (3.1-5.2)"),
        (ratios((2, 0.5), (8, 2)), "from", "from about 4 tokens on (between 2 and 8)"),
        (ratios((1, 0.9), (2, 3), spread=1.5), "from", "from about 1.1 tokens on (between 1 and 2)"),
        (ratios((1, 2), (2, 0.5), (4, 2)), "many", "turns more than once"),
        (ratios((1, 1.1), (2, 0.9), (4, 1.1), spread=1.5), "noisy", "too noisy to say"),
        (ratios((1, 1.2), (2, 0.5), spread=1.5), "up to", "up to about 1.2 tokens (between 1 and 2)"),
        (ratios((1, 1.3), spread=1.1), "single", "at 1 token: 1.3x, faster"),
        ([], "nothing", "not measured"),
    ],
)
def test_where_a_curve_turns_is_said_in_words(points, kind, text):
    found = turning(points, "token")
    assert (found.kind, found.text) == (kind, text)
    clear = {point.side for point in points}
    assert found.verdict is (True if 1 in clear else False if clear == {-1} else None)


def test_it_turns_where_the_logarithms_do():
    """A straight line of logarithms is met exactly, whichever way it runs and wherever it was measured."""
    for exponent in (-1.5, -0.7, 0.7, 1.5):
        found = turning(ratios(*((at, (at / 11) ** exponent) for at in (1, 3, 7, 20, 64)), spread=1.05))
        assert found.at == pytest.approx(11)
        reach = 1.05 ** (1 / abs(exponent))
        assert (found.low, found.high) == (pytest.approx(11 / reach), pytest.approx(11 * reach))
        assert found.kind == ("up to" if exponent < 0 else "from")


def test_the_batch_at_which_it_stops_paying_is_found(tmp_path):
    rows = batches(*table(tmp_path, *activations()))
    found = {name: turning(measured(same, "n", "speed_up"), "token") for name, same in rows.groupby("kernel")}
    assert found["actmm_good"].kind == "up to" and found["actmm_good"].at == pytest.approx(8, rel=0.02)
    assert found["actmm_good"].low < 8.2 and found["actmm_good"].high > 7.8
    assert found["actmm_never"].text == "never"
    assert found["actmm_always"].text == "to the largest measured, 64 tokens"
    best = rows[rows["best"] & ~rows["dense"]]
    assert turning(measured(best, "n", "speed_up")).kind == "always"


def test_seeds_of_a_batch_are_put_together(tmp_path):
    other = {"seed": 1, "case": "actmm/m=2048,k=8192,n=4/unstructured@0.9/bfloat16/seed=1"}
    slow = [0.5e-3 * (1 + at / 1000) for at in range(4)]
    lines = [*activations(visits=2, tokens=(4,)), *activations(visits=2, tokens=(4,), **other)]
    for one in lines:
        if one.kernel == "actmm_good" and one.seed == 1:
            one.seconds = [second / 4 for second in slow]
    rows = batches(*table(tmp_path, *lines))
    (point,) = measured(rows[rows["kernel"] == "actmm_good"], "n", "speed_up")
    assert point.at == 4 and point.ratio == pytest.approx(4, rel=0.02)  # of 2 and 8
    assert point.low < 2 and point.high > 8


def test_the_union_is_counted_and_the_law_is_that_of_independent_tokens(tmp_path):
    hot = {n: 0.1 * n**0.5 for n in TOKENS}
    both = [*activations(visits=1), *activations(visits=1, kind="hot", live=hot)]
    other = activations(visits=1, dtype="float32", live=dict.fromkeys(TOKENS, 0.5))
    found = unions(batches(*table(tmp_path, *both)))
    assert len(found) == 2 * len(TOKENS)
    for row in found.itertuples():
        assert row.law == pytest.approx(1 - 0.9**row.n)
        assert row.live == pytest.approx(row.law if row.line == "unstructured" else hot[row.n])
    lines = {tuple(HOVER[one]) for one in batch_figures.union(found).axes[0].lines if one in HOVER}
    told = next(one for one in lines if one[0].startswith("hot"))
    assert told[0] == "hot, 90 %, 1 token: 10.0 %" and told[-1] == "hot, 90 %, 64 tokens: 80.0 %"
    (law,) = [one for one in batch_figures.union(found).axes[0].lines if one not in HOVER]
    assert law.get_ydata() == pytest.approx([1 - 0.9**n for n in TOKENS])
    assert len(unions(batches(*table(tmp_path, *both, *other)))) == 2 * len(TOKENS)


def test_a_line_that_does_not_say_how_many_rows_are_empty_has_no_union(tmp_path):
    lines = [*activations(visits=1, tokens=(1, 2), structure={})]
    lines += activations(visits=1, tokens=(4,), structure={"empty_rows": 7.0})
    rows = batches(*table(tmp_path, *lines))
    assert (
        rows["live"].isna().all()
        and unions(rows).empty
        and titles(rows) == {("unstructured@0.9", ""): "unstructured, 90 %"}
    )
    page = page_of("batch", tmp_path, *lines)
    assert "What tokens have in common" not in page and "nan" not in words(page).lower()


def test_the_page_of_batches_says_it(tmp_path):
    made = pages(tmp_path, *activations(), *activations("actmm_up", tokens=(1,)))
    page, text = made["batch"], words(made["batch"])
    assert 'href="batch.html"' in made["index"] and "routing.html" not in made["index"]
    assert re.search(r"up to (7\.9|8\.0)\d* tokens \([\d.]+-[\d.]+\)", text)
    assert "never" in text and "to the largest measured, 64 tokens" in text
    assert "at 1 token: 8.0x, faster" in text
    assert page.count("<svg") == 2  # one batch is no curve
    assert "56.9\N{NO-BREAK SPACE}%" in text or "57.0 %" in text  # 1 - 0.9^8
    assert "nan" not in text.lower() and page.count("<caption") == page.count("<table")


def methods(tokens=(1, 4, 16), visits=3):
    """Rules at a budget of 90 %: `good` stops paying at 8 tokens, `shared` never, `random` is luck."""
    rng = np.random.default_rng(1)
    for visit in range(1, visits + 1):
        for n in tokens:
            given = ("actmm", {"m": 2048, "k": 8192, "n": n}, "chosen@0.9")
            case = f"actmm/m=2048,k=8192,n={n}/chosen@0.9/bfloat16/seed=0/data=swiglu"
            for selector, seconds, live, recall in (
                (None, 1e-3, 0.1, None),
                ("good", 1e-3 * n / 8, union_law(0.1, n), 0.9),
                ("shared", 5e-4, 0.1, 0.7),
                ("random", 1e-4, union_law(0.1, n), 0.1),
            ):
                work = {"dense": selector is None, "execution": "sparse" if selector else "dense"}
                work |= {"selector": selector, "data": "swiglu", "case": case, "sparsity": 0.9}
                work |= {
                    "control": "luck" if selector == "random" else None,
                    "kernel_hash": selector or "actmm_dense",
                }
                work |= {"quality": {} if recall is None else {"recall": recall, "error": 1 - recall}}
                kernel = "actmm_mine" if selector else "actmm_dense"
                work["kernel_hash"] = selector or kernel
                yield entry(*given, kernel, seconds, {"empty_rows": 1 - live}, visit, rng, work)


@pytest.mark.paper("polar-sparsity")
def test_the_batch_at_which_each_method_stops_paying_is_said(tmp_path):
    lines = [*activations(tokens=(1, 4, 16)), *methods()]
    rows = batches(*table(tmp_path, *lines))
    found = unions(rows)
    assert set(found["line"]) == {"unstructured", "good", "shared"}
    assert (found[found["line"] == "shared"]["live"].round(4) == 0.1).all()
    page = page_of("batch", tmp_path, *lines)
    text = words(page)
    assert re.search(r"good\S* up to (7\.9|8\.0)\d* tokens \([\d.]+-[\d.]+\)", text)
    assert "shared to the largest measured, 16 tokens" in text
    assert re.search(r"the best of them to the largest measured, 16 tokens", text)
    assert ">luck</span>" in page and "chosen, 90 %, swiglu, shared" in text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "nan" not in text.lower() and page.count("<caption") == page.count("<table")


@pytest.mark.paper("sirius")
def test_what_checks_leave_of_a_speed_up_is_worked_out(tmp_path):
    """A token of 1/8 of the dense time, and 1/16 of a dense call of 16: 5.3 in place of 8."""
    rows = batches(*table(tmp_path, *methods()))
    found = {row.selector: row for row in checked(rows).itertuples()}
    assert set(found) == {"good", "shared"} and {row.every for row in found.values()} == {16}
    assert found["good"].gain == pytest.approx(1 / (1 / 8 + 1 / 16), rel=0.02)
    assert found["good"].density == pytest.approx(0.1 + 1 / 16)
    assert checked(batches(*table(tmp_path, *methods(tokens=(1,))))).empty
    assert "with checks" in words(page_of("batch", tmp_path, *methods()))


def test_how_uneven_a_route_may_be_is_found(tmp_path):
    rows = routed(*table(tmp_path, *experts()))
    of = dict(iter(rows.groupby("kernel")))
    pays = {name: turning(measured(same, "imbalance", "speed_up")) for name, same in of.items()}
    leads = {name: turning(measured(same, "imbalance", "lead")) for name, same in of.items()}
    assert pays["moe_padded"].kind == "up to" and pays["moe_padded"].at == pytest.approx(4, rel=0.02)
    assert pays["moe_loop"].text == "to the largest measured, 8" and pays["moe_slow"].text == "never"
    assert leads["moe_padded"].kind == "up to" and leads["moe_padded"].at == pytest.approx(2, rel=0.02)
    assert leads["moe_loop"].kind == "from" and leads["moe_loop"].at == pytest.approx(2, rel=0.02)
    assert leads["moe_slow"].text == "never" and leads["moe_dense"].kind == "nothing"


def test_padding_and_touched_experts_are_those_of_the_lines(tmp_path):
    rows = routed(*table(tmp_path, *experts(visits=1)))
    padded = rows[rows["kernel"] == "moe_padded"]
    assert list(padded["padding"]) == pytest.approx(list(padded["imbalance"]), rel=1e-3)
    assert set(rows[rows["kernel"] == "moe_dense"]["padding"]) == {8.0}
    assert rows[rows["kernel"] == "moe_slow"]["padding"].isna().all()
    assert set(rows["touched"]) == {48} and set(rows["asked"]) == {8}
    assert rows["uniform"].to_numpy() == pytest.approx(64 * (1 - (1 - 8 / 64) ** 64))


def test_the_layer_of_as_many_flops_is_found(tmp_path):
    small = experts(visits=1, asked=8, held=8, traces={"zipf0": 1.0}, scale=0.1)
    rows = routed(*table(tmp_path, *experts(visits=1), *small))
    (found,) = as_dense(rows, rows[rows["experts"] == 64]).itertuples()
    assert (
        found.experts == 8 and found.kernel == "moe_dense" and found.median == pytest.approx(1e-4, rel=0.05)
    )


def test_the_page_of_routes_says_it(tmp_path):
    small = [experts(n, asked=8, held=8, traces={"zipf0": 1.0}, scale=0.1) for n in (16, 64)]
    even = experts(16, traces={"zipf0": 1.5})
    made = pages(tmp_path, *experts(), *even, *(one for lines in small for one in lines))
    page, text = made["routing"], words(made["routing"])
    assert 'href="routing.html"' in made["index"] and "batch.html" not in made["index"]
    assert re.search(r"up to (3\.9|4\.0)\d* \([\d.]+-[\d.]+\) fastest: up to (1\.9|2\.0)\d* \(", text)
    assert "fastest: from" in text and "Each token asks 8 of 64 experts." in text
    assert "dense of as many FLOPs" in text and "crowded" in text
    assert page.count("<svg") == 3  # against imbalance at 64 tokens; against tokens, of both layers
    assert "nan" not in text.lower() and page.count("<caption") == page.count("<table")


@pytest.mark.paper("upcycling-inference", "sparse-upcycling")
def test_what_a_mixture_of_copies_gains_and_costs_stand_in_one_table(tmp_path):
    """Its slowdown against the layer it was copied from, and its quality after as much training."""
    one = [experts(n, asked=1, held=1, traces={"zipf0": 1.0}, scale=0.1) for n in (16, 64)]
    timed = [*experts(), *experts(16), *(each for lines in one for each in lines)]
    about = {"task": "digits_vit", "pattern": "chosen@0.75", "sparsity": 0.75, "dense_value": 0.9}
    about |= {"training": "weights", "train_flops": 1e9, "infer_flops": 1e6, "execution": "simulated"}
    scores = [
        replace(score(), method=method, value=value + 0.001 * seed, seed=seed, **about)
        for method, value in (("continued", 0.90), ("continued-upcycled", 0.92))
        for seed in range(3)
    ]
    page = words(page_of("routing", tmp_path, *timed, *scores))
    table = page[page.index("the fastest here / one expert alone") :]
    assert re.match(r".{0,200}digits_vit yes, clearly at 75.{1,3}% \+2\.2 %", table), table[:300]
    assert "digits_vit yes" not in words(page_of("routing", tmp_path / "without", *timed))


def test_other_lines_have_no_such_pages(tmp_path):
    made = pages(
        tmp_path, line(seconds=[1e-3]), *activations(visits=1, tokens=(1,), seconds=[], outcome="timeout")
    )
    assert not {"batch", "routing"} & set(made)
    assert "batch.html" not in made["index"] and "routing.html" not in made["index"]


def test_lines_that_say_too_little_break_nothing(tmp_path):
    odd = [
        *activations(visits=1, tokens=(2,), sizes={"n": 2}),
        *activations(visits=1, tokens=(2,), sizes={"m": 4}),
        *activations(visits=1, tokens=(2,), sparsity=0.5, pattern="given", flops_useful=None),
        *activations(visits=1, tokens=(4, 8), dense=False),
        *experts(visits=1, sizes={"n": 3}),
        *experts(visits=1, structure={}),
        *experts(visits=1, structure={"row_max_over_mean": 3.0, "empty_rows": None, "row_cv": None}),
        *experts(n=8, visits=1, flops_useful=0),
    ]
    for one in odd[:4]:
        one.sparsity = None
    for name in ("batch", "routing"):
        assert "nan" not in words(page_of(name, tmp_path, *odd)).lower()


def test_what_names_hold_is_escaped(tmp_path):
    quoted = "a&b<i>"
    found = batches(*table(tmp_path, *activations(visits=1)))
    found["kernel"] = found["kernel"].where(found["dense"], SCRIPT)
    drawn = svg(batch_figures.speed_up(found, "n", "tokens", {SCRIPT: 0}, "token", read=found), "a", quoted)
    assert "<script" not in drawn and "&lt;script" in drawn and "a&amp;b&lt;i&gt;" in drawn
    for name, lines in (("batch", activations(visits=1)), ("routing", experts(visits=1))):
        view = view_of([write(tmp_path / "run.jsonl", header(), *lines)])
        for column in ("kernel", "device", "pattern", "line", "cache"):
            view.frame[column] = SCRIPT + view.frame[column]
        page = rendered(name, view)
        assert SCRIPT not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20


def test_figures_stay_within_what_their_lines_reach(tmp_path):
    wild = list(activations(visits=2))
    for one in wild:
        if one.visit == 2 and not one.dense:
            one.seconds = [second * 9 for second in one.seconds]
    found = batches(*table(tmp_path, *wild))
    figure = batch_figures.speed_up(found, "n", "tokens", {"actmm_good": 0}, "token")
    low, high = figure.axes[0].get_ylim()
    assert found["speed_up_high"].max() > 1e3 and low > 0.01 and high < 40
