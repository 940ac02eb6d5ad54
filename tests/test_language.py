"""Language models in studies: the byte LM against a naive one, models out of folders, others' checkpoints."""

import copy
import hashlib
import json
import math
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from suite.cli import main
from suite.method import WHOLE
from suite.op import discover_parts
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.record import Score, read
from suite.registry import Unusable, discover
from suite.study import StudyOptions, plan
from suite.studying import causal, checkpoints, language
from suite.studying.child import Brought
from suite.studying.experiment import Experiment
from suite.studying.found import found
from suite.studying.masks import best
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy import decoder, library, train_byte_lm  # noqa: E402
from suite.workloads.accuracy.tasks import byte_lm  # noqa: E402
from suite.workloads.accuracy.transforms import slicegpt  # noqa: E402


def naive(model, tokens):
    """The decoder for one window, place by place, with complex numbers for what turns."""
    dim, heads = model.embed.embedding_dim, model.blocks[0].heads
    size = dim // heads
    speeds = 10_000.0 ** (-torch.arange(0, size, 2) / size)

    def norm(x, layer):
        return x / (x.square().mean() + 1e-5).sqrt() * layer.weight

    def turn(x, place):
        pairs = torch.complex(*x.view(heads, 2, -1).unbind(1)) * torch.polar(
            torch.ones_like(speeds), place * speeds
        )
        return torch.cat([pairs.real, pairs.imag], 1)

    stream = [model.embed.weight[token] for token in tokens]
    for block in model.blocks:
        normed = [norm(x, block.first) for x in stream]
        q, k = ([turn(one.weight @ x, at) for at, x in enumerate(normed)] for one in (block.q, block.k))
        v = [(block.v.weight @ x).view(heads, -1) for x in normed]
        for at in range(len(tokens)):
            felt = torch.stack([(q[at] * k[before]).sum(1) / math.sqrt(size) for before in range(at + 1)])
            mixed = (felt.softmax(0)[..., None] * torch.stack(v[: at + 1])).sum(0).flatten()
            stream[at] = stream[at] + block.out.weight @ mixed
        for at, x in enumerate(stream):
            y = norm(x, block.second)
            gate = block.gate.weight @ y
            stream[at] = x + block.down.weight @ (gate * torch.sigmoid(gate) * (block.up.weight @ y))
    return torch.stack([model.head.weight @ norm(x, model.norm) for x in stream])


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = decoder.Decoder(tokens=11, dim=16, depth=2, heads=2, hidden=24)
    for one in model.parameters():
        nn.init.normal_(one, std=0.5)
    return model


@torch.no_grad()
def test_the_decoder_is_what_a_naive_one_is(small):
    tokens = torch.randint(11, (1, 9), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(small(tokens)[0], naive(small, tokens[0]), atol=1e-4)


@torch.no_grad()
def test_what_comes_later_changes_nothing_before(small):
    tokens = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(1))
    later = tokens.clone()
    later[:, 5:] = (later[:, 5:] + 1) % 11
    one, other = small(tokens), small(later)
    assert torch.allclose(one[:, :5], other[:, :5], atol=1e-5) and not torch.allclose(
        one[:, 5:], other[:, 5:]
    )


def test_windows_hold_what_comes_next_and_do_not_overlap():
    text = torch.arange(100)
    tokens, after = language.drawn(text, 99, 10, torch.Generator().manual_seed(0))
    assert tokens.shape == (9, 10) and torch.equal(tokens + 1, after)
    assert len(tokens.unique()) == 90


def test_no_module_is_learned_from_and_held_out():
    """By their names alone, so that a module stays on its side; and the fingerprint is of all of it."""
    sides = {name: library.held_out(name) for name in library.modules()}
    learned, judged = (
        b"".join(source for name, source in library.modules().items() if sides[name] is side)
        for side in (False, True)
    )
    assert bytes(library.text(True).tolist()) == learned and bytes(library.text(False).tolist()) == judged
    assert 0.02 < len(judged) / len(learned) < 0.3
    assert all(
        library.held_out(name) is (hashlib.sha256(name.encode()).digest()[0] % 10 == 0) for name in sides
    )
    assert library.fingerprint() in TASKS["byte_lm"].problem(0).data


@pytest.fixture(scope="module")
def experiment():
    experiment = Experiment(TASKS["byte_lm"], 0, "made-up")
    assert experiment.train_dense().outcome == "ok"
    return experiment


def test_a_model_that_knows_nothing_needs_eight_bits(experiment):
    model = byte_lm.blank()
    nn.init.zeros_(model.head.weight)
    found = experiment.problem.measure(model, experiment.dense)
    assert found["bits per byte"] == pytest.approx(8, abs=1e-5)
    dense = experiment.problem.measure(experiment.dense, experiment.dense)
    assert dense["agreement"] == 1 and dense["kl"] == 0


def test_the_committed_model_has_learned_its_text_and_says_so(experiment):
    assert experiment.dense_value < 3
    assert byte_lm.WEIGHTS.stat().st_size < 3e6
    with safe_open(byte_lm.WEIGHTS, "pt") as file:
        about = file.metadata()
    assert about.keys() == {"text", "python", "seed", "bytes seen", "bits per byte"}
    assert float(about["bits per byte"]) < 2.2


def test_the_head_stays_dense_and_all_else_is_pruned(experiment):
    line = experiment.line("wanda-uniform", "2:4")
    assert line.outcome == "ok", line.note
    assert [one["name"] for one in line.layers if "head" in one["name"]] == []
    assert len(line.layers) == 4 * 7 and line.sparsity == 0.5
    assert experiment.dense_value < line.value < 8 and 0 < line.quality["agreement"] < 1


@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("magnitude-uniform-sr_ste", "2:4"),
        ("random-erk-rigl", "unstructured@0.7"),
        ("random-erk-set", "unstructured@0.7"),
        ("magnitude-global-gradual", "unstructured@0.7"),
        ("random-uniform-static-wide", "unstructured@0.5"),
    ],
)
def test_fresh_models_learn_in_a_mask(experiment, monkeypatch, method, pattern):
    """In four steps here; in studies in sixty. A dense model that learned as much is `plain`."""
    monkeypatch.setattr(experiment.problem, "anew", (4, 1e-3))
    line = experiment.line(method, pattern)
    assert line.outcome == "ok", line.note
    assert (line.start, line.training, line.train_tokens) == ("fresh", "weights", 4 * 8 * 256)
    assert experiment.dense_value < line.value < 8.2
    if line.iso:
        assert line.infer_flops == pytest.approx(experiment.work.total, rel=0.02)


def test_a_line_says_what_else_is_known(experiment):
    found = experiment.line("magnitude-uniform", "unstructured@0.7").quality
    assert {"agreement", "kl", "calibration error", "noisy bits per byte", "parts within 5%"} <= found.keys()
    assert found["worst part rise"] > 0 and found["noisy bits per byte"] > experiment.dense_value
    assert "-bytes256-" in TASKS["byte_lm"].protocol and "-stride256-" in TASKS["byte_lm"].protocol


@pytest.mark.paper("slicegpt")
@torch.no_grad()
def test_a_turned_model_says_what_it_said(small):
    """Before anything is deleted; a layer norm in place of the norms would see the turning."""
    drawn = torch.Generator().manual_seed(2)
    turnings = [
        torch.linalg.qr(torch.randn(16, 16, generator=drawn, dtype=torch.double))[0] for _ in range(5)
    ]
    tokens = torch.randint(11, (2, 9), generator=drawn)
    whole = slicegpt.sliced(small, turnings, 16)
    assert torch.allclose(whole(tokens), small(tokens), atol=1e-3)
    x = torch.randn(3, 16, generator=drawn, dtype=torch.double)
    for turned, same in ((nn.functional.rms_norm, True), (nn.functional.layer_norm, False)):
        assert (
            torch.allclose(turned(x @ turnings[0], (16,)), turned(x, (16,)) @ turnings[0], atol=1e-4) is same
        )


@pytest.mark.paper("slicegpt")
def test_a_sliced_model_is_dense_and_as_small_as_asked(experiment):
    size = slicegpt.width(experiment.dense, 0.25)
    dim, weights = 128, 4 * 128 * 128 + 3 * 128 * 352
    line = experiment.line("slicegpt", "unstructured@0.25")
    assert (line.outcome, line.execution, line.training, line.start) == ("ok", "dense", "none", "dense"), (
        line.note
    )
    assert line.nonzeros == 4 * (weights * size // dim + 2 * size**2)
    assert 0.25 <= line.sparsity < 0.27
    blind = experiment.line("sliced_at_random", "unstructured@0.25")
    assert experiment.dense_value < line.value < blind.value


@pytest.mark.paper("slicegpt")
@pytest.mark.paper("cfsp")
def test_what_a_transform_looks_at_is_paid_for_at_the_size_it_still_had(experiment):
    problem, whole = experiment.problem, experiment.work.total
    examples = sum(map(problem.count, problem.calibration()))
    passes = {"slicegpt": 1, "cfsp": 1, "sliced_at_random": 0}
    for name, times in passes.items():
        assert experiment.line(name, "unstructured@0.25").search_flops == times * examples * whole
    assert "calibration" not in vars(problem)


def test_the_script_writes_a_file_that_the_task_reads(tmp_path, monkeypatch):
    made = torch.arange(3000, dtype=torch.uint8) % 50
    monkeypatch.setattr(train_byte_lm, "STEPS", 2)
    monkeypatch.setattr(train_byte_lm, "EVERY", 1)
    monkeypatch.setattr(library, "text", lambda learned: made)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for file in files:
        train_byte_lm.main(file)
    first, second = map(load_file, files)
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    byte_lm.blank().load_state_dict(first)


@pytest.mark.parametrize("pattern", [NofM(2, 4), NofM(1, 4), NofM(4, 8), NofM(3, 16)], ids=str)
def test_the_pattern_of_zeros_is_found(pattern):
    mask = best(pattern, torch.rand(16, 36, generator=torch.Generator().manual_seed(0)))
    assert found(mask) == pattern
    mask[3, mask[3].nonzero()[0]] = False  # one that happens to be zero
    assert found(mask) == pattern


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97, 1.0])
def test_zeros_anywhere_are_of_no_groups(sparsity):
    mask = best(Unstructured(sparsity), torch.rand(64, 64, generator=torch.Generator().manual_seed(0)))
    assert found(mask) == Unstructured(1 - int(mask.sum()) / 4096)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model of transformers with a tokenizer of bytes, pruned twins of it, and a text."""
    transformers = pytest.importorskip("transformers", reason="`study --model` needs transformers")
    tokenizers = pytest.importorskip("tokenizers")
    at = tmp_path_factory.mktemp("folders")
    sizes = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 32}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
    model.save_pretrained(at / "tiny")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(at / "tiny")
    for name, pattern in (("tiny-2of4", NofM(2, 4)), ("tiny-half", Unstructured(0.5))):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for layer in causal.linear(twin).values():
                layer.weight.mul_(best(pattern, layer.weight.abs()))
        twin.save_pretrained(at / name)
    (at / "text.txt").write_text("".join(f"{number} is followed by {number + 1}. " for number in range(200)))
    return at


def test_checkpoints_pruned_elsewhere_are_counted_and_scored(folders, capsys):
    """Pruned by magnitude, they are to the bit what magnitude makes of the dense model here."""
    out = folders / "study.jsonl"
    model = ("--model", folders / "tiny", "--corpus", folders / "text.txt")
    words = ("study", *model, "--pruned", folders / "tiny-2of4", folders / "tiny-half", "--out", out)
    more = ("--methods", "magnitude-uniform", "--extent", "smoke", "--threads", 1)
    with pytest.raises(SystemExit) as ended:
        main(tuple(map(str, (*words, *more))))
    assert ended.value.code == 0, capsys.readouterr().err
    recorded = read(out)
    assert not recorded.faults
    scores = {(one.method, one.pattern): one for one in recorded.lines if isinstance(one, Score)}
    assert all(one.outcome == "ok" for one in scores.values()), [one.note for one in scores.values()]
    for name, pattern in (("tiny-2of4", "2:4"), ("tiny-half", "unstructured@0.5")):
        theirs, mine = scores[name, pattern], scores["magnitude-uniform", pattern]
        assert theirs.value == mine.value and theirs.nonzeros == mine.nonzeros
        assert [one["pattern"] for one in theirs.layers] == [pattern] * 14
        assert (theirs.training, theirs.execution, theirs.train_flops) == ("weights", "simulated", None)
    dense = scores["dense", "dense"]
    vocabulary = causal.vocabulary(folders / "tiny")
    assert dense.metric == "perplexity" and 100 < dense.value < 600  # of 256 tokens, nothing learned
    assert dense.protocol == f"text-32-stride32-calibrated32x32-of-first10percent-{vocabulary}"
    assert recorded.run.options["pruned"] == ["tiny-2of4", "tiny-half"]
    assert str(folders) not in out.read_text()


def test_without_methods_checkpoints_are_scored_alone(folders):
    own = Brought(
        model=str(folders / "tiny"), corpus=str(folders / "text.txt"), pruned=(str(folders / "tiny-half"),)
    )
    lots = plan(StudyOptions(seeds=1, brought=own))
    tried = [(lot.task, [one.method for one in lot.trials]) for lot in lots]
    assert tried == [("tiny", ["tiny-half", "tiny-half-at-random"])]
    assert WHOLE["tiny-half"].training == "weights" and WHOLE["tiny-half-at-random"].control


def test_other_windows_and_other_texts_are_other_protocols(monkeypatch, tmp_path):
    said = set()
    monkeypatch.setattr(causal, "vocabulary", lambda folder: "BPE256-01234567")
    for size in (32, 64):
        monkeypatch.setattr(causal, "length", lambda folder, size=size: size)
        for calibration in (None, tmp_path / "c4.txt"):
            said.add(causal.causal(tmp_path, tmp_path / "wikitext2.txt", calibration).protocol)
    assert len(said) == 4 and "wikitext2-64-stride64-calibrated32x64-of-c4-BPE256-01234567" in said


def test_perplexity_is_of_every_token_but_the_first_of_each_window(folders):
    task = causal.causal(folders / "tiny", folders / "text.txt", folders / "text.txt")
    problem = task.problem(0)
    model, tokens = problem.dense(), causal.tokens(folders / "tiny", folders / "text.txt")
    losses = []
    with torch.no_grad():
        for window in tokens[: len(tokens) // 32 * 32].view(-1, 32):
            losses.append(model(input_ids=window[None], labels=window[None]).loss.item())
    expected = math.exp(sum(losses) / len(losses))
    assert problem.measure(model, model)["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_a_checkpoint_of_another_model_is_refused(folders, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(folders / "tiny" / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unusable, match=r"hold model\.layers\.1\.mlp\.up_proj\.weight"):
        checkpoints.counted(other, folders / "tiny")
    with pytest.raises(causal.Refused, match=r"no plain weights of model\.layers\.1\.mlp\.up_proj\.weight"):
        causal.loaded(other, folders / "tiny")


def test_without_transformers_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unusable, match="needs transformers, which is not installed here"):
        causal.config(tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", "nowhere", "--corpus", "text.txt"), "there is no such folder"),
        (("--model", "bare", "--corpus", "text.txt"), "it holds no config.json"),
        (("--model", "odd", "--corpus", "text.txt"), "config.json is not understood"),
        (("--model", "mute", "--corpus", "text.txt"), "its tokenizer is not understood"),
        (("--model", "bare"), "Name a file with --corpus"),
        (("--model", "bare", "--corpus", "missing.txt"), "not a file of text"),
        (("--model", "bare", "--corpus", "empty.txt"), "the file is empty"),
        (("--model", "byte_lm", "--corpus", "text.txt"), "something else is called byte_lm"),
        (("--model", "of no name", "--corpus", "text.txt"), "is to be letters"),
        (("--corpus", "text.txt"), "Name its folder with --model"),
        (("--pruned", "bare"), "Name its folder with --model"),
    ],
    ids=lambda one: "" if isinstance(one, tuple) else one,
)
def test_a_mistake_ends_in_one_sentence(words, says, capsys, tmp_path, monkeypatch):
    if "is not understood" in says:
        pytest.importorskip("transformers", reason="it is what understands")
    monkeypatch.chdir(tmp_path)
    for name, text in (("text.txt", "Some words."), ("empty.txt", "\n")):
        (tmp_path / name).write_text(text)
    for name in ("bare", "odd", "mute"):
        (tmp_path / name).mkdir()
    (tmp_path / "odd" / "config.json").write_text("{")
    (tmp_path / "mute" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(SystemExit) as ended:
        main(("study", *words))
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert says in said and "Traceback" not in said and said.count("\n") == 1
