"""Spared: laws of active neurons by length of training, from planted scores to the page."""

import re

import pytest
from lines import header, write
from test_scores import dense, found, one

from suite import report
from suite.reading.scores import studies
from suite.reading.spared import laws

LENGTHS = {"plain_quarter": 7441, "plain": 30020, "plain_fourfold": 119783}

pytestmark = pytest.mark.paper("sparsing-law")


def planted(kind, exponent, seeds=3, off=0.01, lengths=LENGTHS):
    """A law's scores; each seed is off by a part of it, in a direction of its own."""
    for seed in range(seeds):
        for at, (trainer, examples) in enumerate(lengths.items()):
            active = 0.4 * (examples / 30020) ** exponent * (1 + off * (seed - 1) * (at - 1))
            yield one(
                f"{trainer}-{kind}",
                0.2,
                seed,
                0.9,
                pattern="chosen@0.75",
                transform=kind,
                trainer=trainer,
                start="fresh",
                training="weights",
                train_tokens=examples + seed,  # folds are not all of one size
                quality={"neurons spared": 1 - active},
            )


def read(tmp_path, *lines):
    (study,) = studies([found(tmp_path, *map(dense, range(3)), *lines)])
    return {one.kind: one for one in laws(study)}


def test_a_planted_exponent_is_found_with_its_residual(tmp_path):
    told = read(tmp_path, *planted("relu", -0.2), *planted("silu", 0.3), *planted("gelu", 0.01))
    assert told["relu"].exponent.middle == pytest.approx(-0.2, abs=1e-3)
    assert told["silu"].exponent.middle == pytest.approx(0.3, abs=1e-3)
    assert abs(told["relu"].residual) < 1e-3 and len(told["relu"].active) == 3
    assert str(told["relu"]) == "longer training leaves fewer active"
    assert str(told["silu"]) == "longer training leaves more active"
    assert str(told["gelu"]) == "no interval excludes chance"


def test_a_bend_stays_as_a_residual_and_two_lengths_are_no_law(tmp_path):
    few = {name: LENGTHS[name] for name in ("plain", "plain_fourfold")}
    bent = [*planted("relu", -0.2, off=0.0), *planted("silu", 0.2, lengths=few)]
    bent[1].quality["neurons spared"] = bent[4].quality["neurons spared"] = 0.5
    told = read(tmp_path, *bent)
    assert set(told) == {"relu"} and abs(told["relu"].residual) > 0.05


def test_seeds_that_lack_a_length_are_left_out(tmp_path):
    told = read(tmp_path, *[*planted("relu", -0.2)][:-1])
    assert told["relu"].exponent.seeds == 2


def test_the_page_shows_the_law_and_nothing_where_there_is_none(tmp_path):
    for name, more in (("with", planted("relu", -0.2)), ("without", ())):
        lines = [*map(dense, range(3)), one("magnitude-uniform", 0.5, 0, 0.9), *more]
        file = write(tmp_path / f"{name}.jsonl", header(options={"study": []}), *lines)
        report.write([file], tmp_path / name)
        page = (tmp_path / name / "accuracy-digits_mlp.html").read_text()
        assert ("How many neurons stay active" in page) == (name == "with")
        if name == "with":
            text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
            assert "relu 7.44 k: 52.9 %, 30 k: 40.0 %, 120 k: 30.3 % -0.200" in text
