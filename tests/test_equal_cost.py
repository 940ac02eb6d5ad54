"""Models of equal cost, by the ledgers of what was made: as many bytes, and trainings of other lengths."""

import pytest

from suite.op import discover_parts
from suite.registry import discover
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


@pytest.fixture(scope="module")
def experiment():
    """Digits at one seed, trained for so short a time that only the books are of interest."""
    made = Experiment(TASKS["digits_mlp"], 0, "made-up")
    steps = TASKS["digits_mlp"].problem.steps
    TASKS["digits_mlp"].problem.steps = 40
    try:
        dense = made.train_dense()
        assert dense.outcome == "ok", dense.note
        yield made
    finally:
        TASKS["digits_mlp"].problem.steps = steps


@pytest.mark.paper("gmp-iso-memory")
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_a_slim_model_has_the_bytes_of_the_sparse_one(experiment, sparsity):
    """Index metadata included, within 1 %; it leaves out nothing, and is smaller than the dense model."""
    sparse = experiment.line("magnitude-global", f"unstructured@{sparsity}")
    slim = experiment.line("plain-slim", f"unstructured@{sparsity}")
    assert slim.outcome == "ok", slim.note
    assert slim.bytes == pytest.approx(sparse.bytes, rel=0.01)
    assert slim.bytes == pytest.approx(4 * slim.nonzeros, rel=0.05), "no bitmap: weights and biases alone"
    assert slim.iso == "bytes" and slim.execution == "dense"
    assert all(layer["pattern"] == "dense" for layer in slim.layers)


@pytest.mark.paper("sparse-ift")
@pytest.mark.parametrize("sparsity", (0.5, 0.8))
def test_a_widened_model_is_the_wide_one_without_zeros(experiment, sparsity):
    """As wide, so of 1 / (1 - sparsity) times its FLOPs."""
    sparse = experiment.line("random-uniform-static-wide", f"unstructured@{sparsity}")
    whole = experiment.line("plain-widened", f"unstructured@{sparsity}")
    shapes = [[(layer["m"], layer["k"]) for layer in one.layers] for one in (sparse, whole)]
    assert shapes[0] == shapes[1] and whole.execution == "dense" and whole.sparsity == 0
    assert whole.infer_flops == pytest.approx(sparse.infer_flops / (1 - sparsity), rel=1e-3)


def test_where_widths_are_too_coarse_it_is_refused(monkeypatch):
    experiment = Experiment(TASKS["digits_cnn"], 0, "made-up")
    monkeypatch.setattr(TASKS["digits_cnn"].problem, "steps", 1)
    experiment.train_dense()
    line = experiment.line("plain-slim", "unstructured@0.9")
    assert line.outcome == "refused" and "is within 1%" in line.note


@pytest.mark.paper("sparse-scaling-laws")
@pytest.mark.parametrize(("length", "share"), [("_quarter", 0.25), ("_fourfold", 4)])
def test_a_training_of_another_length_is_the_same_otherwise(experiment, length, share):
    for method in ("magnitude-global-gradual{}", "plain{}-narrow"):
        mine, whole = (experiment.line(method.format(one), "unstructured@0.8") for one in (length, ""))
        assert mine.outcome == whole.outcome == "ok", mine.note + whole.note
        assert mine.train_tokens == pytest.approx(share * whole.train_tokens, rel=0.05), "whole steps"
        assert (mine.nonzeros, mine.infer_flops) == (whole.nonzeros, whole.infer_flops)
    assert mine.train_flops == pytest.approx(share * whole.train_flops, rel=0.05)
