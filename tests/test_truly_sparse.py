"""Truly sparse: a training that holds nonzeros alone goes the masked one's way; masks survive few bits."""

import pytest
import torch
from problems import sparsifier
from torch import nn
from torch.nn.functional import mse_loss

from suite.case import QUANTIZED, UNPACKED, case
from suite.formats.quantized import quantized_whole, unquantized
from suite.op import discover_parts
from suite.patterns.unstructured import Unstructured
from suite.quantized import as_stored
from suite.registry import discover
from suite.sparse import from_positions
from suite.studying.sparsifier import Sparsifier
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 90  # of which the first three changes of masks are among


class TrulySparse(nn.Module):
    """An autoencoder of two layers of which only nonzeros are stored, each with its row and its column.

    A step gathers inputs by columns, multiplies, and adds up by rows; gradients and what the optimiser knows
    are of nonzeros too. It begins as a masked model is.
    """

    def __init__(self, layers, masks):
        super().__init__()
        self.rows, self.columns, self.outputs, self.values, self.biases = [], [], [], [], []
        for name, layer in layers.items():
            rows, columns = masks[name].nonzero(as_tuple=True)
            self.rows.append(rows), self.columns.append(columns), self.outputs.append(len(layer.weight))
            self.values.append(nn.Parameter(layer.weight[rows, columns].clone()))
            self.biases.append(nn.Parameter(layer.module.bias.detach().clone()))
        self.values, self.biases = nn.ParameterList(self.values), nn.ParameterList(self.biases)

    def forward(self, x):
        for at, values in enumerate(self.values):
            products = values * x[:, self.columns[at]]
            sums = x.new_zeros(len(x), self.outputs[at]).index_add(1, self.rows[at], products)
            x = sums + self.biases[at]
            x = torch.sigmoid(x) if at == 0 else x
        return x

    def move(self, at, mask, optimizer):
        """To the places of another mask: what is in both stays, what is new begins at zero."""
        before = self.values[at]
        whole = torch.zeros(3, *mask.shape, dtype=before.dtype)
        known = optimizer.state[before]
        for plane, of in zip(whole, (before.detach(), known["exp_avg"], known["exp_avg_sq"]), strict=True):
            plane[self.rows[at], self.columns[at]] = of
        self.rows[at], self.columns[at] = mask.nonzero(as_tuple=True)
        value, mean, square = (plane[self.rows[at], self.columns[at]].clone() for plane in whole)
        after = nn.Parameter(value)
        optimizer.param_groups[0]["params"] = [
            after if one is before else one for one in optimizer.param_groups[0]["params"]
        ]
        del optimizer.state[before]
        optimizer.state[after] = {"step": known["step"], "exp_avg": mean, "exp_avg_sq": square}
        self.values[at] = after


def features(method):
    """A sparsifier of the autoencoder, in float64: what differs between two ways of summing is nothing."""
    problem = TASKS["digits_features"].problem(0)
    problem.steps = STEPS
    problem.learned = (problem.learned[0].double(), problem.learned[1])
    torch.manual_seed(0)
    return sparsifier(method, "unstructured@0.9", problem, problem.model().double())


@pytest.mark.paper("quickselection")
def test_sparse_and_masked_executions_agree_step_by_step(monkeypatch):
    """Weights move as SET has it; after each step both have the same nonzeros, of the same values."""
    made, course = features("random-erk-set"), {"steps": 0, "moves": 0}
    clean = made.problem.batches

    def batches(generator):
        """As they are, in float64, and one at a time to both."""
        for noisy, x in clean(generator):
            course["batch"] = noisy.double(), x
            yield course["batch"]

    monkeypatch.setattr(made.problem, "batches", batches)
    step, use = made.step, made.use

    def both_step(**how):
        gradients = step(**how)
        mine, optimizer = course["sparse"], course["optimizer"]
        optimizer.param_groups[0]["lr"] = made._optimizer.param_groups[0]["lr"]
        noisy, x = course["batch"]
        optimizer.zero_grad()
        mse_loss(mine(noisy), x).backward()
        optimizer.step()
        course["steps"] += 1
        agree(mine)
        return gradients

    def both_use(masks):
        use(masks)
        if "sparse" not in course:
            mine = course["sparse"] = TrulySparse(made.layers, masks)
            how = {"lr": made.problem.rate, "weight_decay": made.problem.decay}
            course["optimizer"] = torch.optim.AdamW(mine.parameters(), **how)
            return
        for at, mask in enumerate(masks.values()):
            course["sparse"].move(at, mask, course["optimizer"])
        course["moves"] += 1
        agree(course["sparse"])

    def agree(mine):
        for at, (name, layer) in enumerate(made.layers.items()):
            mask = made.masks[name]
            assert len(mine.values[at]) == int(mask.sum()) == made.nonzeros[name]
            torch.testing.assert_close(mine.values[at].detach(), layer.weight[mask], atol=1e-9, rtol=1e-7)
            torch.testing.assert_close(mine.biases[at], layer.module.bias, atol=1e-9, rtol=1e-7)

    monkeypatch.setattr(made, "step", both_step)
    monkeypatch.setattr(made, "use", both_use)
    made.method.parts["trainer"](made)
    assert course["steps"] == STEPS and course["moves"] >= 3 and made.spent.moved > 100


@pytest.mark.paper("quickselection")
def test_another_mask_is_found_to_be_another_way():
    """The control of the test above: one nonzero left out shows within a few steps."""
    made = features("random-erk-static")
    made.prune()
    wrong = {name: mask.clone() for name, mask in made.masks.items()}
    first = next(iter(wrong))
    wrong[first].view(-1)[wrong[first].view(-1).nonzero()[0]] = False
    mine = TrulySparse(made.layers, wrong)
    right = TrulySparse(made.layers, made.masks)
    x = made.problem.learned[0][:50]
    torch.testing.assert_close(right(x), made.model(x))
    assert not torch.allclose(mine(x), made.model(x), atol=1e-9)


@pytest.mark.paper("high-sparsity-llama")
@pytest.mark.parametrize("dtype", [*QUANTIZED, "bfloat16", "int8"])
def test_a_mask_survives_training_and_then_few_bits(dtype):
    """One-shot, trained on, quantised: the zeros stand where the mask has them, bit for bit."""
    base, made = (
        sparsifier(f"obs-uniform-compensate{more}", "unstructured@0.7") for more in ("", "-finetune")
    )
    base.prune()
    assert isinstance(made, Sparsifier)
    made.method.parts["trainer"](made)
    made.settle()
    for name, layer in made.layers.items():
        mask = base.masks[name]
        assert torch.equal(layer.weight != 0, mask)
        (m, k), pattern = mask.shape, Unstructured(0.7)
        rows, columns = (one.numpy() for one in mask.nonzero(as_tuple=True))
        starts = torch.cat((torch.zeros(1, dtype=torch.long), mask.sum(1).cumsum(0))).numpy()
        held = from_positions(starts, columns.astype("int32"), layer.weight[mask], (m, k), pattern)
        of = case("spmm", pattern, dtype, m=m, k=k, n=1)
        stored = as_stored(of, held)
        assert torch.equal(stored.columns, held.columns) and torch.equal(stored.starts, held.starts)
        whole = torch.zeros(m, k, dtype=stored.values.dtype)
        whole[rows, columns] = stored.values
        if dtype in QUANTIZED:
            back = unquantized(quantized_whole(stored, QUANTIZED[dtype]), pattern)
            assert str(back.values.dtype).endswith(UNPACKED)
            assert torch.equal(back.dense, whole)
        if dtype != "int8":
            assert torch.equal(whole != 0, mask), "nonzeros stay nonzeros"
        assert not whole[~mask].any()
