"""Whole models: pruned as studies prune them, run by kernels in each layer, timed and checked as one."""

import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from lines import header, line, score, write
from msgspec import structs

from suite import models, report, version, whole
from suite.case import case, from_id
from suite.check import Wrong, question
from suite.cli import main
from suite.cpu.device import Cpu
from suite.entry import Bench
from suite.isolate import Ending
from suite.kernel import KERNELS, Prepared, Refused, kernel
from suite.measure import Effort
from suite.op import MODELS, discover_parts, make_operands
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.plan import plan
from suite.reading.end_to_end import alone, in_a_line
from suite.reading.frame import tidy
from suite.reading.joined import devices_of
from suite.record import read
from suite.recordings import Asked
from suite.registry import Unusable, discover
from suite.run import Options, Running
from suite.selector import entries
from suite.task import TASKS
from suite.version import VERSIONS
from suite.visit import Visit
from suite.workload import WORKLOADS

discover_parts()
discover(folders=("kernels", "workloads"))

TEXT = case("spmm", Unstructured(0.5), data="byte_lm", m=352, k=128, n=32)
TOKEN = TEXT.with_sizes(n=1)
PICTURES = case("spmm", Unstructured(0.8), data="digits_mlp", m=300, k=64, n=16)
KERNELS_USED = "spmm_dense_linear", "spmm_dense_mm", "spmm_csr_torch", "spmm_csr_tiled"


@pytest.fixture(scope="module", autouse=True)
def short():
    """A classifier trained for so short a time that only what runs it is of interest."""
    problem = TASKS["digits_mlp"].problem
    steps, problem.steps = problem.steps, 20
    yield
    problem.steps = steps
    whole.dense.cache_clear()
    whole.pruned.cache_clear()


def model_of(one):
    return whole.whole(question(one, make_operands(one)))


def bench():
    return Bench(Cpu(1), "hot", lambda _: None)


def versions(model, *names):
    """The versions by name, prepared with these kernels."""
    used = [KERNELS[name] for name in names or KERNELS_USED]
    return {name: one.prepare(model, used, bench()) for name, one in VERSIONS.items()}


def sparse_model(model, *kernels):
    return VERSIONS["sparse_model"].prepare(model, kernels, bench())


@pytest.fixture(scope="module", params=(TEXT, TOKEN, PICTURES), ids=("text", "token", "pictures"))
def both(request, short):
    return request.param, model_of(request.param)


def test_the_matrix_of_a_case_is_a_layer_of_the_model_pruned_by_magnitude():
    a = make_operands(TEXT)[0]
    gate = whole.pruned("byte_lm", 0, TEXT.pattern).layers["blocks.0.gate"].weight
    assert torch.equal(a.dense, gate) and a.nonzeros == TEXT.pattern.count(352, 128)
    dense = whole.dense("byte_lm", 0).dense.blocks[0].gate.weight.detach()
    assert dense[a.dense == 0].abs().max() <= a.values.abs().min(), "the smallest are gone"
    halved = make_operands(replace(TEXT, pattern=NofM(2, 4)))[0].dense
    assert ((halved != 0).view(352, -1, 4).sum(2) <= 2).all()


def test_each_version_answers_as_the_masked_model_does(both):
    """In float64, to a few roundings; and to other inputs another thing."""
    asked, model = both
    for name, made in versions(model).items():
        first = made.run().clone()
        assert 0 <= model.check(first) <= 1, name
        model.turn()
        try:
            other = made.run()
            assert model.check(other) <= 1 and not torch.allclose(first, other), name
            with pytest.raises(Wrong, match=f"the answer of {asked.data} is off by"):
                model.check(first)
        finally:
            model.turn()


def test_kernels_are_in_every_layer_and_the_note_says_which(both):
    asked, model = both
    made = versions(model)
    count = {"byte_lm": 28, "digits_mlp": 3}[asked.data]
    for name in ("dense_model", "sparse_model"):
        assert sum(made[name].note.values()) == count
        assert all(KERNELS[each].dense == (name == "dense_model") for each in made[name].note)
    assert made["torch_model"].note == {} and made["torch_model"].hidden


def test_its_flops_are_those_of_all_layers_and_what_is_beside_them(both):
    asked, model = both
    stated = model.stated({"flops_nominal": 1, "flops_useful": 1, "bytes_live": 5, "sparsity": 0.5})
    made = versions(model, "spmm_dense_linear", "spmm_csr_torch")
    assert stated["flops_nominal"] == made["torch_model"].executed == made["dense_model"].executed
    assert stated["flops_useful"] == made["sparse_model"].executed and stated["bytes_live"] is None
    sizes = sum(one.weight.numel() for one in whole.pruned(asked.data, 0, asked.pattern).layers.values())
    products = 2 * sizes * asked["n"]
    assert stated["flops_nominal"] - model.beside == products
    assert stated["flops_useful"] - model.beside == pytest.approx(
        products * (1 - asked.pattern.sparsity), rel=1e-3
    )
    assert (model.beside > 0) == (asked.data == "byte_lm"), "attention and the head"


@torch.no_grad()
def test_the_token_after_a_window_is_what_the_whole_text_says_of_it():
    problem, model = TASKS["byte_lm"].problem(0), whole.dense("byte_lm", 0).dense
    text = problem.judged[0][:2, :40]
    answer = problem.after(model, text[:, :-1])
    for _ in range(2):  # nothing of the first question is kept
        torch.testing.assert_close(answer(text[:, -1:])[:, 0], model(text)[:, -1], rtol=1e-4, atol=1e-4)
        answer(text[:, :1])


@kernel(op="spmm", keep=False)
def of_another(a, b):
    """An answer that is a little off."""
    return Prepared(lambda b: a.dense @ b * 1.001, hidden=True)


@kernel(op="spmm", divides={"m": 352}, keep=False)
def choosy(a, b):
    """It takes wide layers alone."""
    return Prepared(lambda b: a.dense @ b, hidden=True)


@kernel(op="spmm", keep=False)
def failing(a, b):
    """It fails."""
    raise ValueError("not today")


def test_a_layer_that_is_wrong_is_found_in_the_answer_of_the_whole():
    model = model_of(TEXT)
    with pytest.raises(Wrong, match="times what roundings explain"):
        model.check(sparse_model(model, of_another).run())


def test_what_no_kernel_takes_stays_torchs_and_where_none_takes_any_it_is_said():
    model = model_of(TEXT)
    made = sparse_model(model, failing, choosy)
    assert made.note == {"torch": 20, "choosy": 8} and made.executed is None
    assert model.check(made.run()) <= 1
    with pytest.raises(Refused, match="takes a layer of the model"):
        sparse_model(model, failing)


def test_the_quickest_at_each_shape_is_chosen(monkeypatch):
    seconds = {"spmm_csr_torch": {352: 1.0, 128: 3.0}, "spmm_csr_tiled": {352: 2.0, 128: 2.0}}
    monkeypatch.setattr(version, "trial", lambda at, of, _: seconds[of.name][at.case["m"]])
    made = sparse_model(model_of(TEXT), *(KERNELS[name] for name in seconds))
    assert made.note == {"spmm_csr_tiled": 20, "spmm_csr_torch": 8}


def visited(one, *names):
    there = entries()
    visit = Visit(Cpu(1), 1, effort=Effort(cap=0.005))
    return list(visit.results("models", one, [there[name] for name in names], list(VERSIONS.values())))


def test_a_visit_has_lines_of_the_kernels_and_of_the_models():
    found = visited(PICTURES, *KERNELS_USED)
    assert all(line.outcome == "ok" for line in found), [line.note for line in found]
    alone = {line.kernel for line in found if line.scope == "kernel"}
    models = {one.kernel: one for one in found if one.scope == "end_to_end"}
    assert alone == set(KERNELS_USED) and list(models) == ["torch_model", "dense_model", "sparse_model"]
    for one in models.values():
        assert one.data == "digits_mlp" and one.seconds and one.setup_seconds and 0 < one.error <= 1
        assert one.dense == (one.kernel != "sparse_model") and one.bytes_values is None
    assert "spmm_csr" in models["sparse_model"].algorithm
    (only,) = [line for line in visited(PICTURES, "spmm_dense_mm") if line.kernel == "sparse_model"]
    assert only.outcome == "refused" and "no kernel of this kind" in only.note


def test_what_is_said_of_a_model_that_cannot_be_timed_is_said_from_end_to_end():
    """Of its versions, not of the kernels, which are timed by themselves all the same."""
    found = visited(PICTURES.with_sizes(n=600), *KERNELS_USED)
    assert [(line.kernel, line.scope, line.outcome) for line in found] == [
        *((name, "end_to_end", "refused") for name in VERSIONS),
        *((name, "kernel", "ok") for name in KERNELS_USED),
    ]
    assert "512 at most" in found[0].note and not found[0].seconds


DEADLY = '''
import ctypes
import torch
from sparsemark import kernel

prepared = []

@kernel(op="spmm")
def spmm_deadly(a, b):
    """It dies at layers of the model that are not the case's."""
    if a.shape[0] == 128:
        ctypes.memset(0, 1, 1)
    return lambda b: torch.from_numpy(a.scipy() @ b.numpy())

@kernel(op="spmm", dense=True)
def spmm_tired(a, b):
    """It dies there at the second call, once it has been tried at both shapes."""
    prepared.append(a.shape[0])
    calls = []

    def run(b):
        calls.append(b)
        if len(calls) == 2 and prepared.count(128) > 2:
            ctypes.memset(0, 1, 1)
        return a.dense @ b

    return run
'''


def test_a_death_in_a_version_is_its_own_outcome(tmp_path):
    """Whether a kernel that it tries dies, or it does itself while it is timed."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    words = (
        "--plugin",
        "deadly.py",
        "--kernels",
        "spmm_deadly,spmm_tired",
        "--threads",
        "1",
        "--visits",
        "1",
    )
    done = subprocess.run(
        (sys.executable, "-m", "suite", "run", "--case", str(TOKEN), *words, "--out", "run.jsonl"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "run.jsonl")
    assert not found.faults
    assert {(line.kernel, line.scope): (line.outcome, line.note) for line in found.results} == {
        ("sparse_model", "end_to_end"): ("broken", "the process died of SIGSEGV (trying spmm_deadly)"),
        ("dense_model", "end_to_end"): ("broken", "the process died of SIGSEGV (timing)"),
        ("torch_model", "end_to_end"): ("ok", ""),
        ("spmm_deadly", "kernel"): ("ok", ""),
        ("spmm_tired", "kernel"): ("ok", ""),
    }


def test_versions_race_where_a_case_is_of_a_model_and_times_are_taken(tmp_path):
    items = plan([], "smoke", cases=[str(TOKEN), str(replace(TOKEN, data=""))])
    running = Running(items, Cpu(1), Options(), tmp_path / "run.jsonl")
    of_model, of_none = (running._work(item, 1, metered=False) for item in items)
    assert of_model.versions == list(VERSIONS) and of_none.versions == [] and of_none.kernels
    assert running._work(items[0], 1, metered=True).versions == []
    ending = Ending("broken", "the process died", 0, "dense_model")
    running._lost(of_model, 1, ending, 0, metered=False)
    again = running._work(items[0], 2, metered=False)
    assert again.versions == ["torch_model", "sparse_model"] and again.kernels == of_model.kernels
    running.journal.close()


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"m": 100}, "no layer of digits_mlp is of this shape. There are: 10 x 100,"),
        ({"n": 600}, "whole examples of digits_mlp, of 1 rows each, 512 at most"),
    ],
    ids=("shape", "n"),
)
def test_a_case_that_the_model_does_not_have_is_refused_in_a_sentence(sizes, says):
    with pytest.raises(Unusable, match=says):
        model_of(PICTURES.with_sizes(**sizes))


@pytest.mark.parametrize(
    "of",
    [
        "spmm/n=4,m=352,k=128/unstructured@0.5/float32/seed=0/data=byte_lmm",
        "spmm/n=4,m=352,k=128/unstructured@0.5/float32/seed=0/data=sinks",
        "actmm/n=1,m=352,k=128/unstructured@0.5/float32/seed=0/data=byte_lm",
    ],
    ids=("typo", "input", "op"),
)
def test_a_case_of_data_that_are_not_there_is_no_case(of):
    """Drawn numbers would pass for them."""
    with pytest.raises(Unusable, match="knows no data called"):
        plan(["models"], "smoke", cases=[of])


def test_a_model_is_made_known_to_children_only_where_cases_are_of_it(tiny):
    asked = Asked(str(tiny / "tiny"), tiny / "text.txt")
    plan(["attention"], "smoke", asked=asked)
    assert models.used(asked) is None
    plan(["models"], "smoke", asked=asked)
    assert models.used(asked) == models.brought(asked)


def test_cases_of_models_are_seconds_by_default_and_their_ids_parse_back():
    counts = {extent: list(WORKLOADS["models"].cases(extent)) for extent in ("smoke", "default", "full")}
    assert [len(counts[extent]) for extent in counts] == [1, 2, 16]
    assert all(from_id(str(one)) == one and one.data in MODELS for one in counts["full"])


@pytest.fixture
def tiny(tmp_path):
    """A folder of transformers with a tokenizer of bytes, and a text."""
    transformers = pytest.importorskip("transformers", reason="it is what understands folders of models")
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).save_pretrained(
        tmp_path / "tiny"
    )
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "tiny")
    (tmp_path / "text.txt").write_text("".join(f"{one} comes before {one + 1}. " for one in range(200)))
    yield tmp_path
    TASKS.pop("tiny", None)
    MODELS.pop("tiny", None)


def test_a_folder_of_the_users_is_timed_as_a_whole(tiny, capsys):
    """By the command line, in child processes: a text and a token after it, each beside its kernels."""
    file = tiny / "run.jsonl"
    words = (
        "--model",
        tiny / "tiny",
        "--corpus",
        tiny / "text.txt",
        "--kernels",
        "spmm_*_torch,spmm_dense_mm",
    )
    with pytest.raises(SystemExit) as ended:
        main(("run", "models", *map(str, words), "--visits", "1", "--threads", "1", "--out", str(file)))
    said = capsys.readouterr()
    assert ended.value.code in (0, None), said.err
    assert "Whole models, end to end: tiny " in said.out
    recorded = read(file)
    models = [line for line in recorded.results if line.scope != "kernel"]
    assert all(line.outcome == "ok" for line in models), [line.note for line in models]
    assert {line.sizes["n"] for line in models} == {1, 63} and {line.data for line in models} == {"tiny"}
    assert len(models) == 6 and {line.scope for line in models} == {"end_to_end"}
    assert recorded.run is not None and recorded.run.options["model"] == "tiny"
    asked = Asked(str(tiny / "tiny"), tiny / "text.txt")
    (item,) = plan([], "default", cases=[models[0].case], asked=asked)
    assert str(item.case) == models[0].case


def test_of_a_tasks_own_model_its_own_cases_are_left():
    items = plan(["models"], "full", asked=Asked("digits_mlp"))
    assert len(items) == 4 and {item.case.data for item in items} == {"digits_mlp"}


def lines_of_a_model(device="made-up", layers=2.0, ends=1.5):
    """The largest layer of byte_lm, and the model: each dense, and faster by as much without zeros."""
    for visit in (1, 2, 3):
        about = {"m": 352, "k": 128, "n": 256, "sparsity": 0.5, "visit": visit, "device": device}
        for (m, k), workload, data in (((352, 128), "models", "byte_lm"), ((352, 128), "layers", "")):
            here = about | {"m": m, "k": k, "workload": workload, "data": data}
            for dense, seconds in ((True, 1e-3), (False, 1e-3 / layers)):
                name = "spmm_dense_mm" if dense else "spmm_csr_mine"
                yield line(kernel=name, dense=dense, seconds=[seconds] * 4, kernel_hash=name, **here)
        here = about | {"workload": "models", "data": "byte_lm", "scope": "end_to_end", "bytes_values": None}
        for name, seconds in (("torch_model", 1.1e-2), ("dense_model", 1e-2), ("sparse_model", 1e-2 / ends)):
            dense, told = name != "sparse_model", "spmm_csr_mine=1 torch=2"
            yield line(kernel=name, dense=dense, seconds=[seconds] * 4, algorithm=told, **here)


GATE = {"name": "gate", "m": 352, "k": 128, "n": 1, "pattern": "unstructured@0.5", "sparsity": 0.5}


def studied(method="magnitude-uniform", layers=(GATE,), **changes):
    given = {"task": "byte_lm", "method": method, "pattern": "unstructured@0.5", "sparsity": 0.5}
    given |= {"dense_value": 0.95, "layers": list(layers)} | changes
    return structs.replace(score(), **given)


def view_with(tmp_path, *scores, device="made-up", kind="cpu"):
    about = header(devices={device: {"kind": kind, "name": "Made Up"}})
    run = write(tmp_path / "run.jsonl", about, *lines_of_a_model(device))
    return report.view_of([run, write(tmp_path / "study.jsonl", header(options={"study": []}), *scores)])


def pareto(view):
    discover(folders=("reports",))
    (page,) = [shown for _, shown in report.REPORTS["pareto"].pages(view)]
    return [*page["untimed"], *page["sections"]]


def test_what_is_left_of_the_layers_speed_up_is_the_gap(tmp_path):
    view = view_with(tmp_path, studied())
    assert not view.recorded[0].faults
    ((one,),) = (section["whole"] for section in pareto(view))
    assert (one.torch, one.dense, one.sparse) == pytest.approx((1.1e-2, 1e-2, 1e-2 / 1.5))
    assert one.gain[0] == pytest.approx(1.5) and one.largest == pytest.approx(2)
    assert one.layers == pytest.approx(2) and one.gap == pytest.approx(1.5 / 2 - 1)
    assert one.kernels == "spmm_csr_mine × 1, torch × 2"
    report.write([one.file for one in view.recorded], tmp_path / "site")
    page = (tmp_path / "site" / "pareto.html").read_text()
    assert ">-25 %<" in page and "from end to end" in page and set(view.frame["scope"]) == {"kernel"}


def test_a_terminal_is_told_what_whole_models_gained(tmp_path):
    def said(*lines):
        recorded = [read(write(tmp_path / "run.jsonl", header(), *lines))]
        return in_a_line(alone(tidy(recorded, "end_to_end"), tidy(recorded)))

    lines = list(lines_of_a_model())
    assert said(*lines) == "byte_lm 1.5x (1.5-1.5), its largest layer 2.0x"
    once = [one for one in lines if one.visit == 1 and one.scope == "end_to_end"]
    assert said(*once) == "byte_lm 1.5x (one visit: no interval)"
    assert said(*(one for one in lines if one.scope == "kernel")) == ""
    others = [structs.replace(one, case=one.case.replace("n=256", "n=1")) for one in lines]
    assert said(*lines, *others) == "byte_lm 1.5x in 2 cases"


@pytest.mark.parametrize("other", [{"method": "wanda-uniform"}, {"layers": (GATE, GATE | {"m": 7})}])
def test_where_the_layers_of_that_very_model_were_not_timed_there_is_no_gap(tmp_path, other):
    ((one,),) = (section["whole"] for section in pareto(view_with(tmp_path, studied(**other))))
    assert one.layers is None and one.gap is None and one.largest == pytest.approx(2)


def test_a_gpu_without_a_study_has_the_one_of_a_cpu_and_says_so(tmp_path):
    view = view_with(tmp_path, studied(seed=0), studied(seed=1, value=0.9), device="some-gpu", kind="cuda")
    own, there = pareto(view)
    assert (own["device"], own["points"], own["whole"]) == ("made-up", [], [])
    assert there["device"] == "some-gpu" and there["studied"] == "made-up" and len(there["whole"]) == 1
    assert [point["gain"] for point in there["points"]] == [pytest.approx(2)]
    assert any(answer.device == "some-gpu" and "byte_lm" in answer.accuracy for answer in view.answers)
    report.write([one.file for one in view.recorded], tmp_path / "site")
    assert "timed on some-gpu, studied on made-up" in (tmp_path / "site" / "pareto.html").read_text()


def test_a_cpu_without_a_study_has_none_of_another_cpu(tmp_path):
    own, there = pareto(view_with(tmp_path, studied(), device="other-cpu"))
    assert own["device"] == "made-up" and own["points"] == own["whole"] == []
    assert there["device"] == "other-cpu" and there["studied"] is None and len(there["whole"]) == 1


def test_models_that_nobody_studied_are_on_the_page(tmp_path):
    """As `sparsemark run models` leaves them: end to end, beside the largest layer."""
    run = write(tmp_path / "run.jsonl", header(), *lines_of_a_model())
    ((one,),) = (section["whole"] for section in pareto(report.view_of([run])))
    assert one.gain[0] == pytest.approx(1.5) and one.largest == pytest.approx(2) and one.layers is None
    report.write([run], tmp_path / "site")
    page = (tmp_path / "site" / "pareto.html").read_text()
    assert "what accuracy is left is not known here" in page and "timed from end to end" in page
    assert 'href="pareto.html"' in (tmp_path / "site" / "index.html").read_text()


def test_a_device_has_the_last_study_of_a_task_alone():
    first, last = (namedtuple("Study", "task device")("byte_lm", device) for device in ("a", "b"))
    kinds = {"a": "cpu", "b": "cpu", "gpu": "cuda"}
    assert devices_of(first, [first, last], kinds) == ["a"]
    assert devices_of(last, [first, last], kinds) == ["b", "gpu"]
