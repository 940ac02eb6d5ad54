"""Studies in real child processes: what a method does costs its line, and the file says what was done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lines import header, score, write
from msgspec import structs

from suite.cli import main
from suite.op import discover_parts
from suite.record import Score, read
from suite.registry import discover
from suite.run import newest
from suite.study import StudyOptions, plan
from suite.studying import child
from suite.studying.child import DENSE_MODEL, Lot, StudyJob, Trial, learn, try_all
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy.tasks import linear_recovery  # noqa: E402

STRANGERS = Path(__file__).parent / "strangers.py"
OUTCOMES = {
    "stranger-uniform": "ok",
    "stranger_raises-uniform": "broken",
    "stranger_dies-uniform": "broken",
    "stranger_hangs-uniform": "timeout",
    "magnitude-uniform-stranger_cheats": "broken",
    "magnitude-uniform-stranger_stops": "broken",
    "magnitude-uniform-stranger_forgets": "broken",
}

GLOBS = "*stranger*-uniform", "*-uniform-stranger_*"
MORE = "--seeds", 1, "--limit", "2s", "--threads", 2


def sparsemark(*words):
    """Run a command; its children find what the strangers' file imports."""
    return subprocess.run(
        (sys.executable, "-m", "suite", *map(str, words)),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(STRANGERS.parent)},
    )


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A study of a stranger's task and methods, most of which misbehave, and its output."""
    file = tmp_path_factory.mktemp("study") / "study.jsonl"
    words = ("study", "stranger_task", "--plugin", STRANGERS, *MORE, "--methods", *GLOBS)
    done = sparsemark(*words, "--out", file)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return file, done, words


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_stranger_gets_its_outcome(strangers, name):
    lines = [line for line in read(strangers[0]).lines if isinstance(line, Score) and line.method == name]
    assert len(lines) == 1
    for line in lines:
        assert line.outcome == OUTCOMES[name], line.note
        assert (line.value is None) == (line.outcome != "ok") == bool(line.note)


def test_no_line_is_lost_or_doubled(strangers):
    recorded = read(strangers[0])
    assert not recorded.faults and not recorded.torn
    scores = [line for line in recorded.lines if isinstance(line, Score)]
    assert max(Counter(line.key for line in scores).values()) == 1
    assert recorded.run is not None and len(scores) == recorded.run.planned
    assert sum(line.method == "dense" for line in scores) == 1
    assert recorded.run.options["study"] == ["stranger_task"]
    assert recorded.run.workloads == {"stranger_task": 1}
    assert "stranger-uniform" in strangers[1].stdout and "failed" in strangers[1].stdout


def test_a_resumed_study_goes_on_where_it_was(strangers, tmp_path):
    """Cut at a torn line; what was done stays as it was, and nothing is done twice."""
    file, _, words = strangers
    lines = file.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    done = sparsemark(*words, "--resume", "--out", cut)
    assert done.returncode == 0, done.stderr
    assert cut.read_bytes().startswith(b"".join(lines[:-2]))
    before, after = read(file), read(cut)
    assert {one.key for one in after.lines[1:]} == {one.key for one in before.lines[1:]}
    assert sparsemark(*words, "--resume", "--out", cut).returncode == 0  # there is nothing left
    assert cut.read_bytes().count(b"\n") == len(lines)
    other = sparsemark(*words[:-1], "--resume", "--out", cut)
    assert other.returncode == 2 and "was measured with --methods" in other.stderr


def test_a_study_is_the_same_again():
    """Whatever was tried before: a resumed study, and one of other methods, give the same numbers."""
    trials = [(f"random-erk{more}", "unstructured@0.8") for more in ("", "-set", "-rigl")]
    values = []
    for order in (trials, trials[::-1]):
        experiment = Experiment(TASKS["linear_recovery"], 0, "made-up")
        experiment.train_dense()
        values.append({trial: experiment.line(*trial).quality for trial in order})
    assert values[0] == values[1]


def test_ctrl_c_ends_a_study_cleanly(tmp_path):
    file = tmp_path / "study.jsonl"
    words = (sys.executable, "-m", "suite", "study", "digits_cnn", "--out", str(file), "--threads", "1")
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (file.exists() and file.read_bytes().count(b"\n") > 3):
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130 and "--resume goes on" in said and "Traceback" not in said
    assert not read(file).faults


def test_a_budget_is_kept(tmp_path):
    """What is over in time is in the file, and the dense model is there to hold it against."""
    file = tmp_path / "study.jsonl"
    done = sparsemark("study", "digits_mlp", "--seeds", 2, "--threads", 1, "--budget", "3s", "--out", file)
    assert done.returncode == 0, done.stderr
    recorded = read(file)
    scores = [line for line in recorded.lines if isinstance(line, Score)]
    assert recorded.run is not None and recorded.run.planned is not None
    assert 1 <= len(scores) < recorded.run.planned and scores[0].method == "dense"


def test_out_of_time_a_lot_has_its_dense_model_only():
    said = []
    experiment = Experiment(TASKS["linear_recovery"], 0, "made-up")
    begun = try_all(experiment, (Trial("magnitude-uniform", "unstructured@0.8"),), 3, 0, 0.0, said.append)
    assert begun == 0
    assert [(one.lot, one.begins) for one in said if one.begins is not None] == [(3, DENSE_MODEL)]
    assert [one.line.method for one in said if one.line] == ["dense"]


def test_time_that_one_lot_leaves_is_spent_on_those_cut_short(monkeypatch):
    """Two lots of equal shares, where a trial takes one second: the first is cut, the second needs little."""
    now = 0.0

    class Instant:
        def __init__(self, task, seed, device):
            pass

        def train_dense(self):
            return score()

        def line(self, *_):
            nonlocal now
            now += 1.0
            return score()

    monkeypatch.setattr("suite.studying.experiment.Experiment", Instant)
    monkeypatch.setattr(child, "perf_counter", lambda: now)
    trials = tuple(Trial("magnitude-uniform", f"unstructured@0.{at}") for at in range(1, 10))
    lots = [Lot("digits_mlp", 0, trials), Lot("digits_cnn", 0, trials[:1])]
    said = []
    job = StudyJob(lots=lots, device="made-up", until=8.5)
    learn(job, said.append)
    begun = [(one.lot, one.begins) for one in said if one.begins not in (None, DENSE_MODEL)]
    first = [(0, at) for at in range(9)]
    assert begun == [*first[:5], (1, 0), *first[5:8]], "5 of 8.5 s, 1 s, and what was left"


def test_the_newest_run_is_no_study(tmp_path):
    run = write(tmp_path / "2026-01-01T000000.jsonl", header())
    study = write(tmp_path / "2026-01-02T000000.jsonl", header(options={"study": []}))
    assert newest(tmp_path) == run and newest(tmp_path, study=True) == study
    assert newest(tmp_path / "nowhere", study=True) is None


def test_a_score_without_a_value_is_a_fault(tmp_path):
    file = write(tmp_path / "study.jsonl", header(), structs.replace(score(), value=None), score(), score())
    assert [str(one).partition(": ")[2] for one in read(file).faults] == [
        "outcome is ok, and the value is None",
        "the same measurement as line 2",
        "the same measurement as line 2",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("study", "digits_ml"), "Did you mean 'digits_mlp'?"),
        (("study", "--methods", "magnitude"), "a criterion together with an allocator"),
        (("study", "--methods", "magnitude-erg"), "Did you mean 'erk'?"),
        (
            ("study", "linear_recovery", "--methods", "magnitude-uniform-ste"),
            "no method of that name is meant",
        ),
        (("study", "--resume", "--out", "missing.jsonl"), "there is no missing.jsonl"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_mistake_ends_in_one_sentence(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert says in said and "Traceback" not in said and said.count("\n") == 1


def test_tasks_and_methods_are_listed(capsys):
    def told(*words):
        with pytest.raises(SystemExit):
            main(("list", "--json", *words))
        return json.loads(capsys.readouterr().out)

    everything, served = told(), told("--ids")
    assert (
        everything["tasks"]["digits_mlp"]["metric"] == "accuracy" and everything["tasks"]["digits_mlp"]["toy"]
    )
    assert everything["methods"]["magnitude-global-finetune"]["training"] == "weights"
    assert "task planted_ticket" in served["plant-n-seek"]["serves"]
    assert "trainer sr_ste" in served["sr-ste"]["serves"]


@pytest.mark.parametrize(
    "name",
    [name for name, one in TASKS.items() if one.problem.__module__.startswith("suite.") and not one.folder],
)
def test_a_task_is_the_same_data_at_every_seed_and_another_problem(name):
    task = TASKS[name]
    first, again, other = task.problem(0), task.problem(0), task.problem(1)
    assert first.data == again.data == other.data
    assert torch.equal(first.judged[0], again.judged[0]) and not torch.equal(first.judged[0], other.judged[0])
    assert not set(map(tuple, first.judged[0].tolist())) & set(map(tuple, first.learned[0].tolist()))


def test_a_task_may_have_some_methods_only_unless_others_are_asked_for(monkeypatch):
    few = replace(TASKS["linear_recovery"], methods=("magnitude-*",))
    monkeypatch.setitem(TASKS, "linear_recovery", few)

    def planned(*globs):
        (lot,) = plan(StudyOptions(tasks=("linear_recovery",), methods=globs, seeds=1))
        return {trial.method.partition("-")[0] for trial in lot.trials}

    assert planned() == {"magnitude"} and planned("obs-*") == {"obs"}


@pytest.fixture(scope="module")
def ticket():
    experiment = Experiment(TASKS["planted_ticket"], 0, "made-up")
    assert experiment.train_dense().outcome == "ok"
    return experiment


@pytest.mark.paper("plant-n-seek")
def test_the_planted_ticket_solves_its_task_and_hides_among_others(ticket):
    problem, model = ticket.problem, ticket.problem.model()
    with torch.no_grad():
        for name, layer in problem.layers(model).items():
            layer.weight.mul_(problem.places[name])
    alone = problem.measure(model, ticket.dense)
    assert alone["f1"] == 1 and alone["relative error"] < 1e-12
    hidden = problem.measure(problem.model(), ticket.dense)
    density = sum(int(one.sum()) for one in problem.places.values()) / sum(ticket.sizes.values())
    assert hidden["recall"] == 1 and hidden["precision"] == pytest.approx(density, abs=1e-3)
    assert hidden["relative error"] > 0.3


@pytest.mark.paper("plant-n-seek")
def test_magnitude_finds_most_of_the_ticket_and_chance_its_density(ticket):
    found = {
        name: ticket.line(f"{name}-uniform", "unstructured@0.9").value for name in ("magnitude", "random")
    }
    assert found["magnitude"] > 0.7
    assert found["random"] == pytest.approx(0.1, abs=0.04)


def test_second_order_recovers_a_linear_layer_exactly_where_there_is_no_noise(monkeypatch):
    """There least squares is right already, and small inputs have the largest weights and mislead nobody."""
    monkeypatch.setattr(linear_recovery, "NOISE", 0.0)
    experiment = Experiment(TASKS["linear_recovery"], 0, "made-up")
    experiment.train_dense()
    for method in ("obs-uniform", "magnitude-uniform"):
        line = experiment.line(method, "unstructured@0.8")
        assert line.value == 1 and line.quality["relative error"] < 1e-6


def test_second_order_sees_through_noise_better_than_size():
    found = {"obs": [], "wanda": [], "magnitude": [], "random": []}
    for seed in range(3):
        experiment = Experiment(TASKS["linear_recovery"], seed, "made-up")
        experiment.train_dense()
        for name, values in found.items():
            values.append(experiment.line(f"{name}-uniform", "unstructured@0.8").value)
    for better, worse in (("obs", "magnitude"), ("obs", "wanda"), ("magnitude", "random")):
        assert min(found[better]) > max(found[worse]), found


@pytest.mark.paper("sparse-ift")
def test_a_wide_model_takes_the_dense_ones_flops():
    experiment = Experiment(TASKS["digits_mlp"], 0, "made-up")
    dense = experiment.train_dense()
    line = experiment.line("random-uniform-static-wide", "unstructured@0.5")
    assert line.outcome == "ok" and line.iso == "infer_flops"
    assert line.infer_flops == pytest.approx(dense.infer_flops, rel=0.02)
    assert line.train_flops == pytest.approx(dense.train_flops, rel=0.02)


@pytest.mark.paper("hidden-structures")
def test_a_perceptron_keeps_its_accuracy_at_a_fifth_of_its_weights():
    """80 % of the weights pruned, then retrained, over five folds: 97 % here, a little room elsewhere."""
    reached = []
    for seed in range(5):
        experiment = Experiment(TASKS["digits_mlp"], seed, "made-up")
        experiment.train_dense()
        reached.append(experiment.line("magnitude-global-finetune", "unstructured@0.8").value)
    assert sum(reached) / 5 >= 0.965, reached
