"""Methods on models of transformers: what is trained, sliced and cut of a tiny one, and what is refused."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from llamas import made, saved
from torch import nn

from suite.cli import main
from suite.kernel import Refused
from suite.op import discover_parts
from suite.patterns.unstructured import Unstructured
from suite.record import Score, read
from suite.registry import discover
from suite.study import StudyOptions, plan, unheard
from suite.studying import causal, language, quality
from suite.studying.child import Brought
from suite.studying.experiment import Experiment
from suite.task import TASKS

discover_parts()
discover(folders=("workloads",))

from suite.workloads.accuracy.stream import LLAMA, stream  # noqa: E402
from suite.workloads.accuracy.tasks import byte_lm  # noqa: E402
from suite.workloads.accuracy.transforms import cfsp, slicegpt  # noqa: E402

TEN = {
    "random-uniform": "unstructured@0.5",
    "magnitude-uniform": "2:4",
    "wanda-uniform": "unstructured@0.5",
    "obs-uniform-compensate": "2:4",
    "magnitude-erk": "unstructured@0.7",
    "magnitude-uniform-sr_ste": "2:4",
    "random-erk-set": "unstructured@0.7",
    "random-erk-rigl": "unstructured@0.7",
    "magnitude-global-gradual": "unstructured@0.7",
    "random-uniform-static-wide": "unstructured@0.5",
    "random-uniform-rigl-wide": "unstructured@0.7",
    "slicegpt": "unstructured@0.2",
    "cfsp": "unstructured@0.2",
    "magnitude-global-finetune": "unstructured@0.5",
}
transformers = pytest.importorskip("transformers", reason="`study --model` needs transformers")
tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """A tiny model, and a text."""
    at = tmp_path_factory.mktemp("llamas")
    saved(made(transformers), at / "tiny", transformers, tokenizers)
    (at / "text.txt").write_text("".join(f"{number} is followed by {number + 1}. " for number in range(200)))
    return at


@pytest.fixture(scope="module")
def experiment(at):
    experiment = Experiment(causal.causal(at / "tiny", at / "text.txt", None), 0, "made-up")
    assert experiment.train_dense().outcome == "ok"
    experiment.problem.anew, experiment.problem.steps = (6, 1e-3), 4
    return experiment


@pytest.mark.parametrize("method", TEN)
def test_the_first_methods_run_end_to_end_on_a_folder(experiment, method):
    line = experiment.line(method, TEN[method])
    assert line.outcome == "ok", line.note
    asked = float(TEN[method].partition("@")[2] or 0.5)
    if line.iso != "infer_flops":
        assert line.sparsity == pytest.approx(asked, abs=0.06)
    else:
        assert line.infer_flops == pytest.approx(experiment.work.total, rel=0.02)
        assert sum(one["m"] * one["k"] for one in line.layers) > 1.2 * sum(experiment.sizes.values())
    if line.start == "fresh":
        assert line.train_tokens == 6 * causal.BATCH * 31 and line.training == "weights"


def test_fresh_weights_learn_as_many_tokens_whatever_the_method(experiment):
    """And a dense model of as many is there to hold them against."""
    few = experiment.line("plain", "unstructured@0.5")
    assert few.execution == "dense" and few.sparsity == 0
    assert few.train_tokens == experiment.line("random-uniform-static", "unstructured@0.5").train_tokens
    assert few.value < experiment.dense_value  # the folder's has learned nothing at all


def test_a_model_that_is_too_large_is_not_trained_and_says_so(experiment, monkeypatch):
    monkeypatch.setattr(causal, "LARGEST", 10)
    for method in ("magnitude-uniform-sr_ste", "magnitude-uniform-finetune"):
        line = experiment.line(method, "2:4")
        assert line.outcome == "refused" and "too large to be trained in a study" in line.note
    assert experiment.line("magnitude-uniform", "2:4").outcome == "ok"


@pytest.mark.parametrize("width", [0.5, 1.0, 1.3, 1.41, 2.6])
def test_a_wider_model_has_the_weights_that_its_width_says(at, width):
    before = causal.config(at / "tiny")
    after = causal.wider(before, width)
    assert causal.weights(after) == pytest.approx(width**2 * causal.weights(before), rel=0.01)
    assert after.hidden_size % after.num_attention_heads == 0 and before.hidden_size == 32
    ours = [
        sum(one.weight.numel() for one in byte_lm.blank(of).blocks.modules() if isinstance(one, nn.Linear))
        for of in (1.0, width)
    ]
    assert ours[1] == pytest.approx(width**2 * ours[0], rel=0.01)


def test_how_to_widen_what_is_built_otherwise_is_not_guessed():
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64)
    assert causal.wider(config, 1.0) is config
    with pytest.raises(Refused, match="a GPT2Config has no intermediate_size"):
        causal.wider(config, 1.4)


KINDS = {
    "Llama": {},
    "Llama, tied": {"tie_word_embeddings": True},
    "Llama, biases": {"attention_bias": True, "mlp_bias": True},
    "Mistral": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 12},
}


@pytest.mark.paper("slicegpt")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_turned_llama_says_what_it_said(kind):
    """Before anything is deleted, whatever its heads, biases and the weights of its norms."""
    model = made(transformers, kind.partition(",")[0], **KINDS[kind])
    for name, one in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(one)
    drawn = torch.Generator().manual_seed(2)
    turnings = [
        torch.linalg.qr(torch.randn(32, 32, generator=drawn, dtype=torch.double))[0] for _ in range(5)
    ]
    tokens = torch.randint(256, (2, 9), generator=drawn)
    said, turned = model(tokens).logits, slicegpt.sliced(model, turnings, 32)
    assert torch.allclose(turned(tokens).logits, said, atol=1e-4)
    assert torch.equal(model(tokens).logits, said)  # it is a copy that was turned
    small = slicegpt.sliced(model, turnings, 20)
    assert small(tokens).logits.shape == said.shape
    assert not torch.allclose(small(tokens).logits, said, atol=1e-2)


@pytest.mark.paper("slicegpt")
def test_a_sliced_llama_is_dense_and_as_small_as_asked(experiment):
    size = slicegpt.width(experiment.dense, 0.25)
    line = experiment.line("slicegpt", "unstructured@0.25")
    weights = sum(experiment.sizes.values())
    assert (line.outcome, line.execution, line.training) == ("ok", "dense", "none"), line.note
    assert line.nonzeros == weights * size // 32 + 2 * 2 * size**2
    assert 0.25 <= line.sparsity < 0.33 and line.search_flops > 0
    assert experiment.line("sliced_at_random", "unstructured@0.25").search_flops == 0


class Brief:
    """As much of a problem as slicing asks of one."""

    def __init__(self, model):
        self.model, self.learned = model, (torch.arange(18).view(2, 9), None)

    def dense(self):
        return self.model

    def logits(self, model, tokens):
        return model(tokens).logits


@pytest.mark.paper("slicegpt")
def test_what_is_not_built_as_llama_is_refused():
    """By names, or by what turning does where the names are the same."""
    for kind, more, says in (
        ("GPT2", {"n_embd": 32, "n_layer": 1, "n_head": 2}, "is not known here"),
        ("Gemma", {"head_dim": 16}, "says something else once its stream is turned"),
    ):
        model = made(transformers, kind, **more)
        with pytest.raises(Refused, match=says):
            slicegpt.sliced_at_random(Brief(model), Unstructured(0.2))


@pytest.mark.paper("cfsp")
@torch.no_grad()
def test_a_llama_without_neurons_is_the_llama_with_them_at_zero(experiment):
    problem = experiment.problem
    line = experiment.line("cfsp", "unstructured@0.3")
    assert line.execution == "dense" and 0.3 <= line.sparsity < 0.33
    slim, masked = cfsp.narrowed(problem, Unstructured(0.3), cfsp.SPREAD), problem.dense()
    turns, worth = cfsp.seen(problem, masked)
    kept = cfsp.shares(problem, masked, 0.3, turns, cfsp.SPREAD)
    for channels in stream(masked).neurons(masked):
        least = worth[channels.reader].argsort()[: channels.count - kept[channels.reader]]
        masked.get_submodule(channels.reader).weight[:, least] = 0
    tokens = problem.judged[0][:2]
    assert torch.allclose(problem.logits(slim, tokens), problem.logits(masked, tokens), atol=1e-5)
    assert stream(masked) is LLAMA


def test_what_comes_next_is_judged_window_by_window_as_it_would_be_at_once():
    drawn = torch.Generator().manual_seed(0)
    logits, dense = (torch.randn(16, 5, 7, generator=drawn) for _ in range(2))
    after = torch.randint(7, (16, 5), generator=drawn)
    plain = quality.Foretold()
    for some in zip(dense.split(3), after.split(3), strict=True):
        plain.add(*some, None)
    found = quality.Foretold(plain)
    for some in zip(logits.split(3), after.split(3), dense.split(3), strict=True):
        found.add(*some)
    flat, before, labels = logits.flatten(0, 1), dense.flatten(0, 1), after.flatten()
    said = found.quality()
    assert found.loss == pytest.approx(nn.functional.cross_entropy(flat, labels).item())
    assert said["kl"] == pytest.approx(quality.divergence(flat, before), rel=1e-5)
    assert said["agreement"] == quality.agreement(flat, before)
    assert said["calibration error"] == pytest.approx(quality.calibration(flat, labels), rel=1e-5)
    pairs = nn.functional.cross_entropy(flat, labels, reduction="none").view(8, 10).mean(1)
    assert [now for now, _ in found.parts] == pytest.approx(pairs.tolist())
    assert [before for _, before in found.parts] == [now for now, _ in plain.parts]


def test_a_part_of_the_text_that_got_worse_is_told_behind_a_mean_that_did_not():
    labels = torch.zeros(16, 4, dtype=torch.long)
    dense = torch.tensor([1.0, 0.0]).expand(16, 4, 2)
    worse = dense.clone()
    worse[3] = torch.tensor([0.0, 1.0])
    plain = quality.Foretold()
    plain.add(dense, labels, dense)
    found = quality.Foretold(plain)
    found.add(worse, labels, dense)
    assert found.quality()["parts within 5%"] == 7 / 8
    rises = [now - before for now, before in found.parts]
    assert rises[1] == pytest.approx(0.5) and sum(rises) == pytest.approx(0.5)


def test_noise_is_the_same_for_all_and_of_few_tokens():
    tokens = torch.randint(256, (40, 100), generator=torch.Generator().manual_seed(1))
    first, again = (language.noisy(tokens, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert (first != tokens).double().mean().item() == pytest.approx(language.NOISE, abs=0.01)


def test_a_line_of_a_language_model_says_what_else_is_known(experiment):
    line = experiment.line("random-uniform", "unstructured@0.5")
    assert {"agreement", "kl", "calibration error", "noisy perplexity", "worst part"} <= line.quality.keys()
    assert line.quality["kl"] > 0 and 0 <= line.quality["parts within 5%"] <= 1
    rise = line.quality["worst part rise"]
    assert rise >= line.value - experiment.dense_value - 0.1 and math.isfinite(rise)


def test_of_a_long_text_the_dense_models_answers_are_kept_here_and_there(experiment, monkeypatch):
    """Losses are of all windows; what needs both models' answers is of some, spread over the text."""
    problem, model = experiment.problem, experiment.dense
    monkeypatch.setattr(language, "AT_ONCE", 1)  # a window at a time
    problem._known = None
    windows, other = len(problem.judged[0]), copy.deepcopy(model)
    with torch.no_grad():
        other.get_output_embeddings().weight[0] += 1
    whole = problem.measure(other, model)
    assert list(problem._known.answers) == list(range(windows))
    answers = problem._known.answers[0].nbytes
    monkeypatch.setattr(language, "KEPT", windows * answers // 3)
    problem._known = None
    some = problem.measure(other, model)
    assert list(problem._known.answers) == list(range(0, windows, 4 if windows % 3 else 3))
    same = ("perplexity", "worst part", "worst part rise", "noisy perplexity", "calibration error")
    assert all(some[name] == whole[name] for name in same)
    assert some["kl"] != whole["kl"] and some["kl"] == pytest.approx(whole["kl"], rel=0.5)


def test_the_protocol_names_windows_and_tokenizer(at, tmp_path):
    protocol = causal.causal(at / "tiny", at / "text.txt", None).protocol
    kind = causal.vocabulary(at / "tiny")
    assert protocol == f"text-32-stride32-calibrated32x32-of-first10percent-{kind}"
    assert kind.startswith("BPE256-") and len(kind) == 15
    model = made(transformers)
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    model.save_pretrained(tmp_path / "other")
    transformers.PreTrainedTokenizerFast(tokenizer_object=other).save_pretrained(tmp_path / "other")
    assert causal.vocabulary(tmp_path / "other").startswith("WordLevel2-")
    long = tmp_path / f"{'long' * 20}.txt"
    assert len(causal.causal(at / "tiny", long, long).protocol) <= 100


def named(at, *methods, extent="default"):
    own = Brought(model=str(at / "tiny"), corpus=str(at / "text.txt"))
    return StudyOptions(seeds=1, brought=own, methods=methods, extent=extent)


def test_nothing_is_trained_by_default_and_all_that_is_named_is(at):
    (lot,) = plan(named(at))
    assert not [one for one in lot.trials if one.method.endswith(("rigl", "sr_ste", "gradual", "wide"))]
    assert {"slicegpt", "cfsp", "wanda-uniform"} <= {one.method for one in lot.trials}
    asked = ("magnitude-uniform-sr_ste", "random-erk-rigl", "magnitude-global-gradual", "*-wide")
    (lot,) = plan(named(at, *asked))
    tried = {one.method for one in lot.trials if not one.unfit}
    assert {*asked[:3], "random-uniform-static-wide"} <= tried
    (lot,) = plan(named(at, extent="full"))
    assert {*asked[:3], "random-uniform-static-wide"} <= {one.method for one in lot.trials}


def test_the_byte_lm_trains_nothing_by_default_and_all_that_is_named():
    def tried(**more):
        (lot,) = plan(StudyOptions(tasks=("byte_lm",), seeds=1, **more))
        return {(one.method, one.pattern) for one in lot.trials}

    asked = ("magnitude-uniform-sr_ste", "2:4"), ("random-uniform-rigl-wide", "unstructured@0.7")
    assert not tried() & set(asked) and set(asked) <= tried(extent="full")
    assert set(asked) <= tried(methods=tuple(name for name, _ in asked))


def test_what_is_named_and_cannot_be_tried_has_a_line_that_says_why(at):
    options = named(at, "magnitude-uniform", "relu", "corrected", "swapped-*")
    (lot,) = lots = plan(options)
    why = {one.method: one.unfit for one in lot.trials if one.unfit}
    assert why == {
        "relu": "relu is for digits_vit alone",
        "corrected": "corrected is for byte_lm_written alone",
    }
    assert list(unheard(options, lots)) == ["--methods swapped-*: nothing of that name is meant for tiny."]
    TASKS["tiny"] = replace(TASKS["tiny"], name="tiny")
    refused = Experiment(TASKS["tiny"], 0, "made-up").line("relu", "unstructured@0.5", why["relu"])
    assert (refused.outcome, refused.note) == ("refused", why["relu"])


@pytest.mark.parametrize(
    ("task", "method", "extent", "says"),
    [
        ("byte_lm_written", "wanda-uniform", "default", "none of the patterns that byte_lm_written has"),
        ("byte_lm_written", "corrected", "default", "add --extent full"),
        ("linear_recovery", "slicegpt", "default", "slicegpt is for Language problems alone"),
        ("byte_lm_written", "matched", "full", "no patterns of matched's that models are trained to"),
    ],
)
def test_each_reason_is_a_sentence(task, method, extent, says):
    (lot,) = plan(StudyOptions(tasks=(task,), methods=(method,), seeds=1, extent=extent))
    (trial,) = lot.trials
    assert says in trial.unfit


def test_a_study_of_a_folder_tells_all_that_was_asked_for(at, capsys):
    out = at / "study.jsonl"
    words = ("study", "--model", at / "tiny", "--corpus", at / "text.txt", "--seeds", 1, "--threads", 1)
    asked = ("magnitude-uniform-sr_ste", "slicegpt", "relu", "swapped-*", "--extent", "smoke")
    with pytest.raises(SystemExit) as ended:
        main(tuple(map(str, (*words, "--out", out, "--methods", *asked))))
    said = capsys.readouterr().err
    assert ended.value.code == 0, said
    assert "nothing of that name is meant for tiny" in said
    recorded = read(out)
    assert not recorded.faults
    outcomes = {(one.method, one.outcome) for one in recorded.lines if isinstance(one, Score)}
    wanted = {(name, "ok") for name in ("dense", "magnitude-uniform-sr_ste", "slicegpt")}
    assert outcomes == wanted | {("relu", "refused")}
