"""A user's own pruned checkpoints: read however they are stored, counted, scored beside a control, and timed
by kernels on their own matrices."""

import copy
import itertools
import json
import re

import llamas
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import header, line, score, write
from msgspec import structs
from safetensors.torch import load_file, save_file

from suite import report, sources
from suite.case import from_id
from suite.cli import main
from suite.kernel import Refused
from suite.op import discover_parts, make_operands
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.plan import plan
from suite.reading.about import command
from suite.reading.frame import tidy
from suite.reading.joined import Measured
from suite.reading.zeros import kind_of, zeros
from suite.record import read
from suite.recordings import Asked
from suite.registry import Unusable, discover
from suite.sources.compressed import Stored
from suite.studying import causal, checkpoints
from suite.studying.child import Brought
from suite.studying.experiment import Experiment
from suite.studying.masks import best, legal
from suite.task import TASKS

discover_parts()
discover(folders=("kernels", "workloads", "reports"))

TWO_OF_FOUR = NofM(2, 4)


def drawn(m, k, seed=0):
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed))


def bits(mask):
    """A bit for each place of a row, the lowest first."""
    return torch.from_numpy(np.packbits(mask.numpy(), axis=1, bitorder="little"))


def words(numbers, of):
    """Whole numbers of so many bits in rows of 32-bit words, the first in the lowest."""
    m, k = numbers.shape
    made = np.zeros((m, -(-k * of // 32)), np.uint32)
    for row, column in itertools.product(range(m), range(k)):
        word, place = divmod(column, 32 // of)
        made[row, word] |= np.uint32(int(numbers[row, column]) + (1 << of - 1)) << np.uint32(of * place)
    return torch.from_numpy(made.view(np.int32))


# Each gives the parts of a layer and the weight that they stand for.
def as_bitmask(dtype=torch.bfloat16):
    w = drawn(6, 37).to(dtype)
    w[w.abs() < 0.8] = 0
    rows = (w != 0).sum(1)
    parts = {"compressed": w[w != 0], "bitmask": bits(w != 0), "shape": torch.tensor([6, 37])}
    return parts | {"row_offsets": rows.cumsum(0) - rows}, w


def as_two_of_four():
    """As many values of each row, zeros among them; the shape stands upright."""
    w = drawn(6, 40)
    mask = best(TWO_OF_FOUR, w.abs())
    w = w * mask
    w[2, :8] = 0
    return {"compressed": w[mask].view(6, 20), "bitmask": bits(mask), "shape": torch.tensor([[6], [40]])}, w


def as_eight_bits():
    w = (drawn(6, 40) * best(TWO_OF_FOUR, drawn(6, 40).abs())).to(torch.float8_e4m3fn)
    scale = torch.rand(6, 1) + 0.1
    mask = w.float() != 0
    values = w.view(torch.uint8)[mask].view(torch.float8_e4m3fn)
    parts = {"compressed": values, "bitmask": bits(mask), "shape": torch.tensor([6, 40])}
    return parts | {"weight_scale": scale}, w.float() * scale


def as_whole_numbers(of, across, order=False, zero=False, packed=True, dtype=torch.float32):
    """across: columns with a scale of their own; order: which these are is told; zero: there is an offset."""
    most, source = (1 << of - 1) - 1, torch.Generator().manual_seed(of)
    numbers = torch.randint(-most, most, (24, 40), generator=source, dtype=torch.int8)
    scale = (torch.rand(24, 40 // across, generator=source) + 0.1).to(dtype)
    offset = torch.randint(-most, most, scale.shape, generator=source, dtype=torch.int8)
    groups = torch.arange(40) // across
    if order:
        groups = groups[torch.randperm(40, generator=source)]
    wide = numbers.float() - (offset.float()[:, groups] if zero else 0)
    wide = wide * scale.float()[:, groups]
    parts = {"weight": numbers}
    if packed:
        parts = {"weight_packed": words(numbers, of), "weight_shape": torch.tensor([24, 40])}
    if zero:
        parts["weight_zero_point"] = words(offset.t(), of).t().contiguous() if packed else offset
    if order:
        parts["weight_g_idx"] = groups.int()
    return parts | {"weight_scale": scale}, wide.to(dtype)


FORMS = {
    "a bitmask": as_bitmask,
    "a bitmask in float32": lambda: as_bitmask(torch.float32),
    "2:4": as_two_of_four,
    "8 bits behind a bitmask": as_eight_bits,
    "4 bits in groups": lambda: as_whole_numbers(4, 8),
    "4 bits in groups, bfloat16": lambda: as_whole_numbers(4, 8, dtype=torch.bfloat16),
    "4 bits in groups told": lambda: as_whole_numbers(4, 8, order=True),
    "4 bits by row": lambda: as_whole_numbers(4, 40),
    "4 bits with an offset": lambda: as_whole_numbers(4, 8, zero=True),
    "8 bits packed": lambda: as_whole_numbers(8, 8),
    "2 bits packed": lambda: as_whole_numbers(2, 8),
    "8 bits by number": lambda: as_whole_numbers(8, 40, packed=False),
    "8 bits with an offset": lambda: as_whole_numbers(8, 8, zero=True, packed=False),
}


def put(folder, parts, layer="l", **beside):
    """The parts of a layer in a file each, so that a weight lies in several."""
    folder.mkdir(exist_ok=True)
    for name, one in (parts | beside).items():
        save_file({f"{layer}.{name}": one.contiguous()}, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_is_made_whole_whatever_it_is_stored_in(tmp_path, form):
    parts, expected = FORMS[form]()
    stored = Stored.of(put(tmp_path / "form", parts, bias=torch.ones(3)))
    made = stored.tensor("l.weight")
    assert set(stored) == {"l.weight", "l.bias"} and stored.shape("l.weight") == tuple(expected.shape)
    assert torch.equal(made.float(), expected.float())
    a = sources.load(sources.add(f"{tmp_path / 'form'}:l.weight"), torch.float32, 0)
    assert torch.equal(a.dense, expected.float()) and a.nonzeros == int((expected != 0).sum())


@pytest.mark.parametrize(
    ("form", "broken", "says"),
    [
        ("a bitmask", {"compressed": torch.ones(3)}, "3 values for"),
        ("4 bits in groups", {"weight_scale": torch.ones(24, 7)}, "24 x 7 scales for 24 x 40"),
        ("4 bits in groups", {"weight_packed": torch.ones(24, 4, dtype=torch.int32)}, "rows of 4 words"),
        ("4 bits in groups told", {"weight_g_idx": torch.full((40,), 9)}, "do not fit each other"),
        ("2:4", {"shape": torch.tensor([7, 40])}, "do not fit each other"),
    ],
)
def test_parts_that_do_not_fit_are_told(tmp_path, form, broken, says):
    stored = Stored.of(put(tmp_path / "form", FORMS[form]()[0] | broken))
    with pytest.raises(Unusable, match=says):
        stored.tensor("l.weight")


def test_what_is_stored_in_another_way_is_no_weight(tmp_path):
    """Such as in 4 bits of floating point, two in a byte."""
    packed = {"weight_packed": torch.ones(4, 8, dtype=torch.uint8), "weight_scale": torch.ones(4, 1)}
    assert "l.weight" not in Stored.of(put(tmp_path / "form", packed))


def test_a_layer_in_a_folder_is_called_by_both(tmp_path):
    parts, _ = as_bitmask()
    data = sources.add(f"{put(tmp_path / 'mine', parts)}:l.weight")
    assert re.fullmatch(r"mine:l\.weight-[0-9a-f]{8}", data) and sources.argument(data) == "mine:l.weight"
    assert data != sources.add(
        f"{put(tmp_path / 'mine', parts | {'compressed': parts['compressed'] * 2})}:l.weight"
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 21), st.sampled_from([(2, 4), (1, 4), (4, 8)]), st.integers(0, 99))
def test_zeros_are_stored_where_a_group_holds_fewer(m, k, groups, seed):
    pattern = NofM(*groups)
    source = torch.Generator().manual_seed(seed)
    full = best(pattern, torch.rand(m, k, generator=source))
    some = full & (torch.rand(m, k, generator=source) < 0.7)
    rows, columns = pattern.lacking(*some.nonzero().t().numpy(), m, k)
    filled = some.clone()
    assert not filled[rows, columns].any()
    filled[rows, columns] = True
    assert legal(pattern, filled)


def pruned(model, pattern):
    """A twin of a model, each layer pruned by magnitude."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for layer in causal.linear(twin).values():
            layer.weight.mul_(best(pattern, layer.weight.abs()))
    return twin


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model, twins of it, plain and compressed, and a text."""
    transformers = pytest.importorskip("transformers", reason="it is what understands folders of models")
    tokenizers = pytest.importorskip("tokenizers")
    at = tmp_path_factory.mktemp("own")
    model = llamas.made(transformers, num_hidden_layers=2)
    llamas.saved(model, at / "mine", transformers, tokenizers)
    for name, pattern in (("halved", TWO_OF_FOUR), ("fewer", Unstructured(0.7))):
        pruned(model, pattern).save_pretrained(at / name)
    small = at / "small"
    small.mkdir()
    tensors = load_file(at / "halved" / "model.safetensors")
    parts = {}
    for name, one in tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "weight" and "proj" in layer:
            parts |= {f"{layer}.compressed": one[one != 0], f"{layer}.bitmask": bits(one != 0)}
            parts |= {f"{layer}.shape": torch.tensor(one.shape)}
        else:
            parts[name] = one
    save_file(parts, small / "model.safetensors", {"format": "pt"})
    said = json.loads((at / "halved" / "config.json").read_text())
    asks = {
        "quant_method": "compressed-tensors",
        "format": "dense",
        "sparsity_config": {"format": "sparse-bitmask"},
    }
    (small / "config.json").write_text(json.dumps(said | {"quantization_config": asks}))
    (at / "text.txt").write_text("".join(f"{number} is followed by {number + 1}. " for number in range(200)))
    return at


def brought(folders, *names):
    return Brought(
        model=str(folders / "mine"),
        corpus=str(folders / "text.txt"),
        pruned=tuple(str(folders / name) for name in names),
    )


@pytest.fixture
def experiment(folders):
    """The tiny model as a task, with its checkpoints as methods; afterwards it is not known."""
    TASKS.pop("mine", None)
    for name in ("halved", "fewer", "small"):
        checkpoints.WHOLE.pop(name, None)
        checkpoints.WHOLE.pop(f"{name}{checkpoints.AT_RANDOM}", None)
    made = Experiment(checkpoints.bring(brought(folders, "halved", "fewer", "small")), 0, "made-up")
    made.train_dense()
    yield made
    TASKS.pop("mine", None)


def test_a_compressed_checkpoint_is_the_plain_one(folders, experiment):
    """To the bit; the package that its config.json asks for is not needed."""
    plain, small = (causal.loaded(folders / name, folders / "mine") for name in ("halved", "small"))
    theirs = small.state_dict()
    assert all(torch.equal(one, theirs[name]) for name, one in plain.state_dict().items())
    lines = [experiment.line(name, "2:4") for name in ("halved", "small")]
    assert {one.outcome for one in lines} == {"ok"}, [one.note for one in lines]
    assert lines[0].value == lines[1].value and lines[0].nonzeros == lines[1].nonzeros
    assert causal.loaded(folders / "small", folders / "small"), "and so may be the dense one"


@pytest.mark.parametrize("format", ["marlin-24", "nvfp4-pack-quantized"])
def test_a_form_that_is_not_read_is_named(folders, tmp_path, format):
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(folders / "halved" / "model.safetensors")
    weight = tensors.pop("model.layers.1.mlp.up_proj.weight")
    tensors["model.layers.1.mlp.up_proj.weight_packed"] = weight.to(torch.uint8)
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    (other / "config.json").write_text(json.dumps({"quantization_config": {"format": format}}))
    says = rf"model\.layers\.1\.mlp\.up_proj\.weight; it says that they are stored as {format}, which is not"
    with pytest.raises(Unusable, match=says):
        checkpoints.counted(other, folders / "mine")
    with pytest.raises(Refused, match=says):
        causal.loaded(other, folders / "mine")


def test_a_weight_with_a_scale_that_is_not_understood_is_not_scored(folders, tmp_path):
    """It would be read as something else than it is."""
    tensors = load_file(folders / "halved" / "model.safetensors")
    layer = "model.layers.1.mlp.up_proj"
    for name, understood in (("weight_scale_inv", False), ("input_scale", True)):
        more = tensors | {f"{layer}.{name}": torch.ones(1)}
        save_file(more, tmp_path / "model.safetensors", {"format": "pt"})
        if understood:
            causal.loaded(tmp_path, folders / "mine")
            continue
        with pytest.raises(Refused, match=r"no plain weights of model\.layers\.1\.mlp\.up_proj\.weight"):
            causal.loaded(tmp_path, folders / "mine")


def test_a_checkpoint_has_its_control(folders, experiment):
    """Of the dense model's weights any, as many of each layer, in the pattern that the layer has."""
    for name, pattern in (("halved", "2:4"), ("fewer", "unstructured@0.7")):
        own, control = (experiment.line(one, pattern) for one in (name, f"{name}-at-random"))
        assert (own.outcome, control.outcome) == ("ok", "ok"), control.note
        assert not own.control and control.control and control.training == "none"
        assert own.nonzeros == control.nonzeros and own.sparsity == control.sparsity
        assert own.value != control.value
        for mine, other in zip(own.layers, control.layers, strict=True):
            assert {**mine, "data": None} == {**other, "data": None} and "data" not in other
            assert mine["data"].startswith(f"{name}:{mine['name']}.weight-")
    again = Experiment(TASKS["mine"], 1, "made-up")
    again.train_dense()
    assert again.line("halved-at-random", "2:4").value != experiment.line("halved-at-random", "2:4").value
    assert experiment.sparsified(checkpoints.WHOLE["halved-at-random"], TWO_OF_FOUR).masks.keys()


def test_each_is_tried_with_its_control(folders):
    tried = checkpoints.trials(brought(folders, "halved", "fewer"))
    fewer = str(checkpoints.counted(folders / "fewer", folders / "mine"))
    assert fewer.startswith("unstructured@0.70")
    assert [(one.method, one.pattern) for one in tried] == [
        ("halved", "2:4"),
        ("fewer", fewer),
        ("halved-at-random", "2:4"),
        ("fewer-at-random", fewer),
    ]


def cases_of(folder, *, layers=(), workload="layers"):
    items = plan([workload], "smoke", asked=Asked(str(folder), None, layers), axes={"n": ["8"]})
    return [one.case for one in items]


def test_layers_of_a_checkpoint_are_cases_of_its_own_matrices(folders):
    """All of them, of their own pattern where kernels know it, and one with random places for each shape."""
    cases = cases_of(folders / "halved")
    own = [one for one in cases if one.data]
    assert len(own) == 14 and {str(one.pattern) for one in own} == {"2:4"}
    weights = load_file(folders / "halved" / "model.safetensors")
    for one in own:
        name = re.fullmatch(r"halved:(.*)-[0-9a-f]{8}", one.data)[1]
        a = make_operands(from_id(str(one)))[0]
        assert torch.equal(a.dense, weights[name]) and legal(TWO_OF_FOUR, a.dense != 0)
    others = [(one["m"], one["k"]) for one in cases if not one.data]
    assert sorted(others) == sorted({(one["m"], one["k"]) for one in own})
    assert {one["n"] for one in cases} == {8} and not cases[1].data, "a run that is cut short has both"


def test_layers_without_groups_are_given(folders):
    cases = cases_of(folders / "fewer", layers=(1,))
    assert {str(one.pattern) for one in cases if one.data} == {"given"} and len(cases) == 7 + 4
    assert {str(one.pattern) for one in cases if not one.data} == {"unstructured@0.7"}
    assert all(".layers.1." in one.data for one in cases if one.data)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"layers": (7,)}, "has no layer of this number"),
        ({"workload": "attention"}, "Name a file with --corpus"),
    ],
)
def test_what_is_not_there_to_time_is_said(folders, words, says):
    with pytest.raises(Unusable, match=says):
        cases_of(folders / "halved", **words)


def test_a_matrix_that_is_not_what_its_case_says_is_refused(folders):
    data = sources.add(f"{folders / 'fewer'}:model.layers.0.mlp.up_proj.weight")
    with pytest.raises(Unusable, match=r"is not 1:4: row \d+ keeps more than 1 of 4 in its group \d+"):
        make_operands(from_id(f"spmm/m=64,k=32,n=8/1:4/float32/seed=0/data={data}"))


def test_from_a_folder_to_its_point_in_two_commands(folders, tmp_path, capsys, monkeypatch):
    """Study and run, each a process or more, then a page that says on whose masks."""
    monkeypatch.chdir(tmp_path)
    TASKS.pop("mine", None)
    for name in ("halved", "halved-at-random"):
        checkpoints.WHOLE.pop(name, None)
    own = ("--model", folders / "mine", "--corpus", folders / "text.txt", "--pruned", folders / "halved")
    shapes = ("--layer", 0, "--set", "n=8", "--extent", "smoke", "--visits", 1, "--energy", "off")
    kernels = ("--kernels", "spmm_dense_linear,spmm_csr_tiled", "--threads", 1)
    commands = (
        ("study", *own, "--seeds", 1, "--threads", 1, "--out", "study.jsonl"),
        ("run", "layers", "--model", folders / "halved", *shapes, *kernels, "--out", "run.jsonl"),
    )
    said = []
    for one in commands:
        with pytest.raises(SystemExit) as ended:
            main(tuple(map(str, one)))
        said.append(capsys.readouterr())
        assert ended.value.code == 0, said[-1].err
    assert "zeros of halved: 50.0 % (50.0 by layer), 2:4 in 14 of 14 layers" in said[0].out
    run = read(tmp_path / "run.jsonl")
    assert not run.faults and run.run.options["model"] == "halved"
    assert {line.outcome for line in run.results} == {"ok"}, {line.note for line in run.results}
    first = next(line for line in run.results if line.data)
    assert "--matrix halved:model.layers.0.self_attn.q_proj.weight" in command(first, run.run)
    report.write([tmp_path / "run.jsonl", tmp_path / "study.jsonl"], tmp_path / "site")
    said = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "pareto.html").read_text())
    assert re.search(r"halved\s+on its own masks, 7 of 14 layers", said)
    assert re.search(r"halved-at-random\s+control", said)
    told = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "accuracy-mine.html").read_text())
    assert "2:4 in 14 of 14 layers" in told and re.search(r"mlp\.gate_proj\s+2\s+64 × 32\s+50\.0 %", told)
    assert "Nothing trained" not in told, "the control stands beside its checkpoint"


# The join, on lines of runs that never were.
UP = {"name": "model.layers.0.up", "m": 64, "k": 32, "n": 1, "pattern": "2:4", "sparsity": 0.5}


def layer(at, **changes):
    return (
        UP
        | {"name": f"model.layers.{at}.up", "data": f"mine:model.layers.{at}.up.weight-0000000{at}"}
        | changes
    )


def timed(tmp_path, **seconds):
    """Dense takes 4 ms; sparse what is told, by data; `random` is of no data."""
    made = []
    for name, took in seconds.items():
        about = {"m": 64, "k": 32, "n": 8, "sparsity": 0.5, "pattern": "2:4"}
        about |= {} if name == "random" else {"data": layer(int(name[1:]))["data"]}
        made.append(line(**about, seconds=[took] * 4, kernel="s"))
        made.append(line(**about, seconds=[4e-3] * 4, kernel="d", dense=True))
    return Measured(tidy([read(write(tmp_path / "run.jsonl", header(), *made))]), "made-up")


def model(*layers):
    return structs.replace(score(), method="mine", pattern="2:4", layers=list(layers))


def test_a_checkpoint_takes_what_kernels_took_on_its_own_masks(tmp_path):
    measured = timed(tmp_path, random=1e-3, l0=2e-3, l1=3e-3)
    found = measured.of(model(layer(0), layer(1)), 8).seconds
    assert (found.sparse, found.dense, found.alike) == (pytest.approx(5e-3), pytest.approx(8e-3), 0)
    assert measured.of(model(UP), 8).seconds.sparse == pytest.approx(1e-3), "a control has no file"


def test_what_was_not_timed_takes_its_likes_and_says_so(tmp_path):
    measured = timed(tmp_path, random=1e-3, l0=2e-3, l1=3e-3)
    found = measured.of(model(layer(0), layer(2)), 8).seconds
    assert found.sparse == pytest.approx(2e-3 + 2.5e-3) and found.alike == 1
    for other in (
        {"pattern": "1:4"},
        {"pattern": "unstructured@0.7", "sparsity": 0.7},
        {"data": "other:l-00000000"},
    ):
        assert measured.of(model(layer(0), layer(2, **other)), 8) is None


def test_without_groups_likes_are_as_sparse_or_on_either_side(tmp_path):
    made = []
    for at, (sparsity, took) in enumerate(((0.7, 2e-3), (0.85, 1e-3))):
        about = {
            "m": 64,
            "k": 32,
            "n": 8,
            "sparsity": sparsity,
            "pattern": "given",
            "data": layer(at)["data"],
        }
        made += [line(**about, seconds=[one] * 4, kernel=str(one), dense=one > 2e-3) for one in (took, 4e-3)]
    measured = Measured(tidy([read(write(tmp_path / "run.jsonl", header(), *made))]), "made-up")
    density = (0.3 * 0.15) ** 0.5
    for sparsity, seconds in ((0.704, 2e-3), (1 - density, 2**0.5 * 1e-3), (0.69, None), (0.86, None)):
        there = measured.of(model(layer(2, pattern=f"unstructured@{sparsity}", sparsity=sparsity)), 8)
        assert (there and there.seconds.sparse) == (seconds and pytest.approx(seconds, rel=1e-3))
        assert there is None or there.seconds.alike == 1


def test_a_random_mask_stands_for_no_checkpoint(tmp_path):
    assert timed(tmp_path, random=1e-3).of(model(layer(0)), 8) is None


def test_zeros_are_told_by_kind_of_layer():
    layers = [layer(at, sparsity=0.48 + at / 100) for at in range(4)]
    layers += [layer(4, name="model.layers.4.down", m=32, pattern="unstructured@0.6", sparsity=0.6)]
    told = zeros(structs.replace(model(*layers), sparsity=0.52))
    assert str(told) == "52.0 % (48.0-60.0 by layer), 2:4 in 4 of 5 layers"
    assert [(one.name, len(one.layers), one.groups) for one in told.kinds] == [
        ("up", 4, "2:4 in 4 of 4"),
        ("down", 1, ""),
    ]
    assert str(zeros(model(layers[-1]))).endswith("(60.0 by layer), N:M in no layer")
    assert zeros(model(UP)) is None and kind_of("model.layers.0.mlp.up_proj") == "mlp.up_proj"
    assert kind_of("transformer.h.3.attn.0") == "attn.0" and kind_of("head") == "head"
