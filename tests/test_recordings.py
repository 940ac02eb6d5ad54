"""Recordings: what a model really attends to, as operands; on other seeds other text; and never a rank."""

import json
import shutil
import sys
from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from suite import recordings
from suite.case import case, from_id
from suite.cli import main
from suite.harmless import Data
from suite.inputs import INPUTS, is_recording
from suite.op import OPS, discover_parts, faults, make_operands
from suite.ops import attention
from suite.patterns.chosen import Chosen
from suite.plan import plan
from suite.reading.about import command
from suite.reading.ranking import is_whole
from suite.record import read
from suite.recordings import WINDOWS, Asked, instead, record
from suite.registry import Unusable, discover

discover_parts()
discover(folders=("kernels", "workloads"))

PROMPT = case("attention_causal", Chosen(0.75), "bfloat16", data="heads", h=8, g=8, n=2048, d=64, b=64)
CACHE = case("decode", Chosen(0.75), "bfloat16", data="blend", n=8, h=32, g=8, t=2048, d=128, b=16)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small model of transformers whose heads share keys, with a tokenizer of bytes, and a text."""
    transformers = pytest.importorskip("transformers", reason="it is what understands folders of models")
    tokenizers = pytest.importorskip("tokenizers")
    at = tmp_path_factory.mktemp("folders")
    sizes = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 64, "max_position_embeddings": 512}
    heads = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).save_pretrained(at / "tiny")
    window = transformers.MistralConfig(**sizes, **heads, sliding_window=8)
    transformers.MistralForCausalLM(window).save_pretrained(at / "windowed")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for name in ("tiny", "windowed"):
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(at / name)
    (at / "text.txt").write_text("".join(f"{number} is followed by {number + 1}. " for number in range(200)))
    return at


@pytest.fixture
def forget(monkeypatch):
    """No recording outlives a test."""
    monkeypatch.setattr(recordings, "_paths", {})
    for data in [name for name in INPUTS if is_recording(name)]:
        monkeypatch.delitem(INPUTS, data)


@pytest.fixture
def bytes_of_text(forget):
    return record(Asked("byte_lm"), 128)[0]


@torch.no_grad()
def test_over_what_is_recorded_attention_is_what_the_layer_answers(tiny, forget):
    """So they are behind the rotation, of the right layer, scaled alike; and keys are as many as before."""
    (one,) = record(Asked(str(tiny / "tiny"), tiny / "text.txt", (1,)), 48)
    assert (one.h, one.g, one.n, one.d) == (4, 2, 48, 16)
    asked = recordings.named(Asked(str(tiny / "tiny"), tiny / "text.txt"), 48)
    seen = []
    layer = asked.model.model.layers[1].self_attn.o_proj
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    asked.read(asked.windows[0][None])
    made = replace(one.instead_of(PROMPT), dtype="float32")
    q, k, v = attention.drawn(made)
    assert made["g"] == 2 and k.shape == (2, 48, 16)
    everything = attention.whole_causal(made, attention.around(made, attention.blindly(made)))[0]
    answer = OPS[made.op].reference(everything, q, k, v)
    torch.testing.assert_close(answer.transpose(0, 1).flatten(1).float(), seen[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_scale_of_its_own_goes_into_the_queries():
    q, k, v = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    call = recordings.noted(q, k, v, is_causal=True, scale=0.1)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.1)
    mine = torch.nn.functional.scaled_dot_product_attention(*call.parts, is_causal=True)
    torch.testing.assert_close(mine, theirs[0])


def test_a_case_gets_the_models_heads_and_no_more_than_its_tokens(bytes_of_text):
    prompt, cache = bytes_of_text.instead_of(PROMPT), bytes_of_text.instead_of(CACHE)
    assert dict(prompt.sizes) == {"h": 4, "g": 4, "n": 128, "d": 32, "b": 16}
    assert dict(cache.sizes) == {"n": 1, "h": 4, "g": 4, "t": 128, "d": 32, "b": 16}
    for one in (prompt, cache):
        assert not faults(one) and from_id(str(one)) == one
        msgspec.convert(one.data, Data)
    odd = replace(bytes_of_text, n=100).instead_of(PROMPT)
    assert (odd["n"], odd["b"]) == (96, 16)


def test_the_query_of_decode_is_the_last_of_its_cache(bytes_of_text):
    prompt, cache = bytes_of_text.instead_of(PROMPT), bytes_of_text.instead_of(CACHE)
    _, q, k, v = make_operands(prompt)
    _, keys, values, query = make_operands(cache)
    assert torch.equal(query[0], q[:, -1]) and torch.equal(keys[0], k) and torch.equal(values[0], v)


def test_what_is_learned_on_other_seeds_is_other_text(bytes_of_text):
    made = bytes_of_text.instead_of(PROMPT)
    first = attention.drawn(made)[0]
    others = [attention.drawn(replace(made, seed=seed))[0] for seed in (1, 2, 3, 2**31, 2**20)]
    assert all(not torch.equal(first, one) for one in others)
    assert len({one.sum().item() for one in others[:3]}) == 3
    with pytest.raises(Unusable, match="the text is too short"):
        recordings.window(1, 1)


def test_a_case_means_the_same_whatever_else_is_recorded(tiny, forget):
    """On every seed; repeated by its id, or beside cases four times as long."""
    asked = Asked(str(tiny / "tiny"), tiny / "text.txt")
    drawn = {}
    for most in (64, 256):
        made = replace(record(asked, most)[0].instead_of(PROMPT.with_sizes(n=64)), dtype="float32")
        drawn[most] = made, [attention.drawn(replace(made, seed=seed)) for seed in range(WINDOWS)]
    assert drawn[64][0] == drawn[256][0]
    for mine, its in zip(drawn[64][1], drawn[256][1], strict=True):
        for one, other in zip(mine, its, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_two_layers_recorded_twice_stay_what_they_are(tiny, forget):
    asked = Asked(str(tiny / "tiny"), tiny / "text.txt", (0, 1))
    first = [attention.drawn(one.instead_of(PROMPT))[0] for one in record(asked, 64)]
    again = [attention.drawn(one.instead_of(PROMPT))[0] for one in record(asked, 64)]
    assert not first[0].equal(first[1])
    assert all(mine.equal(its) for mine, its in zip(first, again, strict=True))


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 300), most=st.integers(1, 300), wanted=st.integers(1, 300))
@example(length=197, most=50, wanted=50)  # one more than fits between quarters rounded down
@example(length=7, most=3, wanted=3)
def test_windows_of_one_length_never_meet(length, most, wanted):
    """And are as many as before fit into the text, but for thirds."""
    windows = [one for one in recordings.cut(torch.arange(length), most) if len(one) >= wanted]
    found = torch.cat([one[:wanted] for one in windows]).tolist() if windows else []
    assert len(found) == len(set(found)) and found[:1] in ([], [0])
    fitting = length // wanted if most >= wanted else 0
    assert len(windows) == {0: 0, 1: 1, 2: 2, 3: 2}.get(fitting, WINDOWS)


def test_other_sizes_than_recorded_are_said(bytes_of_text):
    made = bytes_of_text.instead_of(PROMPT)
    with pytest.raises(Unusable, match="has windows of 128 tokens"):
        make_operands(made.with_sizes(n=256))
    with pytest.raises(Unusable, match=r"has h=4, g=4\. Give the case these sizes"):
        make_operands(made.with_sizes(h=8, g=8))


def test_the_name_tells_weights_layer_and_text(tiny, forget):
    asked = Asked(str(tiny / "tiny"), tiny / "text.txt", (2, 0))
    names = [one.data for one in record(asked, 32)]
    assert [name.split(":")[1] for name in names] == ["0", "2"] and all(map(is_recording, names))
    assert names == [one.data for one in record(asked, 32)]
    other = tiny / "other.txt"
    other.write_text("another text " * 50)
    elsewhere = record(asked._replace(corpus=other, layers=(0,)), 32)[0].data
    assert elsewhere.split(":")[0] == names[0].split(":")[0] and elsewhere.split(":")[2][:6] == "other-"
    assert str(tiny) not in " ".join(names)


def test_a_weight_that_changed_is_another_model():
    model = torch.nn.Linear(3, 2)
    before = recordings.weights(model)
    with torch.no_grad():
        model.bias[0] += 1
    assert recordings.weights(model) != before


def test_cases_stay_in_their_workloads_and_are_not_measured_twice(forget):
    lists = instead(
        [[("attention", PROMPT), ("attention", PROMPT.with_sizes(n=4096))], [("kv", CACHE)]], Asked("byte_lm")
    )
    assert [[label for label, _ in one] for one in lists] == [["attention"], ["kv"]]
    assert lists[0][0][1]["n"] == 256


WRONG = {
    "no such model": (Asked("nowhere"), r"there is no such folder\..*or a model that is here: byte_lm"),
    "no such layer": (Asked("byte_lm", None, (7,)), "the layers of byte_lm that attend are 0 to 3"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_recorded_is_said(what):
    asked, says = WRONG[what]
    with pytest.raises(Unusable, match=says):
        record(asked, 32)


def test_texts_are_named_for_folders_and_for_nothing_else(tmp_path):
    with pytest.raises(Unusable, match=r"has a text of its own\. Leave --corpus out"):
        record(Asked("byte_lm", tmp_path / "text.txt"), 32)
    with pytest.raises(Unusable, match="needs a text to be recorded on"):
        record(Asked(str(tmp_path)), 32)


def test_without_transformers_it_says_so(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "text.txt").write_text("a text")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unusable, match="needs transformers, which is not installed here"):
        record(Asked(str(folder), tmp_path / "text.txt"), 32)


def test_a_folder_that_lacks_something_is_said(tiny, tmp_path):
    shutil.copy(tiny / "tiny" / "config.json", tmp_path / "config.json")
    with pytest.raises(Unusable, match="it cannot be read: "):
        record(Asked(str(tmp_path), tiny / "text.txt"), 32)


def test_a_model_that_cannot_read_the_text_is_said():
    def read(window):
        raise IndexError("index out of range in self")

    with pytest.raises(Unusable, match="it cannot read the text: index out of range in self"):
        recordings.heard(read, torch.zeros(1, 4), None)


@pytest.mark.parametrize("text", ["nine byte", "five!", "1"])
def test_a_text_shorter_than_a_block_is_said(tiny, forget, text):
    """Of one token a model need not say that it looks at none after it."""
    short = tiny / f"{len(text)}.txt"
    short.write_text(text)
    says = "it attends under a mask" if len(text) == 1 else f"{len(text)} tokens of it were recorded, less"
    with pytest.raises(Unusable, match=says):
        instead([[("attention", PROMPT)]], Asked(str(tiny / "tiny"), short))


def test_a_layer_that_attends_within_a_window_is_refused(tiny, forget):
    asked = Asked(str(tiny / "windowed"), tiny / "text.txt")
    with pytest.raises(Unusable, match="--layer 1: it attends under a mask of its own"):
        record(asked, 32)


def test_cases_that_nothing_stands_in_for_are_none(forget):
    with pytest.raises(Unusable, match="Name other workloads"):
        plan(["nm"], "smoke", asked=Asked("byte_lm"))
    made = plan(["attention", "nm"], "smoke", asked=Asked("byte_lm"))
    assert {item.workload for item in made} == {"attention"} and all(
        is_recording(one.case.data) for one in made
    )


def test_what_has_right_answers_is_not_recorded_for(forget):
    judged = [name for name, one in INPUTS.items() if one.judge]
    assert judged and not any(recordings.fits(replace(CACHE, data=name)) for name in judged)


def test_a_recorded_case_asks_for_its_model(bytes_of_text, forget):
    text = str(bytes_of_text.instead_of(PROMPT))
    INPUTS.pop(bytes_of_text.data)
    with pytest.raises(Unusable, match=r"is of a recording\. Name its model with --model"):
        plan([], "smoke", cases=[text])
    assert plan([], "smoke", cases=[text], asked=Asked("byte_lm"))
    with pytest.raises(Unusable, match=r"--layer 0: case .* is of layer 2\. Leave --layer out"):
        plan([], "smoke", cases=[text], asked=Asked("byte_lm", None, (0,)))
    assert plan([], "smoke", cases=[text], asked=Asked("byte_lm", None, (2,)))
    with pytest.raises(Unusable, match="n is missing"):
        plan([], "smoke", cases=[text.replace("n=", "q=")], asked=Asked("byte_lm"))
    with pytest.raises(Unusable, match="is of another recording than byte_lm-"):
        plan([], "smoke", cases=[text.replace("byte_lm-", "byte_lm-0")], asked=Asked("byte_lm"))


def test_a_run_on_a_model_has_quality_and_no_rank(tmp_path, capsys, forget):
    out = tmp_path / "run.jsonl"
    words = ("run", "attention", "kv", "--model", "byte_lm", "--extent", "smoke", "--visits", "1")
    kernels = "attention_causal_sdpa,attention_causal_block+pooled,decode_sdpa,decode_gather+double_sparsity"
    with pytest.raises(SystemExit) as ended:
        main((*words, "--kernels", kernels, "--device", "cpu", "--out", str(out)))
    assert ended.value.code == 0, capsys.readouterr().err
    recorded = read(out)
    assert not recorded.faults
    assert [one.scope for one in recorded.results] == ["layer", "layer", "kernel", "kernel"] * 2
    for line in recorded.results:
        assert line.outcome == "ok", line.note
        assert is_recording(line.data) and not is_whole((0, recorded.run, line))
        assert bool(line.selector) == bool(line.quality.get("recall"))
        assert " --model byte_lm" in command(line, recorded.run)
    assert recorded.run.options["model"] == "byte_lm" and "recorded: byte_lm-" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, says",
    [
        (("--corpus", "text.txt"), "--corpus says something of a model"),
        (("--layer", "0"), "--layer says something of a model"),
        (("--model", "byte_lm", "--matrix", "a.mtx"), "Name one of them"),
    ],
)
def test_options_that_do_not_go_together_are_said(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(("run", "attention", "--device", "cpu", *words))
    assert ended.value.code and says in capsys.readouterr().err
