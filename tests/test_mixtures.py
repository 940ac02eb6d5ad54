"""Mixtures of experts at equal FLOPs of training: what is held is held, and a planted trend is told."""

import math
import re

import pytest
import torch
from lines import header, score, write
from msgspec import structs

from suite import report
from suite.kernel import Refused
from suite.op import discover_parts
from suite.patterns.chosen import Chosen
from suite.reading.mixtures import sweeps
from suite.reading.scores import studies
from suite.record import read
from suite.registry import discover
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover()

from suite.workloads.accuracy.feed import Feed  # noqa: E402
from suite.workloads.accuracy.transforms import mixtures  # noqa: E402

pytestmark = pytest.mark.paper("moe-params-vs-flops")
IDLE = (0.5, 0.75, 0.875)


def layer_of(experts=4, each=5, dim=6):
    torch.manual_seed(0)
    return Feed(dim, experts * each, rule=mixtures.Switch(dim, experts)).train()


def test_a_token_gets_the_answer_of_its_expert_times_its_likelihood():
    layer, x = layer_of(), torch.randn(3, 7, 6)
    told = layer.rule.router(x).softmax(-1)
    for place in range(3):
        for token in range(7):
            expert = int(told[place, token].argmax())
            rows = slice(5 * expert, 5 * expert + 5)
            hidden = torch.nn.functional.gelu(layer.up.weight[rows] @ x[place, token] + layer.up.bias[rows])
            mine = told[place, token, expert] * layer.down.weight[:, rows] @ hidden + layer.down.bias
            torch.testing.assert_close(layer(x)[place, token], mine)
    layer(x).sum().backward()
    assert layer.rule.router.weight.grad.abs().sum() > 0, "the gate teaches the router"
    assert layer.up.share == layer.down.share == 1 / 4


def test_uneven_is_one_for_even_loads_and_the_number_of_experts_at_worst():
    layer = layer_of(experts=4, dim=4)
    with torch.no_grad():
        layer.rule.router.weight.copy_(50 * torch.eye(4))
        layer(torch.eye(4).repeat(6, 1))
        assert layer.rule.uneven.item() == pytest.approx(1) and layer.rule.loads.tolist() == [6] * 4
        layer(torch.eye(4)[:1].repeat(6, 1))
        assert layer.rule.uneven.item() == pytest.approx(4)


@pytest.mark.parametrize("sparsity", [0.6, 0.0])
def test_budgets_of_no_whole_number_of_experts_are_refused(sparsity):
    problem = TASKS["digits_vit"].problem(0)
    if sparsity:
        with pytest.raises(Refused, match="not one of a whole number of experts"):
            mixtures.mixture(problem, Chosen(sparsity))
    else:
        assert mixtures.mixture(problem, Chosen(0.0)).blocks[0].feed.rule.router.out_features == 1
    with pytest.raises(Refused, match="too few for 128 experts"):
        mixtures.mixture(problem, Chosen(1 - 1 / 128))


@pytest.fixture(scope="module")
def made():
    """A whole sweep by both constraints, trained for so short a time that only the books are of interest."""
    problem = TASKS["digits_vit"].problem
    steps, problem.steps = problem.steps, 48  # whole ones: of fewer, one is over 2 %
    experiment = Experiment(TASKS["digits_vit"], 0, "made-up")
    found = [experiment.train_dense()]
    for transform in ("mixture", "parted"):
        found += [experiment.line(f"matched-{transform}", f"chosen@{one}") for one in IDLE]
    problem.steps = steps
    assert all(one.outcome == "ok" for one in found), [one.note for one in found]
    return found


def test_what_is_held_is_held_and_idle_is_counted(made):
    dense = made[0]
    whole = sum(one["m"] * one["k"] for one in dense.layers)
    for one in made[1:]:
        weights = sum(layer["m"] * layer["k"] for layer in one.layers)
        assert one.train_flops == pytest.approx(dense.train_flops, rel=0.02)
        assert one.execution == "simulated" and one.sparsity == pytest.approx(1 - one.nonzeros / weights)
        feed = [layer for layer in one.layers if ".feed.up" in layer["name"] or ".feed.down" in layer["name"]]
        assert {layer["sparsity"] for layer in feed} == {float(one.pattern.partition("@")[2])}
        if one.transform == "mixture":
            assert one.infer_flops == pytest.approx(dense.infer_flops, rel=0.02) and weights > 1.4 * whole
            assert one.train_tokens == pytest.approx(dense.train_tokens, rel=0.02)
        else:
            assert weights == pytest.approx(whole, rel=0.02) and one.infer_flops < 0.8 * dense.infer_flops
            assert one.train_tokens > 1.2 * dense.train_tokens


def test_a_study_of_mixtures_is_on_the_page(made, tmp_path):
    seeds = [structs.replace(one, seed=seed) for seed in range(3) for one in made]
    file = write(tmp_path / "study.jsonl", header(options={"study": []}), *seeds)
    assert not read(file).faults
    (study,) = studies([read(file)])
    assert [(one.constraint, len(one.models)) for one in sweeps(study)] == [
        ("FLOPs of an example", 4),
        ("weights", 4),
    ]
    report.write([file], tmp_path / "site")
    assert 'href="isoflop.html"' in (tmp_path / "site" / "index.html").read_text()
    said = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "isoflop.html").read_text())
    assert said.count("Experts are simulated: no time is claimed") == 2 and "matched-parted" in said


LAYER = {"name": "a", "m": 10, "k": 10, "n": 1, "pattern": "dense", "sparsity": 0.0}


def planted(loss_of, seeds=4, idle=(0.0, *IDLE)):
    """Scores of a mixture whose loss at so many doublings is planted; seeds differ by a factor."""
    for seed in range(seeds):
        for one in idle:
            loss = loss_of(-math.log2(1 - one)) * (1 + 0.1 * seed)
            about = {"task": "t", "seed": seed, "start": "fresh", "quality": {"cross entropy": loss}}
            about |= {"infer_flops": 1e6, "train_flops": 1e9, "layers": [LAYER]}
            about |= {"value": 0.9, "dense_value": 0.9, "training": "weights"}
            if one:
                about |= {"method": "matched-mixture", "pattern": f"chosen@{one}", "sparsity": one}
                about |= {"iso": "infer_flops", "transform": "mixture"}
            else:
                about |= {"method": "dense", "pattern": "dense", "sparsity": 0.0, "execution": "dense"}
            yield structs.replace(score(), **about)


def swept(tmp_path, scores):
    return sweeps(studies([read(write(tmp_path / "study.jsonl", header(), *scores))])[0])


def test_planted_trends_and_optima_are_told(tmp_path):
    (one,) = swept(tmp_path, planted(lambda x: 0.2 * math.exp(-0.1 * x)))
    assert one.says == "the more is idle the lower" and one.slope.middle == pytest.approx(-0.1)
    assert one.off < 1e-6 and one.held == one.trained == 0
    (one,) = swept(tmp_path, planted(lambda x: 0.2 * math.exp(0.1 * x)))
    assert one.says == "the more is idle the higher" and one.best.idle == 0
    (one,) = swept(tmp_path, planted(lambda x: 0.2 * math.exp(0.1 * (x - 1.6) ** 2)))
    assert one.says == "least at 75 % idle, clearly below both ends"
    assert one.optimum == pytest.approx(1 - 2**-1.6) and one.off < 1e-6
    (one,) = swept(tmp_path, planted(lambda x: 0.2 + 0.0 * x))
    assert one.says == "no clear trend"


def test_of_few_models_or_seeds_nothing_is_told(tmp_path):
    assert not swept(tmp_path, planted(lambda x: 0.2, seeds=2))
    assert not swept(tmp_path, planted(lambda x: 0.2, idle=(0.0, 0.5)))
    assert not swept(tmp_path, [structs.replace(one, infer_flops=None) for one in planted(lambda x: 0.2)])
