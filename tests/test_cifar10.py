"""CIFAR-10 from a folder: its authors' bytes are read as they wrote them, and nothing else is."""

import numpy as np
import pytest
import torch

from suite.cli import main
from suite.op import discover_parts
from suite.registry import Unusable, discover
from suite.study import StudyOptions, plan
from suite.studying.experiment import Experiment
from suite.task import TASKS, with_data

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy.tasks import cifar10 as reading  # noqa: E402

IMAGES = 64  # a file; the real ones have 10,000


@pytest.fixture
def unbound(monkeypatch):
    """The task as it is before a folder was named, and after the test again."""
    monkeypatch.setitem(TASKS, "cifar10", reading.cifar10)


@pytest.fixture
def folder(tmp_path, unbound):
    """Classes told apart by how red they are."""
    drawn = np.random.default_rng(0)
    for name in (*reading.LEARNED, reading.JUDGED):
        labels = drawn.integers(0, 10, IMAGES).astype(np.uint8)
        pixels = drawn.integers(0, 20, (IMAGES, 3, 32, 32))
        pixels[:, 0] += 20 * labels[:, None, None]
        held = np.concatenate([labels[:, None], pixels.reshape(IMAGES, -1).astype(np.uint8)], 1)
        (tmp_path / name).write_bytes(held.tobytes())
    return tmp_path


def test_a_record_is_a_label_and_three_planes():
    held = bytes([7]) + bytes([255, *[0] * 1023]) + bytes([0, 255, *[0] * 1022]) + bytes(1024)
    images, labels = reading.records(held * 2)
    assert labels.tolist() == [7, 7] and images.shape == (2, 3, 32, 32)
    lit = images[0].nonzero().tolist()
    assert lit == [[0, 0, 0], [1, 0, 1]], "plane, row, column"
    assert reading.shares(images).max() == 1


def test_a_folder_is_a_task(folder, monkeypatch):
    (task,) = with_data(folder)
    problem, other = task.problem(0), task.problem(1)
    assert len(problem.learned[0]) == 5 * IMAGES and len(problem.judged[0]) == IMAGES
    assert problem.data == other.data and problem.data.startswith("cifar10-")
    monkeypatch.setattr(reading.cifar10.problem, "steps", 30)
    experiment = Experiment(task, 0, "made-up")
    dense = experiment.train_dense()
    assert dense.outcome == "ok", dense.note
    sparse = experiment.line("magnitude-uniform", "unstructured@0.5")
    assert sparse.outcome == "ok", sparse.note
    assert sparse.dense_value == dense.value and sparse.data == problem.data
    assert [layer["n"] for layer in sparse.layers] == [1024, 256, 64, 1]
    batch, labels = next(problem.batches(torch.Generator().manual_seed(0)))
    assert (
        batch.dtype == torch.float32 and batch.min() >= 0 and batch.max() <= 1 and len(labels) == len(batch)
    )


def test_other_bytes_are_other_data(folder):
    before = reading.read(folder)[2]
    held = bytearray((folder / reading.JUDGED).read_bytes())
    held[5] ^= 1
    (folder / reading.JUDGED).write_bytes(held)
    reading.read.cache_clear()
    assert reading.read(folder)[2] != before


def test_without_a_folder_it_is_not_studied_and_with_one_alone(folder):
    assert "cifar10" not in {lot.task for lot in plan(StudyOptions(seeds=1))}
    with pytest.raises(Unusable, match="Name it with --data"):
        plan(StudyOptions(tasks=("cifar10",)))
    options = StudyOptions(seeds=1, data=str(folder))
    assert {lot.task for lot in plan(options)} == {"cifar10"}
    both = plan(StudyOptions(seeds=1, data=str(folder), tasks=("cifar10", "digits_mlp")))
    assert {lot.task for lot in both} == {"cifar10", "digits_mlp"}


def pickled(folder):
    (folder / "data_batch_1.bin").rename(folder / "data_batch_1")


def short(folder):
    (folder / "test_batch.bin").write_bytes(b"\x00" * 3000)


def empty(folder):
    (folder / "data_batch_3.bin").write_bytes(b"")


def labelled(folder):
    (folder / "data_batch_2.bin").write_bytes(bytes([10, *[0] * 3072]))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (pickled, "pickles, which are not read"),
        (short, "3000 bytes, not records of 3073"),
        (empty, "data_batch_3.bin is 0 bytes"),
        (labelled, "data_batch_2.bin has a label 10"),
        (lambda folder: [one.unlink() for one in folder.iterdir()], "there is no data_batch_1.bin"),
    ],
)
def test_a_folder_of_something_else_ends_in_a_sentence(folder, harm, says, monkeypatch, capsys):
    harm(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(["study", "cifar10", "--data", str(folder)])
    assert ended.value.code == 2 and says in capsys.readouterr().err
    assert not list(folder.rglob("*.jsonl"))
