"""The life of a cache: made, thinned, asked, asked again; what is right is known, so answers are marked."""

import re
from math import log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lines import header, write
from torch.utils.flop_counter import FlopCounterMode

from suite import report
from suite.case import case
from suite.check import question
from suite.commands import load
from suite.cpu.device import Cpu
from suite.inputs import INPUTS
from suite.kernel import KERNELS
from suite.measure import Effort
from suite.op import generator, make_operands
from suite.ops import decode
from suite.patterns.chosen import Chosen
from suite.reading.smaller import ALIKE, BETTER, WORSE, Model, around, clearly, sizes
from suite.reading.turns import Asked, Line, asked
from suite.report import view_of
from suite.selection import pages_kept
from suite.selector import SELECTORS, entries, ready
from suite.visit import Visit

load()

written = pytest.importorskip("suite.workloads.inputs_turns")

pytestmark = pytest.mark.paper("scbench", "sparse-frontier")

SEEDS = range(3)
SELECTING = ("pages", "double_sparsity")  # each question looks for itself, in all of the cache
TEXTS = ("turns", "requests", "turns_streamed", "turns_rounded")
DENSE = [name for name, one in KERNELS.items() if one.op == "decode" and one.dense and one.on == "cpu"]


def point(data="turns", sparsity=0.875, seed=0, n=4, h=8, g=4, t=1024, d=64, b=16):
    return case("decode", Chosen(sparsity), "bfloat16", seed, data, n=n, h=h, g=g, t=t, d=d, b=b)


class Marks:
    """Of selectors on a case."""

    def __init__(self, one):
        self.case, self.asked = one, question(one, make_operands(one))

    def of(self, name):
        found, whole = self.asked.chosen(SELECTORS[name]), self.asked.whole
        return decode.quality(self.case, (found.operands, found.expected), (whole.operands, whole.expected))

    def strings(self, name, end=""):
        """The shares of right answers, question by question."""
        told = self.of(name)
        return [told[key] for key in told if re.fullmatch(rf"(turn|request) \d+{end}", key)]


@pytest.fixture(scope="module")
def conversations():
    return [Marks(point(seed=seed)) for seed in SEEDS]


def mean(values):
    return sum(values) / len(values)


# Generation.


@pytest.mark.parametrize("data", TEXTS)
def test_every_sequence_holds_one_context_and_the_same_seed_the_same(data):
    one = point(data)
    (_, k, v, q), (_, *again) = make_operands(one), make_operands(one)
    assert k.equal(k[:1].expand_as(k)) and v.equal(v[:1].expand_as(v))
    assert all(mine.equal(its) for mine, its in zip((k, v, q), again, strict=True))
    assert not q[0].equal(q[1])


@pytest.mark.parametrize("near", [None, 1])
def test_a_cache_that_grows_is_the_one_made_anew(near):
    """Reading on keeps what was cached: no token sees a later one."""
    one = point(t=768)
    tokens = written.written(one, generator(one, 1)).tokens
    whole = written.previous(tokens, torch.Generator().manual_seed(5), near)
    for t in (256, 300, 512):
        part = written.previous(tokens[:, :t], torch.Generator().manual_seed(5), near)
        torch.testing.assert_close(part, whole[:, :t])


def test_keys_say_which_token_came_before():
    one = point()
    text = written.written(one, generator(one, 1))
    for near in (None, 1):
        keys = written.previous(text.tokens, torch.Generator().manual_seed(5), near)
        cosine = torch.nn.functional.cosine_similarity(keys[:, 1:], text.tokens[:, :-1], dim=-1)
        assert cosine.mean() > 0.99


def test_dense_prefill_grows_with_the_square_of_the_text_and_sparse_with_its_length():
    """Counted, not stated."""

    def counted(t, near):
        tokens = torch.zeros(2, t, 16)
        with FlopCounterMode(display=False) as counter:
            written.previous(tokens, torch.Generator().manual_seed(0), near)
        return counter.get_total_flops()

    growth = {near: log2(counted(8192, near) / counted(4096, near)) for near in (None, 1)}
    assert growth[None] > 1.9 and growth[1] < 1.1, growth


# Reuse.


@pytest.mark.parametrize("name", DENSE)
def test_a_cache_that_is_asked_again_answers_as_one_made_anew(name):
    one, alone = point(), point(n=1)
    kernel = KERNELS[name]
    if kernel.refusals(one, Cpu()):
        pytest.skip("not on this machine")
    a, k, v, q = make_operands(one)
    a = decode.whole(alone, (a, k[:1], v[:1], q[:1]))[0]
    kept = ready(kernel, alone, (a, k[:1].clone(), v[:1].clone(), q[:1]))
    for turn in range(one["n"]):
        _, k_anew, v_anew, q_anew = make_operands(one)
        own = q_anew[turn : turn + 1]
        anew = ready(kernel, alone, (a, k_anew[:1].clone(), v_anew[:1].clone(), own))
        assert kept.run(q[turn : turn + 1]).equal(anew.run(own))


@pytest.mark.parametrize("name", [*SELECTING, "snap", "shadow", "random_tokens"])
def test_the_same_seed_gets_the_same_marks(name):
    assert Marks(point(t=512)).of(name) == Marks(point(t=512)).of(name)


# What is kept, and what is read: counted.


def looked_at(name, one):
    """Tokens of a group that some question looks at, and bytes of a question."""
    _, k, v, q = make_operands(one)
    found = SELECTORS[name].prepare(one, k, v)(q)
    used = decode.seen_tokens(found, one["t"], one["n"], one["h"]).view(one["n"], one["g"], -1, one["t"])
    return float(used.any(2).any(0).sum(-1).float().mean()), decode.bytes_read(found, k) / one["n"]


@pytest.mark.parametrize(("name", "grows"), [("snap", False), ("pages", True), ("double_sparsity", True)])
def test_what_all_questions_look_at_stays_or_grows_with_the_text(name, grows):
    """Questions everywhere in a text, a budget of eight pages: eviction keeps them, selection all."""
    short, long = (
        looked_at(name, point(sparsity=1 - 8 * 16 / t, n=t // 16, h=2, g=2, t=t)) for t in (512, 2048)
    )
    assert short[1] == long[1]
    assert long[0] > 3 * short[0] if grows else long[0] == short[0] == 8 * 16


def test_labels_are_a_part_of_all_keys():
    """What selection keeps beside the cache grows with the text, too."""
    sizes = []
    for t in (512, 1024):
        _, k, v, _ = make_operands(point(t=t))
        labels, _ = SELECTORS["double_sparsity"].prepare(point(t=t), k, v).holds
        sizes.append(labels.nbytes)
    assert sizes[1] == 2 * sizes[0]


# Answers.


def test_attention_in_full_answers_everything(conversations):
    for marks in conversations:
        told = marks.of("recent")
        assert marks.strings("recent", " in full") == [1.0] * 3
        assert told["turn 4 miscount in full"] < 0.05


def test_eviction_by_the_first_question_falls_from_turn_to_turn(conversations):
    for marks in conversations:
        first, *later = marks.strings("snap")
        assert first >= 0.9 and mean(later) <= first - 0.5, (first, later)
        assert marks.of("snap")["cache used"] == 0.125


@pytest.mark.parametrize("name", SELECTING)
def test_selection_out_of_all_the_cache_does_not_fall(name, conversations):
    for marks in conversations:
        first, *later = marks.strings(name)
        assert mean(later) >= first - 0.3 and mean(later) >= 0.7, (first, later)
        assert mean(later) >= mean(marks.strings("snap")[1:]) + 0.4
        assert mean(later) >= mean(marks.strings("random_tokens")) + 0.4


def test_keys_of_low_rank_do_not_fall(conversations):
    answers = [marks.strings("shadow") for marks in conversations]
    assert mean([mean(later) for _, *later in answers]) >= mean([first for first, *_ in answers]) - 0.2


@pytest.mark.parametrize("data", ["turns_streamed", "turns_rounded"])
def test_a_whole_cache_of_sparse_prefill_or_of_four_bits_does_not_fall(data):
    for seed in SEEDS:
        assert Marks(point(data, seed=seed)).strings("recent", " in full") == [1.0] * 3


def test_a_single_question_is_all_that_eviction_answers():
    for seed in SEEDS:
        assert Marks(point(seed=seed, n=1)).strings("snap") == [1.0]


def test_eviction_before_anything_is_asked_fails_every_request():
    for seed in SEEDS:
        marks = Marks(point("requests", seed=seed))
        assert max(marks.strings("snap")) <= 0.5
        assert mean(marks.strings("pages")) >= mean(marks.strings("snap")) + 0.3
        assert set(marks.of("snap")) >= {"request 1", "request 2", "request 3 miscount"}


def test_no_budget_counts_a_whole_text(conversations):
    """Attention to all is off by 5 % at most; a method's pages by much more."""
    for marks in conversations:
        for name in ("snap", *SELECTING, "recent"):
            assert marks.of(name)["turn 4 miscount"] > 0.1


@pytest.mark.parametrize("name", ["oracle_tokens", "snap", "pages", "double_sparsity"])
def test_the_page_that_answers_the_first_question_is_kept(name):
    for seed in SEEDS:
        one = point(sparsity=0.75, seed=seed, g=8)
        marks = Marks(one)
        text = written.written(one, generator(one, 1))
        kept = marks.asked.chosen(SELECTORS[name]).operands[0].columns.view(-1, pages_kept(one))
        pages = (text.asked[0] + 1) // 16
        missed = [head for head in range(8) if int(pages[head]) not in kept[head].tolist()]
        assert len(missed) <= (name in SELECTING)


def test_caches_that_differ_are_each_asked_for_the_first_time():
    one = point("blend", n=2)
    k, v, q = decode.drawn(one)
    found = SELECTORS["snap"].prepare(one, k, v)(q)
    for at in range(2):
        single = point("blend", n=1)
        alone = SELECTORS["snap"].prepare(single, k[at : at + 1], v[at : at + 1])(q[at : at + 1])
        assert found.columns.view(2, -1)[at].equal(alone.columns)


def test_asked_once_it_looks_at_all_that_knowledge_does_and_pays_for_it():
    """Where heads have keys of their own it keeps the same pages; its choosing is never told to be cheap."""
    for groups in (8, 2):
        one = point("blend", n=2, g=groups)
        k, v, q = decode.drawn(one)
        snap, known = (SELECTORS[name].prepare(one, k, v)(q) for name in ("snap", "oracle_tokens"))
        assert snap.flops == known.flops and snap.read >= known.read
        assert snap.columns.equal(known.columns) == (groups == 8)


# The page.


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    one, two = point(t=512), point("requests", t=512)
    names = ("decode_matmul", *(f"decode_gather_torch+{name}" for name in ("snap", "pages", "recent")))
    chosen = [entries()[name] for name in names]
    visit = Visit(Cpu(1), 1, effort=Effort(cap=0.001))
    found = [line for each in (one, two) for line in visit.results("turns", each, chosen)]
    assert {line.outcome for line in found} == {"ok"}
    return write(tmp_path_factory.mktemp("turns") / "run.jsonl", header(workloads={"turns": 1}), *found)


def test_a_line_for_each_method_the_best_at_later_questions_first(file):
    view = view_of([file])
    turns, requests = asked(view.frame, view.rows)
    assert turns.questions == ["turn 1", "turn 2", "turn 3", "turn 4 miscount"]
    assert requests.questions == ["request 1", "request 2", "request 3 miscount"]
    assert [line.selector for line in turns.lines][:2] == ["", "pages"]
    whole, *others = turns.lines
    assert whole.worth["turn 3"] == 1.0 and whole.used == 1.0
    assert whole.read == 2 * 4 * 512 * 64 * 2
    for line in others:
        assert line.read < whole.read and line.used < 1
        assert line.control == ("habit" if line.selector == "recent" else "")


def test_the_page_shows_every_question(file, tmp_path):
    report.write([file], tmp_path / "site")
    page = (tmp_path / "site" / "turns.html").read_text()
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "all of it" in said and "turn 2" in said and "request 3 miscount" in said and "off by" in said
    assert INPUTS["requests"].about.partition("\n")[0] in said and "nan" not in said


def test_without_such_lines_there_is_no_page(tmp_path):
    report.write([write(tmp_path / "run.jsonl", header())], tmp_path / "site")
    assert not (tmp_path / "site" / "turns.html").exists()


# Larger and sparse, or smaller and dense.


def answered(d, sparsity, *methods, full=(1.0, 0.1)):
    """A case of heads d wide: what is right and off in full, and methods as (name, work, right, off)."""
    about = {
        "device": "here",
        "data": "turns",
        "sizes": f"d={d}",
        "case": f"{d}",
        "pattern": f"chosen@{sparsity}",
    }
    questions = ["turn 1", "turn 2", "turn 3 miscount"]

    def line(name, work, right, off):
        return Line(
            name, "kernel", dict(zip(questions, (right, right, off), strict=True)), 1.0, None, 1e-3, work
        )

    extent = {"n": 3, "h": 12, "d": d, "t": 1024}
    return Asked(about, extent, questions, [line("", 1.0, *full), *(line(*one) for one in methods)])


def test_methods_stand_beside_smaller_models_of_as_many_flops():
    cases = [
        answered(16, 0.75, full=(0.0, 0.1)),
        answered(32, 0.75, full=(0.5, 0.1)),
        answered(64, 0.75, ("good", 0.375, 1.0, 0.05), ("fair", 0.375, 0.5, 0.1), ("lavish", 1.2, 1.0, 0.0)),
        answered(64, 0.7, ("good", 0.5, 1.0, 0.1), ("bad", 0.6, 0.0, 0.4), ("costly", 0.6, 0.75, 0.1)),
        answered(64, 0.9, ("good", 0.1, 0.75, 0.1), ("frugal", 0.1, 0.0, 0.2), ("silent", None, 1.0, 0.0)),
    ]
    (found,) = sizes(cases)
    assert found.answers == 24 and {d: one.work for d, one in found.full.items()} == {
        16: 0.25,
        32: 0.5,
        64: 1,
    }
    told = {(one.line.selector, one.sparsity): one for one in found.beside}
    good, fair, bad = told["good", "0.75"], told["fair", "0.75"], told["bad", "0.7"]
    assert (good.below, good.above) == (found.full[16], found.full[32])
    assert told["good", "0.7"].below == told["good", "0.7"].above == found.full[32]
    assert (good.right, good.off, bad.right, bad.off) == (BETTER, BETTER, WORSE, WORSE)
    assert (fair.right, told["costly", "0.7"].right) == (ALIKE, ALIKE)  # better than one that costs less
    assert told["good", "0.9"].right == BETTER  # than the smallest, which costs more
    frugal = told["frugal", "0.9"]
    assert (frugal.right, frugal.off) == ("", "") and "so small" in frugal.why
    assert told["lavish", "0.75"].above is None and told["silent", "0.9"].above is None
    assert found.winners("right") == ["good"]


def test_one_size_alone_or_another_text_is_no_comparison():
    other = answered(32, 0.75)
    other.about["data"] = "requests"
    assert not list(sizes([answered(64, 0.75), other]))


@given(st.integers(1, 200), st.data())
def test_right_answers_that_chance_explains_are_not_clear(answers, data):
    mine, other = (data.draw(st.integers(0, answers)) for _ in range(2))
    says, back = (
        clearly(mine / answers, other / answers, answers),
        clearly(other / answers, mine / answers, answers),
    )
    assert (says, back) in {(ALIKE, ALIKE), (BETTER, WORSE), (WORSE, BETTER)}
    assert says == ALIKE if abs(mine - other) < 3 else says in (ALIKE, BETTER if mine > other else WORSE)


def test_names_are_more_alike_to_a_smaller_model():
    """The same text and questions: what narrow heads get wrong in full, wide ones get right."""
    right = {
        d: mean([mean(Marks(point(d=d, seed=seed)).strings("recent", " in full")) for seed in SEEDS])
        for d in (16, 32, 64)
    }
    assert right[16] < 0.3 < right[32] < right[64] == 1.0
    full = [Model(d / 64, right[d], 0.0) for d in right]
    assert around(full, 0.375)[:2] == (full[0], full[1])
